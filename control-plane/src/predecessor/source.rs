//! The predecessor's database as it is: three tables of Django's, in Postgres, read in one transaction
//! that can write nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::ConnectionError;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::store::{DatabaseUrl, DatabaseUrlError, PgServer};

/// The columns that are read, by table: what makes a database the predecessor's.
const COLUMNS: [(&str, &[&str]); 3] = [
    (
        "proxy_node",
        &["id", "name", "address", "port", "active", "created_at"],
    ),
    ("proxy_proxyconfig", &["id", "strategy", "updated_at"]),
    (
        "auth_user",
        &[
            "id",
            "username",
            "email",
            "password",
            "is_superuser",
            "is_staff",
            "is_active",
        ],
    ),
];

/// How long a server may take to answer, seconds.
const PATIENCE: u64 = 10;

/// Why it cannot be read. Nothing of it repeats the address, in which a password may stand.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Another kind of database.
    #[error("it is a Postgres: name it as postgres://USER:PASSWORD@HOST:5432/DATABASE")]
    NotPostgres,
    /// Not to be read as an address, or asks for what there is not.
    #[error("its address {0}")]
    Url(#[from] DatabaseUrlError),
    /// No connection.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// Another database.
    #[error(
        "it has no table `{0}`, so it is not aivonx_proxy's; look at the database's name, behind the last `/`"
    )]
    NoTable(&'static str),
    /// Another version.
    #[error(
        "its table `{table}` has no column `{column}`; aivonx_proxy 0.13 has one, so migrate it to that version first"
    )]
    NoColumn {
        /// The table.
        table: &'static str,
        /// What it lacks.
        column: &'static str,
    },
    /// No rights.
    #[error("the user of its address may not read `{0}`; let it: GRANT SELECT ON {0} TO …")]
    NoRights(&'static str),
    /// Something else.
    #[error("cannot be read: {0}")]
    Failed(#[from] diesel::result::Error),
}

/// What of it matters here.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) nodes: Vec<FoundNode>,
    /// The latest; `None` where none was ever stored.
    pub(super) strategy: Option<String>,
    pub(super) users: Vec<FoundUser>,
}

/// A row of `proxy_node`.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct FoundNode {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = Text)]
    pub(super) address: String,
    #[diesel(sql_type = BigInt)]
    pub(super) port: i64,
    #[diesel(sql_type = Bool)]
    pub(super) active: bool,
    #[diesel(sql_type = Timestamptz)]
    pub(super) created_at: DateTime<Utc>,
}

/// A row of `auth_user`.
#[derive(Clone, QueryableByName)]
pub(super) struct FoundUser {
    #[diesel(sql_type = Text)]
    pub(super) username: String,
    #[diesel(sql_type = Text)]
    pub(super) email: String,
    #[diesel(sql_type = Text)]
    pub(super) password: String,
    #[diesel(sql_type = Bool)]
    pub(super) is_superuser: bool,
    #[diesel(sql_type = Bool)]
    pub(super) is_staff: bool,
    #[diesel(sql_type = Bool)]
    pub(super) is_active: bool,
}

impl std::fmt::Debug for FoundUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoundUser")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    attribute: String,
    #[diesel(sql_type = Bool)]
    is_readable: bool,
}

#[derive(QueryableByName)]
struct Strategy {
    #[diesel(sql_type = Text)]
    strategy: String,
}

/// Reads the database at an address.
pub(super) async fn read(address: &str) -> Result<Found, SourceError> {
    let server = server_at(address)?;
    let unreachable = |error: ConnectionError| SourceError::Unreachable(error.to_string());
    let mut conn = server
        .connect(Duration::from_secs(PATIENCE))
        .await
        .map_err(unreachable)?;
    conn.batch_execute(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '{PATIENCE}s'; \
         SET LOCAL lock_timeout = '{PATIENCE}s'"
    ))
    .await?;
    look_at_tables(&mut conn).await?;
    let nodes = "SELECT id::bigint, name::text, address::text, port::bigint, active, created_at \
                 FROM proxy_node ORDER BY id";
    let strategy =
        "SELECT strategy::text FROM proxy_proxyconfig ORDER BY updated_at DESC, id DESC LIMIT 1";
    let users = "SELECT username::text, email::text, password::text, is_superuser, is_staff, is_active \
                 FROM auth_user ORDER BY id";
    let found = Found {
        nodes: sql_query(nodes).load(&mut conn).await?,
        strategy: sql_query(strategy)
            .get_result::<Strategy>(&mut conn)
            .await
            .optional()?
            .map(|row| row.strategy),
        users: sql_query(users).load(&mut conn).await?,
    };
    conn.batch_execute("ROLLBACK").await?;
    Ok(found)
}

fn server_at(address: &str) -> Result<PgServer, SourceError> {
    match address.parse::<DatabaseUrl>() {
        Ok(DatabaseUrl::Postgres(server)) => Ok(server),
        Ok(DatabaseUrl::Sqlite(_) | DatabaseUrl::Memory)
        | Err(DatabaseUrlError::Scheme | DatabaseUrlError::NoFile) => Err(SourceError::NotPostgres),
        Err(error) => Err(error.into()),
    }
}

/// Whether the tables are there as they should be, and may be read.
async fn look_at_tables(conn: &mut AsyncPgConnection) -> Result<(), SourceError> {
    let names: Vec<_> = COLUMNS
        .iter()
        .map(|(table, _)| format!("'{table}'"))
        .collect();
    let sql = format!(
        "SELECT named.name::text AS table_name, attname::text AS attribute, \
         has_table_privilege(attrelid, 'SELECT') AS is_readable \
         FROM unnest(ARRAY[{}]) AS named(name) JOIN pg_attribute ON attrelid = to_regclass(named.name) \
         WHERE attnum > 0 AND NOT attisdropped",
        names.join(", ")
    );
    let there: Vec<Column> = sql_query(sql).load(conn).await?;
    for (table, columns) in COLUMNS {
        let mut own = there
            .iter()
            .filter(|column| column.table_name == table)
            .peekable();
        let Some(first) = own.peek() else {
            return Err(SourceError::NoTable(table));
        };
        if !first.is_readable {
            return Err(SourceError::NoRights(table));
        }
        let own: Vec<_> = own.map(|column| column.attribute.as_str()).collect();
        let mut columns = columns.iter().copied();
        if let Some(column) = columns.find(|column| !own.contains(column)) {
            return Err(SourceError::NoColumn { table, column });
        }
    }
    Ok(())
}
