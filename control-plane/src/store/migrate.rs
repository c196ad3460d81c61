//! Migrations: embedded in the binary, applied under a lock before anything else touches the database.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{PgServer, StoreError, pg, sqlite};

const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");

/// The advisory lock of all who migrate one Postgres database: "aivonx" in ASCII.
const LOCK: i64 = 0x61_69_76_6f_6e_78;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Migrates a Postgres database.
pub(super) async fn postgres(server: &PgServer) -> Result<Vec<String>, StoreError> {
    let conn = server.connect(pg::CONNECT).await?;
    blocking(move || {
        let mut conn = AsyncConnectionWrapper::<AsyncPgConnection>::from(conn);
        // of the session: it ends with the connection, however this ends
        conn.batch_execute(&format!(
            "SET lock_timeout = '60s'; SELECT pg_advisory_lock({LOCK})"
        ))?;
        apply(&mut conn, POSTGRES)
    })
    .await
}

/// Makes a SQLite file, readable by its owner alone, and migrates it.
pub(super) async fn sqlite(file: PathBuf) -> Result<Vec<String>, StoreError> {
    blocking(move || {
        make_private(&file).map_err(|error| {
            tracing::error!(file = %file.display(), %error, "the database's file cannot be made");
            match error.kind() {
                io::ErrorKind::StorageFull => StoreError::Full,
                _ => StoreError::Unavailable,
            }
        })?;
        let mut conn = sqlite::connect(&file.to_string_lossy(), "")?;
        write_ahead(&mut conn)?;
        conn.immediate_transaction(|conn| apply(conn, SQLITE))
    })
    .await
}

/// Migrates a database in memory.
pub(super) fn sqlite_memory(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    apply(conn, SQLITE).map(drop)
}

/// The lock is held. Gives the names of what ran.
fn apply<C>(conn: &mut C, source: EmbeddedMigrations) -> Result<Vec<String>, StoreError>
where
    C: MigrationHarness<C::Backend> + Connection,
    EmbeddedMigrations: MigrationSource<C::Backend>,
{
    let known: Vec<Box<dyn Migration<C::Backend>>> =
        source.migrations().map_err(|error| failed(&error))?;
    let applied = conn.applied_migrations().map_err(|error| failed(&error))?;
    let newer = applied
        .iter()
        .filter(|version| {
            !known
                .iter()
                .any(|known| known.name().version() == **version)
        })
        .max();
    if let Some(newer) = newer {
        return Err(StoreError::Newer {
            found: newer.to_string(),
        });
    }
    let ran = conn
        .run_pending_migrations(source)
        .map_err(|error| failed(&error))?;
    Ok(ran.iter().map(ToString::to_string).collect())
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
) -> Result<R, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::internal(&error))?
}

fn failed(error: &Failure) -> StoreError {
    tracing::error!(%error, "a migration failed");
    let words = error.to_string();
    if words.contains("disk is full") || words.contains("No space left") {
        StoreError::Full
    } else if words.contains("is locked") || words.contains("lock timeout") {
        StoreError::Busy
    } else {
        StoreError::Internal
    }
}

/// The file, and its folder where there is none, for the owner alone: password hashes lie in it.
/// SQLite gives the files beside it the same rights.
fn make_private(file: &Path) -> io::Result<()> {
    if let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)?;
    fs::set_permissions(file, Permissions::from_mode(0o600))
}

/// Turns WAL on, which stays with the file. SQLite does not wait for others here by itself.
fn write_ahead(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut left = 200;
    loop {
        match conn.batch_execute("PRAGMA journal_mode = WAL") {
            Ok(()) => return Ok(()),
            Err(error) => match StoreError::from(error) {
                StoreError::Busy if left > 0 => left -= 1,
                error => return Err(error),
            },
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}
