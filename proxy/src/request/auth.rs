//! Who the caller is and what it may do: its key against the snapshot, or the anonymous rules.
//!
//! A credential that is no key of ours is treated as none: Ollama's and OpenAI's clients send
//! dummies. What was presented is never kept, logged or passed on.

use std::sync::Arc;
use std::time::SystemTime;

use aivonx_shared::fleet_doc::KeyDigest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::client::ClientAddress;
use super::rejection::Rejection;
use super::route::Scope;
use crate::fleet::access::{Access, Grant, Kind};

/// The longest credential that is looked at, bytes: no key is as long, and each is hashed.
const LONGEST: usize = 1024;
/// The longest name of a user that is taken, bytes.
const LONGEST_USER: usize = 128;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) grant: Arc<Grant>,
    /// The end user that the holder of a key names, or the address of an anonymous client: what
    /// limits count.
    pub(crate) share: Option<Box<str>>,
}

impl Caller {
    /// The caller of a request, if the fleet knows it.
    pub(crate) fn of(
        headers: &HeaderMap,
        address: &ClientAddress,
        access: &Access,
        now: SystemTime,
    ) -> Result<Option<Self>, Rejection> {
        let key = access.has_keys().then(|| presented(headers, access));
        let Some(grant) = key.flatten() else {
            return Ok(Self::anonymous(address, access));
        };
        let Kind::Key {
            expires,
            user_header,
        } = &grant.kind
        else {
            return Ok(None);
        };
        if expires.is_some_and(|expires| expires <= now) {
            return Err(Rejection::KeyExpired(grant.id.to_string()));
        }
        let share = user_header
            .as_deref()
            .and_then(|name| user(headers.get(name)?.as_bytes()));
        Ok(Some(Self { grant, share }))
    }

    fn anonymous(address: &ClientAddress, access: &Access) -> Option<Self> {
        let grant = Arc::clone(access.anonymous(address.ip, address.local)?);
        // only where something is counted is the address written out
        let counted = grant.limits.rate.is_some() || grant.limits.max_concurrent.is_some();
        let share = address
            .ip
            .filter(|_| counted)
            .map(|ip| ip.to_string().into());
        Some(Self { grant, share })
    }

    /// Whether it may do what needs `scope`.
    pub(crate) fn check(&self, scope: Scope) -> Result<(), Rejection> {
        let may = match scope {
            Scope::Infer => self.grant.scopes.infer,
            Scope::Manage => self.grant.scopes.manage,
        };
        if may {
            return Ok(());
        }
        if self.grant.is_key() {
            Err(Rejection::NoScope(scope.as_str()))
        } else {
            Err(Rejection::NoKey)
        }
    }

    /// The end user, for logs: only of a key that is trusted to name one.
    pub(crate) fn user(&self) -> Option<&str> {
        self.share.as_deref().filter(|_| self.grant.is_key())
    }
}

/// The grant of the first credential that is a key of ours.
fn presented(headers: &HeaderMap, access: &Access) -> Option<Arc<Grant>> {
    let authorization = headers
        .get(header::AUTHORIZATION)
        .map(http::HeaderValue::as_bytes);
    let bearer = authorization.and_then(|value| after_scheme(value, b"bearer"));
    let api_key = headers.get("x-api-key").map(http::HeaderValue::as_bytes);
    let known = |text: &[u8]| {
        let text = text.trim_ascii();
        if text.is_empty() || text.len() > LONGEST {
            return None;
        }
        let digest = KeyDigest(Sha256::digest(text).into());
        access.key(&digest).cloned()
    };
    bearer
        .and_then(known)
        .or_else(|| api_key.and_then(known))
        .or_else(|| {
            let basic = authorization.and_then(|value| after_scheme(value, b"basic"))?;
            known(&password(basic)?)
        })
}

/// What follows the scheme of an `Authorization` header.
fn after_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    (name.eq_ignore_ascii_case(scheme) && rest.first() == Some(&b' ')).then_some(rest)
}

/// The password of Basic authorization; who the user is said to be means nothing.
fn password(basic: &[u8]) -> Option<Vec<u8>> {
    let basic = basic.trim_ascii();
    if basic.len() > 2 * LONGEST {
        return None;
    }
    let pair = STANDARD.decode(basic).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// A user's name, if it is fit for logs.
fn user(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let fit = (1..=LONGEST_USER).contains(&text.len()) && !text.chars().any(char::is_control);
    fit.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use aivonx_shared::fleet_doc::FleetDoc;
    use std::fmt::Write as _;
    use std::time::Duration;

    const LOCAL: ClientAddress = ClientAddress {
        ip: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        local: true,
        proxied: false,
    };

    fn fleet(more: &str) -> Fleet {
        let digest = Sha256::digest("k-1")
            .iter()
            .fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
        let yaml = format!("nodes: []\nkeys: [{{id: one, sha256: {digest}{more}}}]");
        let fleet = Fleet::new(aivonx_shared::config::ProxyConfig::defaults().breaker);
        fleet.apply(FleetDoc::from_yaml(&yaml).unwrap());
        fleet
    }

    fn caller(more: &str, headers: &[(&'static str, &str)]) -> Result<Caller, Rejection> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let fleet = fleet(more);
        let snapshot = fleet.load_full();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000); // 2027-01-15
        Caller::of(&map, &LOCAL, snapshot.access(), now).map(Option::unwrap)
    }

    #[test]
    fn a_key_is_found_wherever_clients_put_it() {
        let basic = STANDARD.encode("anybody:k-1");
        for (name, value) in [
            ("authorization", "Bearer k-1"),
            ("authorization", "bearer  k-1 "),
            ("x-api-key", "k-1"),
            ("authorization", &format!("Basic {basic}")),
        ] {
            let caller = caller("", &[(name, value)]).unwrap();
            assert_eq!(&*caller.grant.id, "one", "{name}: {value}");
        }
        let both = [("authorization", "Bearer ollama"), ("x-api-key", "k-1")];
        assert_eq!(&*caller("", &both).unwrap().grant.id, "one");
    }

    #[test]
    fn what_is_no_key_of_ours_is_none() {
        let long = "k".repeat(2000);
        for (name, value) in [
            ("authorization", "Bearer ollama"),
            ("authorization", "Bearer"),
            ("authorization", "k-1"),
            ("authorization", "Basic k-1"),
            ("authorization", "Basic !!"),
            ("authorization", "Token k-1"),
            ("cookie", "k-1"),
            ("x-api-key", ""),
            ("x-api-key", &long),
        ] {
            let caller = caller("", &[(name, value)]).unwrap();
            assert_eq!(&*caller.grant.id, "anonymous", "{name}: {value}");
        }
    }

    #[test]
    fn an_expired_key_is_refused_rather_than_anonymous() {
        let sent = [("x-api-key", "k-1")];
        assert!(caller(", expires: 2027-02-01", &sent).is_ok());
        let expired = caller(", expires: 2027-01-01", &sent).unwrap_err();
        assert_eq!(expired, Rejection::KeyExpired("one".into()));
    }

    #[test]
    fn only_a_trusted_key_names_its_users() {
        let sent = [("x-api-key", "k-1"), ("x-user", "ann@example.com")];
        assert_eq!(caller("", &sent).unwrap().user(), None);
        let trusted = ", user_header: X-User";
        assert_eq!(
            caller(trusted, &sent).unwrap().user(),
            Some("ann@example.com")
        );
        let long = "a".repeat(200);
        let unfit = [("x-api-key", "k-1"), ("x-user", long.as_str())];
        assert_eq!(caller(trusted, &unfit).unwrap().user(), None);
        assert_eq!(caller(trusted, &[("x-user", "ann")]).unwrap().user(), None);
    }
}
