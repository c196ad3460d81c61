//! Postgres: its connections and transactions, and the queries compiled for them.

mod server;

use std::future::Future;
use std::time::Duration;

use diesel::pg::Pg;
use diesel::result::Error;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncPgConnection, SimpleAsyncConnection,
    TransactionManager,
};

use super::{Connections, StoreError};
pub use server::PgServer;

#[path = "queries/all.rs"]
pub(super) mod queries;

/// What the queries run on.
pub(super) type Conn = AsyncPgConnection;
/// Its dialect.
pub(super) type Backend = Pg;

/// Connections of one process: a control plane's work is small and short.
const CONNECTIONS: u32 = 8;
/// How long a connection is waited for before the database counts as unreachable.
const WAIT: Duration = Duration::from_secs(3);

/// How long a lock is waited for, milliseconds: the revision's above all, which another control plane
/// holds for the time of one change.
const LOCK_MS: u32 = 5_000;
/// How long one statement may take, milliseconds.
const STATEMENT_MS: u32 = 10_000;
/// How long a transaction may take before the server counts as unreachable: a little more than a statement.
const HANGS: Duration = Duration::from_secs(12);
/// How long the server waits for the next statement of a transaction, milliseconds: a control plane that is gone
/// without a word holds the revision's lock no longer than that.
const SILENT_MS: u32 = 5_000;
/// How long a new connection may take to be of use.
pub(super) const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection that was idle may take to show that it is not dead.
const ALIVE: Duration = Duration::from_secs(1);

/// The connections.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    pool: Pool<Conn>,
}

impl Pools {
    pub(super) async fn open(server: &PgServer) -> Result<Self, StoreError> {
        if server.is_unchecked() {
            tracing::warn!(
                "the database's certificate is not checked (sslmode=require); sslmode=verify-full does, \
                 sslrootcert=FILE names its authority"
            );
        }
        let manager =
            AsyncDieselConnectionManager::new_with_config(server.url(), bounds(server.clone()));
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .connection_timeout(WAIT)
            .build(manager)
            .await
            .map_err(|error| {
                StoreError::from(diesel_async::pooled_connection::bb8::RunError::User(error))
            })?;
        Ok(Self { pool })
    }

    pub(super) fn connections(&self) -> Connections {
        let state = self.pool.state();
        Connections {
            used: state.connections.saturating_sub(state.idle_connections),
            idle: state.idle_connections,
        }
    }

    /// A transaction that sees one state of the database and changes nothing.
    pub(super) async fn read(&self) -> Result<PooledConnection<'_, Conn>, StoreError> {
        self.begin("REPEATABLE READ READ ONLY").await
    }

    /// A transaction that changes the database. What it reads after it took the revision's lock is
    /// what others have committed (`queries/revision.rs`).
    pub(super) async fn write(&self) -> Result<PooledConnection<'_, Conn>, StoreError> {
        self.begin("READ COMMITTED READ WRITE").await
    }

    async fn begin(&self, mode: &str) -> Result<PooledConnection<'_, Conn>, StoreError> {
        let mut conn = self.pool.get().await?;
        // in one message: no round trip is added
        let sql = format!(
            "BEGIN ISOLATION LEVEL {mode}; SET LOCAL lock_timeout = '{LOCK_MS}'; \
             SET LOCAL statement_timeout = '{STATEMENT_MS}'; \
             SET LOCAL idle_in_transaction_session_timeout = '{SILENT_MS}'"
        );
        AnsiTransactionManager::begin_transaction_sql(&mut *conn, &sql).await?;
        Ok(conn)
    }
}

/// What the pool does with a server that is cut off without a word: neither a new connection nor one that was idle
/// is waited for any longer, so that its place is free for one that works.
fn bounds(server: PgServer) -> ManagerConfig<Conn> {
    let mut config = ManagerConfig::default();
    config.custom_setup = Box::new(move |_| {
        let server = server.clone();
        Box::pin(async move { server.connect(CONNECT).await })
    });
    config.recycling_method = RecyclingMethod::CustomFunction(Box::new(|conn| {
        let asked = tokio::time::timeout(ALIVE, conn.batch_execute("SELECT 1"));
        Box::pin(async {
            let dead = |_| Error::BrokenTransactionManager;
            asked.await.map_err(dead)?
        })
    }));
    config
}

/// Bounds a transaction by the clock of this side, too: a server that hangs keeps none of its own
/// bounds. The connection that is let go in the middle is not used again.
pub(super) async fn bound<R>(
    work: impl Future<Output = Result<R, StoreError>>,
) -> Result<R, StoreError> {
    let done = tokio::time::timeout(HANGS, work).await;
    done.unwrap_or(Err(StoreError::Unavailable))
}

/// Ends the transaction: what was done holds, or nothing of it.
pub(super) async fn finish<R>(
    conn: &mut Conn,
    done: Result<R, StoreError>,
) -> Result<R, StoreError> {
    type Manager = <Conn as AsyncConnection>::TransactionManager;
    match done {
        Ok(done) => {
            Manager::commit_transaction(conn).await?;
            Ok(done)
        }
        Err(error) => {
            // a connection that cannot roll back is broken: the pool lets it go, and the database
            // rolls back by itself
            let _ = Manager::rollback_transaction(conn).await;
            Err(error)
        }
    }
}

/// After nodes were added with ids of their own: the next one gets an id that none had.
pub(super) async fn reset_ids(conn: &mut Conn) -> Result<(), StoreError> {
    let sql = "SELECT setval(pg_get_serial_sequence('nodes', 'id'), greatest(\
               (SELECT max(id) FROM nodes), nextval(pg_get_serial_sequence('nodes', 'id'))))";
    conn.batch_execute(sql).await?;
    Ok(())
}
