//! Postgres: its connections and transactions, and the queries compiled for them. No TLS yet
//! (`DatabaseUrl` refuses a URL that asks for it).

use std::time::Duration;

use diesel::pg::Pg;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncPgConnection, TransactionManager,
};

use super::StoreError;

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

/// The connections.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    pool: Pool<Conn>,
}

impl Pools {
    pub(super) async fn open(url: &str) -> Result<Self, StoreError> {
        let manager = AsyncDieselConnectionManager::<Conn>::new(bounded(url));
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

    /// A transaction that sees one state of the database and changes nothing.
    pub(super) async fn read(&self) -> Result<PooledConnection<'_, Conn>, StoreError> {
        self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
    }

    /// A transaction that changes the database. What it reads after it took the revision's lock is
    /// what others have committed (`queries/revision.rs`).
    pub(super) async fn write(&self) -> Result<PooledConnection<'_, Conn>, StoreError> {
        self.begin("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            .await
    }

    async fn begin(&self, sql: &str) -> Result<PooledConnection<'_, Conn>, StoreError> {
        let mut conn = self.pool.get().await?;
        AnsiTransactionManager::begin_transaction_sql(&mut *conn, sql).await?;
        Ok(conn)
    }
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

/// Bounds of the wait for a server that does not answer, where the URL sets none of its own.
pub(super) fn bounded(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, seconds) in [("connect_timeout", "3"), ("tcp_user_timeout", "10")] {
        if !url.contains(&format!("{name}=")) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.push_str(seconds);
        }
    }
    url
}
