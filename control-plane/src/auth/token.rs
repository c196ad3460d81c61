//! Access tokens of the REST API: JWT, HS256, 15 minutes, with the predecessor's claims. `api` signs
//! one after a login or a refresh and verifies one on each request, without asking the database.
//!
//! The keys are rows of the database, since many control planes sign and verify. A new key is known
//! to all of them before anybody signs with it ([`SPREAD`]), and an old one verifies until the last
//! token that it signed has expired.

mod hmac;
mod key_ring;

use std::time::Duration;

use aivonx_shared::fleet_doc::Secret;
use chrono::{DateTime, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::random::base64url;
use crate::domain::Role;

pub use self::key_ring::{KeyRing, KeyRingError, SPREAD, SigningKey};

/// How long an access token is good for, unless configured.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How far the clocks of two control planes may be apart.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Ours have some 400 bytes; a longer text is not worth reading.
const LONGEST_TOKEN: usize = 4096;
const ACCESS: &str = "access";

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The user's id.
    pub user_id: i64,
    /// The user's name, as shown.
    pub name: String,
    /// The user's role when it was signed.
    pub role: Role,
    /// Which of the user's passwords was the present one: the instant of its setting, microseconds. Where
    /// the user has another by now, the token is the caller's to refuse. Compared as it stands: which of two
    /// came first is nothing that a clock which may be set, or that of another machine, could tell.
    pub password: i64,
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Whom it speaks for.
    pub subject: Subject,
    /// Its own id.
    pub jti: String,
    /// When it was signed, in whole seconds.
    pub issued_at: DateTime<Utc>,
    /// From then on it is refused.
    pub expires_at: DateTime<Utc>,
}

/// Why a token is refused. Clients hear "token not valid" of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no JWT at all, or one whose header names an algorithm that nobody knows, such as none.
    #[error("the token cannot be read")]
    Malformed,
    /// It asks to be verified otherwise than it would have been signed.
    #[error("the token has another algorithm")]
    Algorithm,
    /// Its key is not in the ring, or no longer good. The ring may be older than the key: worth one
    /// look into the database.
    #[error("the token's key is not known")]
    UnknownKey,
    /// It was not signed with the key that it names.
    #[error("the token's signature does not match")]
    Signature,
    /// A claim is missing or of another type.
    #[error("the token's claims cannot be read")]
    Claims,
    /// It is no access token.
    #[error("the token is of another type")]
    WrongType,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is from the future.
    #[error("the token is not valid yet")]
    NotYetValid,
}

/// On the wire. Claims beside these are left alone: a newer control plane may write some.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    token_type: String,
    exp: i64,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    jti: String,
    /// A text, as the predecessor wrote it.
    user_id: String,
    name: String,
    role: Role,
    /// As `Subject::password`.
    pwd: i64,
}

impl KeyRing {
    /// Signs an access token; `random` gives it its id.
    pub fn sign(
        &self,
        subject: &Subject,
        lifetime: Duration,
        now: DateTime<Utc>,
        random: [u8; 16],
    ) -> Secret {
        let key = self.signing_key(now);
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key.kid().to_owned());
        let issued = now.timestamp();
        let claims = Claims {
            token_type: ACCESS.to_owned(),
            exp: issued.saturating_add_unsigned(lifetime.as_secs()),
            iat: issued,
            nbf: None,
            jti: base64url(&random),
            user_id: subject.user_id.to_string(),
            name: subject.name.clone(),
            role: subject.role,
            pwd: subject.password,
        };
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key.secret()))
            .expect("HS256 with a secret takes any claims that are JSON");
        Secret::new(token)
    }

    /// What a token says, if one of our keys signed it and its time is now.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Access, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.alg != Algorithm::HS256 {
            return Err(TokenError::Algorithm);
        }
        let key = header.kid.and_then(|kid| self.verifying_key(&kid, now));
        let key = DecodingKey::from_secret(key.ok_or(TokenError::UnknownKey)?.secret());
        let read = jsonwebtoken::decode::<Claims>(token, &key, &signature_only());
        let claims = read.map_err(|error| reason(error.kind()))?.claims;
        claims.judge(now.timestamp())?;
        claims.access().ok_or(TokenError::Claims)
    }
}

impl Claims {
    fn judge(&self, now: i64) -> Result<(), TokenError> {
        if self.token_type != ACCESS {
            return Err(TokenError::WrongType);
        }
        if now >= self.exp {
            return Err(TokenError::Expired);
        }
        let begins = self.iat.max(self.nbf.unwrap_or(self.iat));
        if begins > now.saturating_add_unsigned(LEEWAY.as_secs()) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }

    /// `None` where a number is none that we write.
    fn access(self) -> Option<Access> {
        Some(Access {
            subject: Subject {
                user_id: self.user_id.parse().ok()?,
                name: self.name,
                role: self.role,
                password: self.pwd,
            },
            jti: self.jti,
            issued_at: DateTime::from_timestamp(self.iat, 0)?,
            expires_at: DateTime::from_timestamp(self.exp, 0)?,
        })
    }
}

/// Times are judged here, against the instant that was passed in; the library asks the clock.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation
}

fn reason(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        ErrorKind::Json(_) | ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidAudience => {
            TokenError::Claims
        }
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests;
