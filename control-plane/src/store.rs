//! The truth: nodes, users, keys, settings and what became of them, in Postgres or SQLite. SQL stands
//! nowhere else; `api`, `auth`, `publish` and `jobs` call the methods of `Db`.
//!
//! One query layer serves both databases: the files of `queries/` are compiled twice, in `pg` and in
//! `sqlite`, each time for that module's `Conn`. Here and beside each row type stands the part that
//! chooses between the two.
//!
//! Every change is one transaction that also writes its audit row and, where the fleet document is
//! concerned, the next revision. The transaction runs in a task of its own: a client that leaves does
//! not break it off.

mod api_key;
mod audit;
mod change;
mod error;
mod fleet;
mod import;
mod job;
mod migrate;
mod node;
mod page;
mod personal_token;
mod pg;
mod refresh_token;
mod revision;
mod schema;
mod session;
mod settings;
mod signing_key;
mod sqlite;
mod url;
mod usage;
mod user;
mod value;

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::telemetry::StoreMetrics;

pub use api_key::{ApiKey, ApiKeyFilter};
pub use audit::{AuditFilter, AuditRow};
pub use change::{Actor, Change};
pub use error::StoreError;
pub use fleet::Fleet;
pub use import::{Import, ImportNode, Imported};
pub use job::{Job, JobFilter, JobState, JobUpdate, NewJob, NodeProgress, Outlook};
pub use node::{Node, NodeFilter, NodeSort};
pub use page::{Page, Rows};
pub use personal_token::{NewPersonalToken, PersonalToken};
pub use pg::PgServer;
pub use refresh_token::{NewRefreshToken, RefreshToken, Rotation};
pub use session::{NewSession, Session};
pub use settings::SettingsRow;
pub use signing_key::SigningKey;
pub use url::{DatabaseUrl, DatabaseUrlError};
pub use usage::{UsageGroup, UsageQuery, UsageRow, UsageSum};
pub use user::{User, UserFilter};
pub use value::{Json, Time};

/// Runs a function of `queries/` in a transaction: `read` sees one state of the database, `write`
/// changes it. The arguments are moved into the transaction's task.
macro_rules! run {
    ($db:expr, $kind:ident, $module:ident :: $function:ident ($($argument:ident),*)) => {
        match $db.pools() {
            $crate::store::Pools::Pg(pool) => {
                $db.spawn($crate::store::pg::bound(async move {
                    let mut conn = pool.$kind().await?;
                    let done =
                        $crate::store::pg::queries::$module::$function(&mut conn $(, $argument)*).await;
                    $crate::store::pg::finish(&mut conn, done).await
                }))
                .await
            }
            $crate::store::Pools::Sqlite(pool) => {
                $db.spawn(async move {
                    let mut conn = pool.$kind().await?;
                    let done =
                        $crate::store::sqlite::queries::$module::$function(&mut conn $(, $argument)*).await;
                    $crate::store::sqlite::finish(&mut conn, done).await
                })
                .await
            }
        }
    };
}
use run;

/// The truth. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pools: Pools,
    /// Where connections live: callers on other runtimes (actix has one a worker) may end before them.
    runtime: Handle,
    /// Where failures are counted.
    metrics: Option<StoreMetrics>,
}

/// Connections to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Those in use.
    pub used: u32,
    /// Those that wait to be used.
    pub idle: u32,
}

#[derive(Debug, Clone)]
enum Pools {
    Pg(pg::Pools),
    Sqlite(sqlite::Pools),
}

impl Db {
    /// Migrates the database under a lock and opens its connections. Call it within the runtime that
    /// lives longest. A Postgres that cannot be reached is `Unavailable`.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Self::open_with(url, None).await
    }

    /// The same; what fails, here and from then on, is counted.
    pub(crate) async fn open_with(
        url: &DatabaseUrl,
        metrics: Option<StoreMetrics>,
    ) -> Result<Self, StoreError> {
        let opened = Self::connect(url, metrics.clone()).await;
        if let (Err(error), Some(metrics)) = (&opened, &metrics) {
            metrics.failed(error);
        }
        opened
    }

    async fn connect(url: &DatabaseUrl, metrics: Option<StoreMetrics>) -> Result<Self, StoreError> {
        if *url != DatabaseUrl::Memory {
            Self::migrate(url).await?;
        }
        let pools = match url {
            DatabaseUrl::Postgres(server) => Pools::Pg(pg::Pools::open(server).await?),
            DatabaseUrl::Sqlite(file) => Pools::Sqlite(sqlite::Pools::open(file).await?),
            DatabaseUrl::Memory => Pools::Sqlite(sqlite::Pools::memory().await?),
        };
        let runtime = Handle::current();
        Ok(Self {
            inner: Arc::new(Inner {
                pools,
                runtime,
                metrics,
            }),
        })
    }

    /// Brings a database up to this version's tables, once however many do it at a time; gives the
    /// names of the migrations that ran. A database of a later version is `Newer`.
    pub async fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, StoreError> {
        match url {
            DatabaseUrl::Postgres(server) => migrate::postgres(server).await,
            DatabaseUrl::Sqlite(file) => migrate::sqlite(file.clone()).await,
            DatabaseUrl::Memory => Ok(Vec::new()),
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        run!(self, read, revision::ping())
    }

    /// Its connections now.
    pub fn connections(&self) -> Connections {
        match &self.inner.pools {
            Pools::Pg(pools) => pools.connections(),
            Pools::Sqlite(pools) => pools.connections(),
        }
    }

    fn pools(&self) -> Pools {
        self.inner.pools.clone()
    }

    async fn spawn<R: Send + 'static>(
        &self,
        work: impl Future<Output = Result<R, StoreError>> + Send + 'static,
    ) -> Result<R, StoreError> {
        let done = match self.inner.runtime.spawn(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => Err(StoreError::internal(&error)),
            Err(_ended) => Err(StoreError::Unavailable),
        };
        if let (Err(error), Some(metrics)) = (&done, &self.inner.metrics) {
            metrics.failed(error);
        }
        done
    }
}

/// Optimistic concurrency: whether a row is at the version that a change was made for.
fn at_version(expected: Option<i64>, current: i64) -> Result<(), StoreError> {
    match expected {
        Some(expected) if expected != current => Err(StoreError::Conflict { current }),
        _ => Ok(()),
    }
}
