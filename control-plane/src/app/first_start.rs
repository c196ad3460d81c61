//! The first start on a database: makes `root`, and registers the Ollama beside it.

use aivonx_shared::config::ControlConfig;
use aivonx_shared::fleet_doc::Secret;

use super::StartError;
use crate::auth::Passwords;
use crate::auth::bootstrap::{FirstStart, ROOT, RootPassword};
use crate::auth::random;
use crate::domain::{AddressRules, Hidden, NewUser, NodeDraft, NodeRules, Role};
use crate::store::{Change, Db, Page, StoreError, UserFilter};

/// Whether nobody was ever here.
pub(super) async fn is_first(db: &Db) -> Result<bool, StoreError> {
    let one = Page {
        limit: 1,
        offset: 0,
    };
    Ok(db.users(UserFilter::default(), one).await?.count == 0)
}

/// Registers the Ollama that was found on this machine, and says so.
pub(super) async fn register(db: &Db, url: &str) -> Result<(), StartError> {
    let draft = NodeDraft {
        name: Some("local".to_owned()),
        url: Some(url.to_owned()),
        ..NodeDraft::default()
    };
    let addresses = AddressRules::default();
    let rules = NodeRules {
        addresses: &addresses,
        seal: &|_| None,
    };
    let node = draft.create(rules).map_err(StoreError::from)?;
    let (node, _) = db.create_node(&Change::by_system("startup"), node).await?;
    tracing::info!(
        node.name = node.name,
        node.url = node.url,
        "an Ollama answers on this machine: it is registered"
    );
    Ok(())
}

/// Makes the first user where there is none; gives its password if it was made up, for somebody has to
/// be told.
pub(super) async fn make_root(
    db: &Db,
    passwords: &Passwords,
    config: &ControlConfig,
    is_beyond_loopback: bool,
) -> Result<Option<Secret>, StartError> {
    let start = FirstStart {
        has_users: !is_first(db).await?,
        given: config.root_password.as_ref(),
        is_beyond_loopback,
    };
    let (password, made_up) = match start.root_password(random::bytes())? {
        RootPassword::Keep => return Ok(None),
        RootPassword::Given(password) => (password, false),
        RootPassword::Generated(password) => (password, true),
    };
    let hash = passwords
        .hash(password.clone(), random::bytes())
        .await
        .map_err(|error| StartError::FirstUser(error.to_string()))?;
    let root = NewUser {
        name: ROOT.to_owned(),
        email: String::new(),
        role: Role::Admin,
        is_active: true,
        must_change_password: false,
    };
    let change = Change::by_system("startup");
    let made = db
        .create_first_user(&change, root, Hidden::new(hash))
        .await?;
    // another control plane may have been first: then its password is the one
    Ok(made.filter(|_| made_up).map(|_| password))
}
