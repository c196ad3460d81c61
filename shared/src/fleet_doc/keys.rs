//! API keys of a fleet document: who may use the data plane, for what and how much. A document
//! holds the digest of a key, never the key.

use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

use super::limits::{Limits, read_limits};
use super::{is_node_name, read_patterns};
use crate::config::Reader;
use crate::model_name::ModelPattern;

/// The id under which callers without a key are counted, unless a network names its own.
pub const ANONYMOUS: &str = "anonymous";

/// One API key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyDoc {
    /// Unique; shown in metrics and logs.
    pub id: String,
    /// The digest of the key.
    pub sha256: KeyDigest,
    /// What it may do.
    pub scopes: Scopes,
    /// The models it may use; empty: all.
    pub models: Vec<ModelPattern>,
    /// How much it may ask; of each user where `user_header` names one.
    pub limits: Limits,
    /// From then on it is refused.
    pub expires: Option<SystemTime>,
    /// The header in which its holder is trusted to name its own users, in lower case.
    pub user_header: Option<String>,
}

/// SHA-256 of a key's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    /// Enough to tell two apart, too little to look for the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}…", self.0[0], self.0[1])
    }
}

impl KeyDigest {
    /// Reads 64 hexadecimal digits, with or without `sha256:` in front, or the whole line that
    /// `sha256sum` prints, with ` -` at its end.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.strip_suffix(" -").unwrap_or(text).trim_end();
        let text = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if text.len() != 64 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Some(Self(digest))
    }
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes {
    /// Use models, and see which there are.
    pub infer: bool,
    /// Change what nodes store and have loaded, and choose a node by name.
    pub manage: bool,
}

impl Scopes {
    /// `infer`.
    pub const INFER: Self = Self {
        infer: true,
        manage: false,
    };
    /// Both.
    pub const ALL: Self = Self {
        infer: true,
        manage: true,
    };
}

/// Reads `keys`. Ids and digests are unique over the document.
pub(super) fn read_keys(root: &Reader<'_>, ids: &mut HashSet<String>) -> Vec<KeyDoc> {
    let mut digests = HashSet::new();
    root.list("keys")
        .iter()
        .filter_map(|at| read_key(at, ids, &mut digests))
        .collect()
}

fn read_key(
    at: &Reader<'_>,
    ids: &mut HashSet<String>,
    digests: &mut HashSet<KeyDigest>,
) -> Option<KeyDoc> {
    let id = read_id(at, ids);
    let sha256 = read_digest(at);
    if let Some(digest) = sha256
        && !digests.insert(digest)
    {
        at.complain(
            "sha256",
            "is another key's already; every key needs its own",
        );
    }
    let scopes = read_scopes(at);
    let models = read_patterns(at, "models");
    let limits = read_limits(at);
    let expires = read_expiry(at);
    let user_header = read_user_header(at);
    at.finish();
    Some(KeyDoc {
        id: id?,
        sha256: sha256?,
        scopes,
        models,
        limits,
        expires,
        user_header,
    })
}

/// An id for metrics and logs, of a key or a network.
pub(super) fn read_id(at: &Reader<'_>, ids: &mut HashSet<String>) -> Option<String> {
    let id = at.get::<String>("id");
    match &id {
        None if at.value("id").is_none() => at.complain_here("needs an `id`"),
        Some(id) if !is_node_name(id) => {
            at.complain("id", "must be 1 to 63 letters, digits, `-`, `_` or `.`");
        }
        Some(id) if id == ANONYMOUS => {
            at.complain("id", "`anonymous` stands for callers without a key");
        }
        Some(id) if !ids.insert(id.clone()) => {
            at.complain(
                "id",
                &format!("`{id}` is another key's or network's already"),
            );
        }
        None | Some(_) => {}
    }
    id
}

fn read_digest(at: &Reader<'_>) -> Option<KeyDigest> {
    if at.value("key").is_some() {
        at.complain(
            "key",
            "a key itself must not stand here: write its digest as `sha256`, as `printf %s \"$KEY\" | sha256sum` prints it",
        );
    }
    let Some(text) = at.get::<String>("sha256") else {
        if at.value("sha256").is_none() {
            at.complain_here(
                "needs a `sha256`: the digest of the key, as `printf %s \"$KEY\" | sha256sum` prints it",
            );
        }
        return None;
    };
    let digest = KeyDigest::from_hex(text.trim());
    if digest.is_none() {
        // the text is not repeated: it may be the key itself
        at.complain(
            "sha256",
            "must be 64 hexadecimal digits, as `printf %s \"$KEY\" | sha256sum` prints them; not the key itself",
        );
    }
    digest
}

/// `scopes`, `infer` where it is absent.
pub(super) fn read_scopes(at: &Reader<'_>) -> Scopes {
    let Some(names) = at.get::<Vec<String>>("scopes") else {
        return Scopes::INFER;
    };
    let mut scopes = Scopes::default();
    for name in &names {
        match name.as_str() {
            "infer" => scopes.infer = true,
            "manage" => scopes.manage = true,
            other => at.complain(
                "scopes",
                &format!("`{other}` is no scope; write infer or manage"),
            ),
        }
    }
    if names.is_empty() {
        at.complain("scopes", "must name infer, manage or both");
    }
    scopes
}

fn read_expiry(at: &Reader<'_>) -> Option<SystemTime> {
    let text = at.get::<String>("expires")?;
    let text = text.trim();
    let whole = if text.len() == 10 {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    let expires = humantime::parse_rfc3339(&whole).ok();
    if expires.is_none() {
        at.complain(
            "expires",
            "must be a day or an instant in UTC, as 2027-01-31 or 2027-01-31T12:00:00Z",
        );
    }
    expires
}

fn read_user_header(at: &Reader<'_>) -> Option<String> {
    let name = at.get::<String>("user_header")?.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) || TAKEN.contains(&name.as_str()) {
        at.complain(
            "user_header",
            "must be the name of a header of its own, as X-OpenWebUI-User-Email",
        );
        return None;
    }
    Some(name)
}

/// Headers that mean something else already.
const TAKEN: [&str; 12] = [
    "authorization",
    "x-api-key",
    "host",
    "cookie",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "x-request-id",
    "x-forwarded-for",
    "forwarded",
    "x-aivonx-node",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_doc::FleetDoc;

    fn read(keys: &str) -> Result<Vec<KeyDoc>, String> {
        let text = format!("nodes: []\nkeys:\n{keys}");
        FleetDoc::from_yaml(&text)
            .map(|doc| doc.keys)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_key_takes_its_defaults() {
        let digest = "ab".repeat(32);
        let keys = read(&format!("- {{id: webui, sha256: \"{digest}\"}}\n")).unwrap();
        assert_eq!(keys[0].scopes, Scopes::INFER);
        assert_eq!(keys[0].sha256, KeyDigest([0xab; 32]));
        assert_eq!(keys[0].limits, Limits::default());
        assert!(keys[0].models.is_empty() && keys[0].expires.is_none());
    }

    #[test]
    fn the_line_of_sha256sum_is_a_digest_and_a_key_is_none() {
        let digest = "ab".repeat(32);
        for text in [format!("{digest}  -"), format!("\"sha256:{digest}  -\"")] {
            let keys = read(&format!("- id: a\n  sha256: {text}\n")).unwrap();
            assert_eq!(keys[0].sha256, KeyDigest([0xab; 32]));
        }
        for text in [format!("sk-{digest}"), format!("{digest}-"), "-".into()] {
            assert_eq!(KeyDigest::from_hex(&text), None, "{text}");
        }
    }

    #[test]
    fn every_key_of_a_key_is_read() {
        let digest = "0F".repeat(32);
        let keys = read(&format!(
            "- id: a\n  sha256: sha256:{digest}\n  scopes: [manage]\n  models: [\"llama*\"]\n  rate: 60/m\n  burst: 5\n  max_concurrent: 2\n  expires: 2027-01-31\n  user_header: X-User\n"
        ))
        .unwrap();
        let key = &keys[0];
        assert!(key.scopes.manage && !key.scopes.infer);
        assert_eq!(key.limits.max_concurrent, Some(2));
        assert_eq!(key.limits.rate.map(|rate| rate.burst), Some(5));
        let day = humantime::parse_rfc3339("2027-01-31T00:00:00Z").unwrap();
        assert_eq!(key.expires, Some(day));
        assert_eq!(key.user_header.as_deref(), Some("x-user"));
    }

    #[test]
    fn what_is_wrong_is_told_and_no_secret_repeated() {
        let digest = "ab".repeat(32);
        let problems = read(&format!(
            "- {{id: a, sha256: sk-secret}}\n- {{id: a, sha256: \"{digest}\", key: sk-secret}}\n- {{id: anonymous, sha256: \"{digest}\", scopes: [root], rate: fast, expires: soon, max_concurrent: 0, user_header: Host}}\n- {{}}\n"
        ))
        .unwrap_err();
        for part in [
            "keys[0].sha256",
            "keys[1].id: `a` is another",
            "keys[1].key",
            "keys[2].id: `anonymous`",
            "keys[2].sha256: is another key's",
            "keys[2].scopes",
            "keys[2].rate",
            "keys[2].expires",
            "keys[2].max_concurrent",
            "keys[2].user_header",
            "keys[3]: needs an `id`",
            "keys[3]: needs a `sha256`",
        ] {
            assert!(problems.contains(part), "{part} in\n{problems}");
        }
        assert!(!problems.contains("sk-secret"), "{problems}");
    }

    #[test]
    fn a_digest_is_not_shown() {
        let shown = format!("{:?}", KeyDigest([0xab; 32]));
        assert_eq!(shown, "abab…");
    }
}
