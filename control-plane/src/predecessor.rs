//! Moving in from the predecessor (`aivonx_proxy`, Django): reads its Postgres and takes over nodes, users
//! with their passwords, and the strategy. The predecessor's database is only read.
//!
//! ```text
//! source    the predecessor's tables, as they are
//! nodes     its nodes as ours: names made unique, addresses made URLs
//! users     its users as ours: roles from flags, passwords as they are
//! report    what was taken, and what was not and why
//! ```
//!
//! It may be done again: what is here already stays as it is, whoever made it. So a second time takes
//! only what came since.

mod nodes;
mod report;
mod source;
mod users;

use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::revision::Revision;
use serde_json::json;

pub use report::{Part, Report};
pub use source::SourceError;

use crate::auth::bootstrap::BootstrapError;
use crate::auth::password::PasswordError;
use crate::domain::{AddressRules, Settings, SettingsPatch};
use crate::store::{Change, DatabaseUrl, Db, Import, Node, Page, StoreError, User, UserFilter};

/// Who changes things here, as the audit names it.
const ACTOR: &str = "import-predecessor";

/// Who may use models without a key from now on. The predecessor let everybody, so somebody has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inference {
    /// Everybody who can connect, as before: `anonymous: always`.
    Open,
    /// Who has a key, and clients on this machine: the default of aivonx.
    Keys,
}

/// How to import.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who may use models without a key.
    pub inference: Inference,
    /// Which addresses nodes may have.
    pub addresses: AddressRules,
    /// The password that `root` gets if nobody could log in as an admin otherwise; without it one is
    /// made up.
    pub root_password: Option<Secret>,
    /// Tells what would be done, and does nothing of it.
    pub dry_run: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The predecessor's database cannot be read.
    #[error("the predecessor's database: {0}")]
    Source(#[from] SourceError),
    /// Ours does not take it.
    #[error("the database of aivonx: {0}")]
    Target(#[from] StoreError),
    /// Ours was changed at the same time.
    #[error("somebody changed the fleet at the same time; nothing was imported: try again")]
    Changed,
    /// `ROOT_PASSWORD` will not do.
    #[error("{0}")]
    RootPassword(#[from] BootstrapError),
    /// A password can be neither checked nor made.
    #[error("a password: {0}")]
    Password(#[from] PasswordError),
}

/// What is here already.
struct Present {
    revision: Revision,
    nodes: Vec<Node>,
    settings: Settings,
    users: Vec<User>,
}

/// Takes over what the database at `source` holds. Call it within the runtime that lives longest.
///
/// A dry run makes no SQLite file where there is none; a database that is there gets its tables brought
/// up to date, and nothing else.
pub async fn import(
    source: &str,
    target: &DatabaseUrl,
    options: &Options,
) -> Result<Report, ImportError> {
    let found = source::read(source).await?;
    let db = open(target, options.dry_run).await?;
    let present = Present::of(&db).await?;
    let mut report = Report::new(options.dry_run);
    let nodes = nodes::take(
        found.nodes,
        &present.nodes,
        &options.addresses,
        &mut report.nodes,
    );
    let mut users = users::take(found.users, &present.users, &mut report.users);
    users::watch_default_password(&mut users, &mut report.users).await?;
    let made_up = users::make_admin(&mut users, &present.users, options, &mut report.users).await?;
    let settings = settings(
        found.strategy.as_deref(),
        &present.settings,
        options,
        &mut report.settings,
    );
    let changes_something =
        !nodes.is_empty() || !users.is_empty() || settings != SettingsPatch::default();
    if options.dry_run || !changes_something {
        return Ok(report);
    }
    let import = Import {
        nodes,
        users: users.into_iter().map(users::Taken::into_parts).collect(),
        settings,
        expected: Some(present.revision),
        ..Import::default()
    };
    let imported = db.import(&Change::by_system(ACTOR), import).await;
    let (_, revision) = imported.map_err(|error| match error {
        StoreError::Conflict { .. } => ImportError::Changed,
        error => error.into(),
    })?;
    report.revision = Some(revision);
    report.made_up = made_up;
    Ok(report)
}

/// A dry run on a file that is not there looks at an empty database instead.
async fn open(target: &DatabaseUrl, dry_run: bool) -> Result<Db, StoreError> {
    match target {
        DatabaseUrl::Sqlite(file) if dry_run && !file.exists() => {
            Db::open(&DatabaseUrl::Memory).await
        }
        target => Db::open(target).await,
    }
}

impl Present {
    async fn of(db: &Db) -> Result<Self, StoreError> {
        let fleet = db.fleet().await?;
        Ok(Self {
            revision: fleet.revision,
            nodes: fleet.nodes,
            settings: fleet.settings,
            users: db.users(UserFilter::default(), Page::ALL).await?.rows,
        })
    }
}

/// The strategy, where none was chosen here, and who may use models without a key.
fn settings(
    strategy: Option<&str>,
    present: &Settings,
    options: &Options,
    told: &mut Part,
) -> SettingsPatch {
    let mut wanted = present.clone();
    match strategy {
        None => {}
        Some(theirs) if SettingsPatch::strategy(theirs).is_err() => told.left(format!(
            "strategy {theirs:?}: there is no such one; it worked as least_active, which is the default here"
        )),
        Some(theirs) if present.get("strategy").is_none() => {
            wanted.set("strategy".to_owned(), Some(json!(theirs)));
            told.taken(format!("strategy: {theirs}"));
        }
        Some(theirs) if theirs == present.strategy() => {}
        Some(theirs) => told.left(format!("strategy {theirs}: another one was chosen here")),
    }
    let is_open = present.get("anonymous") == Some(&json!("always"));
    match options.inference {
        Inference::Open => {
            told.taken(
                "inference: open to everybody who can connect (anonymous: always)".to_owned(),
            );
            wanted.set("anonymous".to_owned(), Some(json!("always")));
        }
        Inference::Keys => {
            told.taken("inference: with a key, or from this machine".to_owned());
            if is_open {
                wanted.set("anonymous".to_owned(), None);
            }
        }
    }
    if wanted == *present {
        SettingsPatch::default()
    } else {
        SettingsPatch::whole(&wanted)
    }
}

#[cfg(test)]
mod tests;
