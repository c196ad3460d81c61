//! Passwords: argon2id hashes, made and verified off the async threads, a bounded number at once.
//! `api`'s logins and password changes call it; `bootstrap` and the importer do through them.
//!
//! Parameters: 19 MiB, two passes, one lane (OWASP, Password Storage Cheat Sheet, argon2id). The
//! predecessor's hashes are verified, too (`django`), and replaced at the first login.

mod django;

use std::sync::Arc;

use aivonx_shared::fleet_doc::Secret;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::django::DjangoHash;
use crate::domain::LONGEST_PASSWORD;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a stored hash may ask of this machine; ours ask less. More would be a row of the database
/// that takes the memory which `at_once` is there to bound.
const MOST_MEMORY_KIB: u32 = 64 * 1024;
const MOST_PASSES: u32 = 10;
const MOST_LANES: u32 = 4;
/// Logins that wait for a place beyond those that have one, for each place.
const WAITING_PER_PLACE: usize = 16;

/// Stands in for the hash of a user that does not exist: as dear as a real one, and nobody's.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes and verifies passwords. Clones share their places.
#[derive(Debug, Clone)]
pub struct Passwords {
    /// Whoever waits or works; full: the caller is told to come again.
    admitted: Arc<Semaphore>,
    /// Whoever works: each takes 19 MiB.
    places: Arc<Semaphore>,
}

/// What became of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is the user's.
    pub ok: bool,
    /// Whether it is, and its hash should be made anew: the predecessor's, or of other parameters.
    pub needs_upgrade: bool,
}

/// Why a password was neither hashed nor verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// 503 with `Retry-After`.
    #[error("too many logins at once")]
    Busy,
    /// 400.
    #[error("a password has at most {LONGEST_PASSWORD} bytes")]
    TooLong,
    /// 500: the machine has no memory for it.
    #[error("the password could not be hashed")]
    Failed,
}

impl Passwords {
    /// Lets `at_once` passwords be worked on at the same time; one a core is plenty.
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self {
            admitted: Arc::new(Semaphore::new(at_once * (1 + WAITING_PER_PLACE))),
            places: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// The hash of a new password, a PHC string for the store; `salt` is random.
    pub async fn hash(&self, password: Secret, salt: [u8; 16]) -> Result<String, PasswordError> {
        if password.reveal().len() > LONGEST_PASSWORD {
            return Err(PasswordError::TooLong);
        }
        self.work(move || hash_now(password.reveal(), &salt))
            .await?
    }

    /// Whether a password is the one behind `stored`; `None` where there is no such user, which takes
    /// as long. What cannot be read as a hash is nobody's password; [`is_readable`] tells before.
    ///
    /// The predecessor's hashes take longer than ours, so until a user's first login here the time
    /// tells that the name exists.
    pub async fn verify(
        &self,
        password: Secret,
        stored: Option<String>,
    ) -> Result<Verdict, PasswordError> {
        self.work(move || verify_now(password.reveal(), stored.as_deref()))
            .await
    }

    /// Does it on a thread that may block, with a place. The place goes with the work and not with
    /// the caller: one that went away leaves the thread busy, and its memory taken.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let admitted: OwnedSemaphorePermit = Arc::clone(&self.admitted)
            .try_acquire_owned()
            .map_err(|_| PasswordError::Busy)?;
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| PasswordError::Busy)?;
        let task = tokio::task::spawn_blocking(move || {
            let _held = (admitted, place);
            work()
        });
        task.await.map_err(|_| PasswordError::Failed)
    }
}

/// Whether a stored hash is one that [`Passwords::verify`] can verify. For the importer, and to tell
/// an operator why somebody's password never fits.
pub fn is_readable(stored: &str) -> bool {
    DjangoHash::read(stored).is_some() || Argon2Hash::read(stored).is_some()
}

fn ours() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .expect("the parameters are constants within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash_now(password: &str, salt: &[u8; 16]) -> Result<String, PasswordError> {
    let hash = ours().hash_password_with_salt(password.as_bytes(), salt);
    hash.map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Failed)
}

fn verify_now(password: &str, stored: Option<&str>) -> Verdict {
    const NO: Verdict = Verdict {
        ok: false,
        needs_upgrade: false,
    };
    // never hashed, so never the right one: cut off, it costs what others cost
    let is_too_long = password.len() > LONGEST_PASSWORD;
    let bytes = &password.as_bytes()[..password.len().min(LONGEST_PASSWORD)];
    let stored = stored.unwrap_or("");
    let (ok, needs_upgrade) = if let Some(hash) = DjangoHash::read(stored) {
        (hash.matches(bytes), true)
    } else if let Some(hash) = Argon2Hash::read(stored) {
        (hash.matches(bytes), !hash.is_ours())
    } else {
        let nobody = Argon2Hash::read(NOBODY).expect("a constant that tests read");
        let _ = nobody.matches(bytes);
        return NO;
    };
    if is_too_long || !ok {
        return NO;
    }
    Verdict { ok, needs_upgrade }
}

/// An argon2 hash within our bounds.
struct Argon2Hash {
    hash: PasswordHash,
    params: Params,
}

impl Argon2Hash {
    fn read(text: &str) -> Option<Self> {
        let hash = PasswordHash::new(text).ok()?;
        if !hash.algorithm.as_str().starts_with("argon2") || hash.hash.is_none() {
            return None;
        }
        let params = Params::try_from(&hash).ok()?;
        let is_bounded = params.m_cost() <= MOST_MEMORY_KIB
            && params.t_cost() <= MOST_PASSES
            && params.p_cost() <= MOST_LANES;
        is_bounded.then_some(Self { hash, params })
    }

    fn matches(&self, password: &[u8]) -> bool {
        ours().verify_password(password, &self.hash).is_ok()
    }

    fn is_ours(&self) -> bool {
        let costs = (
            self.params.m_cost(),
            self.params.t_cost(),
            self.params.p_cost(),
        );
        self.hash.algorithm.as_str() == "argon2id"
            && self.hash.version == Some(Version::V0x13.into())
            && costs == (MEMORY_KIB, PASSES, LANES)
    }
}

#[cfg(test)]
mod tests;
