//! The keys that sign access tokens: rows of the database, shared by all control planes on it. Each keeps
//! a ring of them, reads it again now and then, and makes a new key when the newest is old.

use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::sealed::{self, KeyError, SealKey};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{App, StartError};
use crate::auth::token::SigningKey;
use crate::auth::{KeyRing, random};
use crate::domain::Hidden;
use crate::store::{self, Change, Db, StoreError, Time};

/// How often other control planes' keys are read.
const EVERY: Duration = Duration::from_secs(20);
/// How old the key that signs may become.
const AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long retired keys are kept, beyond the life of any token.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The ring in force.
pub(crate) struct Signing(ArcSwap<KeyRing>);

impl Signing {
    pub(super) fn new(ring: ArcSwap<KeyRing>) -> Self {
        Self(ring)
    }

    pub(super) fn load(&self) -> Arc<KeyRing> {
        self.0.load_full()
    }
}

/// Reads the ring; makes the first key where there is none.
pub(super) async fn read(
    db: &Db,
    seal: &SealKey,
    lifetime: Duration,
) -> Result<KeyRing, StartError> {
    let (kid, sealed) = fresh(seal).map_err(|error| StartError::Sealed(error.to_string()))?;
    let rows = db
        .ensure_signing_key(&Change::by_system("startup"), &kid, sealed)
        .await?;
    ring_of(rows, seal, lifetime).map_err(StartError::Sealed)
}

/// Follows the keys for as long as the process lives.
pub(super) async fn follow(app: &App) {
    loop {
        tokio::time::sleep(EVERY).await;
        // an outage of the database is told by whoever asks it; the ring stays in force
        if let Ok(Some(ring)) = renewed(app).await {
            app.signing.0.store(Arc::new(ring));
        }
    }
}

async fn renewed(app: &App) -> Result<Option<KeyRing>, StoreError> {
    let lifetime = app.config.logins.access_token;
    let mut rows = app.db.signing_keys().await?;
    let now = Time::now();
    let is_due = |ring: &KeyRing| ring.is_due(AGE, now.utc());
    if ring_of(rows.clone(), &app.seal, lifetime).is_ok_and(|ring| is_due(&ring))
        && let Ok((kid, sealed)) = fresh(&app.seal)
    {
        let change = Change::by_system("key rotation");
        let forget = Time::from(now.utc() - KEPT);
        rows = app
            .db
            .rotate_signing_key(&change, &kid, sealed, forget)
            .await?;
        tracing::info!(kid, "a new key signs access tokens");
    }
    let ring = ring_of(rows, &app.seal, lifetime);
    ring.map(Some).or_else(|why| {
        tracing::error!(
            why,
            "the keys that sign access tokens cannot be read; the last ones stay in force"
        );
        Ok(None)
    })
}

fn fresh(seal: &SealKey) -> Result<(String, Hidden), KeyError> {
    let secret: [u8; 32] = random::bytes();
    let kid: [u8; 9] = random::bytes();
    let sealed = sealed::seal(seal, &URL_SAFE_NO_PAD.encode(secret))?;
    Ok((URL_SAFE_NO_PAD.encode(kid), Hidden::new(sealed)))
}

fn ring_of(
    rows: Vec<store::SigningKey>,
    seal: &SealKey,
    lifetime: Duration,
) -> Result<KeyRing, String> {
    let keys = rows.into_iter().map(|row| {
        let secret = sealed::open(seal, row.secret.reveal()).map_err(|error| error.to_string())?;
        let bytes = URL_SAFE_NO_PAD.decode(secret.reveal()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let bytes = bytes.ok_or("is no signing key")?;
        // tokens that it signed are good until they expire
        let retired = row
            .retired_at
            .map(|at| KeyRing::retirement(lifetime, at.utc()));
        Ok::<_, String>(SigningKey::new(
            row.kid,
            bytes,
            row.created_at.utc(),
            retired,
        ))
    });
    let keys = keys.collect::<Result<_, _>>()?;
    KeyRing::new(keys).map_err(|error| error.to_string())
}
