//! SQLite: its connections and transactions, and the queries compiled for them. WAL: readers never
//! wait, one connection writes; transactions that write take the lock at once (`BEGIN IMMEDIATE`), so
//! that two processes on one file wait for each other instead of failing half-way.

use std::path::Path;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection};
use diesel::prelude::*;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection, RunError};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, TransactionManager};

use super::{Connections, StoreError, migrate};

#[path = "queries/all.rs"]
#[expect(
    clippy::duplicate_mod,
    reason = "the one query layer is compiled for each of the two connections"
)]
pub(super) mod queries;

/// What the queries run on.
pub(super) type Conn = SyncConnectionWrapper<SqliteConnection>;
/// Its dialect.
pub(super) type Backend = diesel::sqlite::Sqlite;

/// Connections that read: more than cores brings nothing.
const READERS: u32 = 4;
/// How long a lock is waited for, within the process and by SQLite for other processes.
const WAIT: Duration = Duration::from_secs(10);

/// The connections. In memory the two pools are one: each connection would have a database of its own.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    readers: Pool<Conn>,
    writer: Pool<Conn>,
}

impl Pools {
    /// The file is there already: `migrate` made it.
    pub(super) async fn open(file: &Path) -> Result<Self, StoreError> {
        let file = file.to_string_lossy().into_owned();
        let reader = |url: &str| connect(url, "PRAGMA query_only = ON;");
        let writer = |url: &str| connect(url, "");
        Ok(Self {
            readers: pool(&file, READERS, reader).await?,
            writer: pool(&file, 1, writer).await?,
        })
    }

    /// A database in memory, migrated.
    pub(super) async fn memory() -> Result<Self, StoreError> {
        let connect = |url: &str| {
            let mut conn = connect(url, "")?;
            migrate::sqlite_memory(&mut conn)
                .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
            Ok(conn)
        };
        let only = pool(":memory:", 1, connect).await?;
        Ok(Self {
            readers: only.clone(),
            writer: only,
        })
    }

    /// In memory the one pool counts twice.
    pub(super) fn connections(&self) -> Connections {
        let (readers, writer) = (self.readers.state(), self.writer.state());
        let idle = readers.idle_connections + writer.idle_connections;
        Connections {
            used: (readers.connections + writer.connections).saturating_sub(idle),
            idle,
        }
    }

    /// A transaction that sees one state of the database.
    pub(super) async fn read(&self) -> Result<PooledConnection<'_, Conn>, StoreError> {
        begin(&self.readers, "BEGIN DEFERRED").await
    }

    /// A transaction that changes the database; it alone does so.
    pub(super) async fn write(&self) -> Result<PooledConnection<'_, Conn>, StoreError> {
        begin(&self.writer, "BEGIN IMMEDIATE").await
    }
}

async fn pool(
    url: &str,
    connections: u32,
    connect: impl Fn(&str) -> ConnectionResult<SqliteConnection> + Copy + Send + Sync + 'static,
) -> Result<Pool<Conn>, StoreError> {
    let mut config = ManagerConfig::<Conn>::default();
    config.recycling_method = RecyclingMethod::Fast; // a file does not go away between two queries
    config.custom_setup = Box::new(move |url| {
        let url = url.to_owned();
        Box::pin(async move {
            let conn = tokio::task::spawn_blocking(move || connect(&url)).await;
            let conn =
                conn.map_err(|error| ConnectionError::BadConnection(error.to_string()))??;
            Ok(SyncConnectionWrapper::new(conn))
        })
    });
    let manager = AsyncDieselConnectionManager::new_with_config(url, config);
    Pool::builder()
        .max_size(connections)
        .min_idle(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connection_timeout(WAIT)
        .build(manager)
        .await
        .map_err(|error| StoreError::from(RunError::User(error)))
}

/// A connection with the settings that SQLite keeps by connection. `FULL`: what was answered with 200
/// outlives a power cut.
pub(super) fn connect(file: &str, more: &str) -> ConnectionResult<SqliteConnection> {
    let mut conn = SqliteConnection::establish(file)?;
    let pragmas = format!(
        "PRAGMA busy_timeout = {}; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; {more}",
        WAIT.as_millis()
    );
    conn.batch_execute(&pragmas)
        .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
    Ok(conn)
}

async fn begin<'a>(
    pool: &'a Pool<Conn>,
    sql: &'static str,
) -> Result<PooledConnection<'a, Conn>, StoreError> {
    let mut conn = pool.get().await.map_err(|error| match error {
        RunError::TimedOut => StoreError::Busy, // the file is there; others hold its connections
        error @ RunError::User(_) => error.into(),
    })?;
    conn.spawn_blocking(move |conn| AnsiTransactionManager::begin_transaction_sql(conn, sql))
        .await?;
    Ok(conn)
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
            // SQLite has rolled back by itself after some errors; the pool then lets the connection go
            let _ = Manager::rollback_transaction(conn).await;
            Err(error)
        }
    }
}

/// What Postgres has to be told after nodes were added with ids of their own, AUTOINCREMENT does.
pub(super) async fn reset_ids(_: &mut Conn) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
mod tests;
