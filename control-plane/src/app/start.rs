//! The way up: the database is opened, the first user made, the keys that sign tokens read. A Postgres that is
//! away is waited for, since who starts many programs at once cannot order them; what waiting cannot heal is an
//! error at once.

use std::time::Duration;

use aivonx_shared::fleet_doc::Secret;

use super::waiting::Waiting;
use super::{Bound, HASHES, Progress, StartError, first_start, signing};
use crate::auth::{KeyRing, Passwords};
use crate::store::{DatabaseUrl, Db, StoreError};

/// Before the second try; doubles with every try.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Between two tries at most.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What serving needs.
pub(super) struct Opened {
    pub(super) db: Db,
    pub(super) ring: KeyRing,
    /// The password of `root` where one was made up.
    pub(super) made_up: Option<Secret>,
}

/// Opens the database, however long it takes to come.
pub(super) async fn open(
    bound: &Bound,
    said: &mut impl FnMut(Progress),
) -> Result<Opened, StartError> {
    let passwords = Passwords::new(HASHES);
    let mut wait = FIRST_WAIT;
    let mut waiting: Option<Waiting> = None;
    // kept over all tries: it is in the database as soon as it was made up
    let mut made_up = None;
    loop {
        let error = match attempt(bound, &passwords, &mut made_up).await {
            Ok((db, ring)) => {
                if let Some(waiting) = waiting {
                    waiting.end().await;
                    tracing::info!("the database answers: the control plane starts");
                }
                return Ok(Opened { db, ring, made_up });
            }
            Err(error) => error,
        };
        let why = what_to_wait_for(&bound.options.database, error)?;
        bound.operations.waits_for(&why.to_string());
        if waiting.is_none() {
            tracing::warn!(
                database = %bound.options.database, error = %why,
                "the control plane waits for its database, and answers 503 until then"
            );
            waiting = Some(Waiting::start(&bound.listener)?);
            said(Progress::Waits);
        }
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// What may heal by itself: a Postgres that cannot be reached, or that others hold. A file does not come back.
fn what_to_wait_for(database: &DatabaseUrl, error: StartError) -> Result<StoreError, StartError> {
    match (database, error) {
        (
            DatabaseUrl::Postgres(_),
            StartError::Store(why @ (StoreError::Unavailable | StoreError::Busy)),
        ) => Ok(why),
        (_, error) => Err(error),
    }
}

async fn attempt(
    bound: &Bound,
    passwords: &Passwords,
    made_up: &mut Option<Secret>,
) -> Result<(Db, KeyRing), StartError> {
    let (config, options) = (&bound.config, &bound.options);
    let metrics = bound.metrics.store.clone();
    let db = Db::open_with(&options.database, Some(metrics)).await?;
    let is_exposed = config.is_exposed() || options.front_door_is_exposed;
    let is_first = first_start::is_first(&db).await?;
    if let Some(password) = first_start::make_root(&db, passwords, config, is_exposed).await? {
        *made_up = Some(password);
    }
    if let (Some(url), true) = (&options.first_node, is_first) {
        first_start::register(&db, url).await?;
    }
    let ring = signing::read(&db, &options.seal, config.logins.access_token).await?;
    Ok((db, ring))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absent_postgres_is_waited_for() {
        let postgres = || "postgres://u@h/d".parse::<DatabaseUrl>().unwrap();
        for error in [StoreError::Unavailable, StoreError::Busy] {
            let why = what_to_wait_for(&postgres(), StartError::Store(error.clone()));
            assert_eq!(why.unwrap(), error);
        }
        for error in [
            StoreError::Refused("password authentication failed".to_owned()),
            StoreError::Newer { found: "9".into() },
            StoreError::Full,
            StoreError::Internal,
        ] {
            what_to_wait_for(&postgres(), StartError::Store(error)).unwrap_err();
        }
        let file = "sqlite:a.db".parse().unwrap();
        what_to_wait_for(&file, StartError::Store(StoreError::Unavailable)).unwrap_err();
    }
}
