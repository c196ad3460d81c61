//! Who may use the fleet: the keys and anonymous rules of a document, ready to be asked for each
//! request. What a caller used up outlives the document.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use aivonx_shared::fleet_doc::{
    ANONYMOUS, Anonymous, FleetDoc, KeyDigest, KeyDoc, Limits, NetworkDoc, OnRevoke, Scopes,
};
use aivonx_shared::model_name::{ModelKey, ModelPattern};
use ipnet::IpNet;
use subtle::ConstantTimeEq;

use super::limiter::Limiter;

/// What a caller may do, and under which name it is counted.
pub(crate) struct Grant {
    /// A key's or network's id, or `anonymous`: for metrics and logs.
    pub(crate) id: Box<str>,
    pub(crate) scopes: Scopes,
    /// Empty: all.
    models: Vec<ModelPattern>,
    pub(crate) limits: Limits,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) kind: Kind,
    /// Set when its key was taken out of the document and its streams shall end. The grants of one
    /// key share it over all documents: a stream rests on the one with which it began.
    revoked: Arc<AtomicBool>,
}

/// What a grant rests on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A key.
    Key {
        /// From then on it is refused.
        expires: Option<SystemTime>,
        /// Where its holder names its users.
        user_header: Option<Box<str>>,
    },
    /// Being on this machine.
    Loopback,
    /// An address: each is counted apart.
    Address,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({})", self.id)
    }
}

impl Grant {
    fn new(id: &str, scopes: Scopes, kind: Kind) -> Self {
        Self {
            id: id.into(),
            scopes,
            models: Vec::new(),
            limits: Limits::default(),
            limiter: Arc::default(),
            kind,
            revoked: Arc::default(),
        }
    }

    fn of_key(key: &KeyDoc, limiter: Arc<Limiter>, before: Option<&Self>) -> Self {
        let kind = Kind::Key {
            expires: key.expires,
            user_header: key.user_header.as_deref().map(Into::into),
        };
        Self {
            models: key.models.clone(),
            limits: key.limits,
            limiter,
            revoked: before.map_or_else(Arc::default, |before| Arc::clone(&before.revoked)),
            ..Self::new(&key.id, key.scopes, kind)
        }
    }

    fn of_network(network: &NetworkDoc, limiter: Arc<Limiter>) -> Self {
        Self {
            models: network.models.clone(),
            limits: network.limits,
            limiter,
            ..Self::new(&network.id, network.scopes, Kind::Address)
        }
    }

    /// Whether some models are out of its reach.
    pub(crate) fn is_restricted(&self) -> bool {
        !self.models.is_empty()
    }

    /// Whether it may use a model.
    pub(crate) fn allows(&self, model: &ModelKey) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.matches(model))
    }

    /// Whether it rests on a key.
    pub(crate) fn is_key(&self) -> bool {
        matches!(self.kind, Kind::Key { .. })
    }

    /// Whether its running requests shall end.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }
}

/// The keys and anonymous rules in force.
#[derive(Debug)]
pub(crate) struct Access {
    keys: HashMap<KeyDigest, Arc<Grant>>,
    /// Headers that hold names of users: for the nodes they are nothing.
    user_headers: Vec<Box<str>>,
    loopback: Option<Arc<Grant>>,
    everybody: Option<Arc<Grant>>,
    networks: Vec<(IpNet, Arc<Grant>)>,
}

impl Access {
    /// What `doc` grants. A caller whose id was there `before` keeps what it used up.
    pub(super) fn of(doc: &FleetDoc, before: Option<&Self>) -> Self {
        let known: HashMap<&str, &Arc<Grant>> = before
            .into_iter()
            .flat_map(Self::grants)
            .map(|grant| (&*grant.id, grant))
            .collect();
        let limiter = |id: &str| {
            known
                .get(id)
                .map_or_else(Arc::default, |grant| Arc::clone(&grant.limiter))
        };
        let keys: HashMap<_, _> = doc
            .keys
            .iter()
            .map(|key| {
                let same = before.and_then(|before| before.keys.get(&key.sha256));
                let grant = Grant::of_key(key, limiter(&key.id), same.map(|grant| &**grant));
                (key.sha256, Arc::new(grant))
            })
            .collect();
        if let Some(before) = before.filter(|_| doc.on_revoke == OnRevoke::End) {
            before.revoke_all_but(&keys);
        }
        let networks = match &doc.anonymous {
            Anonymous::Networks(list) => list.as_slice(),
            _ => &[],
        };
        let networks = networks.iter().map(|network| {
            let grant = Grant::of_network(network, limiter(&network.id));
            (network.cidr, Arc::new(grant))
        });
        let local = matches!(doc.anonymous, Anonymous::Loopback | Anonymous::Always);
        let all = doc.anonymous == Anonymous::Always;
        let mut user_headers: Vec<Box<str>> = doc
            .keys
            .iter()
            .filter_map(|key| key.user_header.as_deref().map(Into::into))
            .collect();
        user_headers.sort_unstable();
        user_headers.dedup();
        Self {
            networks: networks.collect(),
            keys,
            user_headers,
            loopback: local.then(|| Arc::new(Grant::new(ANONYMOUS, Scopes::ALL, Kind::Loopback))),
            everybody: all.then(|| Arc::new(Grant::new(ANONYMOUS, Scopes::INFER, Kind::Address))),
        }
    }

    fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        let networks = self.networks.iter().map(|(_, grant)| grant);
        self.keys.values().chain(networks)
    }

    fn revoke_all_but(&self, stay: &HashMap<KeyDigest, Arc<Grant>>) {
        for (digest, grant) in &self.keys {
            if !stay.contains_key(digest) {
                grant.revoked.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether there are keys at all: without any nothing needs to be hashed.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The key of this digest. Digests are compared in constant time; the look-up before it goes by
    /// a keyed hash of a digest that nobody can choose.
    pub(crate) fn key(&self, digest: &KeyDigest) -> Option<&Arc<Grant>> {
        let (known, grant) = self.keys.get_key_value(digest)?;
        bool::from(known.0.ct_eq(&digest.0)).then_some(grant)
    }

    /// What a caller without a key may do; `local` says that it is on this machine.
    pub(crate) fn anonymous(&self, address: Option<IpAddr>, local: bool) -> Option<&Arc<Grant>> {
        if local && self.loopback.is_some() {
            return self.loopback.as_ref();
        }
        let address = address.filter(|address| local || !address.is_loopback());
        let of_network = address.and_then(|address| {
            let mut networks = self.networks.iter();
            networks.find(|(network, _)| network.contains(&address))
        });
        of_network
            .map(|(_, grant)| grant)
            .or(self.everybody.as_ref())
    }

    /// Whether a header holds names of users.
    pub(crate) fn is_user_header(&self, name: &str) -> bool {
        self.user_headers.iter().any(|known| **known == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(yaml: &str) -> FleetDoc {
        FleetDoc::from_yaml(&format!("nodes: []\n{yaml}")).unwrap()
    }

    fn keys(list: &str) -> FleetDoc {
        doc(&format!("on_revoke: end\nkeys: [{list}]"))
    }

    fn key(id: &str, digest: &str) -> String {
        format!(
            "{{id: {id}, sha256: \"{}\", max_concurrent: 1}}",
            digest.repeat(32)
        )
    }

    #[test]
    fn anonymous_callers_get_what_the_document_says() {
        let ip = |text: &str| Some(text.parse().unwrap());
        let who = |access: &Access, address, local| {
            access
                .anonymous(address, local)
                .map(|grant| (grant.id.to_string(), grant.scopes.manage))
        };
        let anonymous = |manage| Some((ANONYMOUS.to_owned(), manage));

        let loopback = Access::of(&doc("anonymous: loopback"), None);
        assert_eq!(who(&loopback, ip("127.0.0.1"), true), anonymous(true));
        assert_eq!(who(&loopback, ip("127.0.0.1"), false), None, "forwarded");
        assert_eq!(who(&loopback, ip("10.0.0.1"), false), None);

        let always = Access::of(&doc("anonymous: always"), None);
        assert_eq!(who(&always, ip("127.0.0.1"), true), anonymous(true));
        assert_eq!(who(&always, ip("10.0.0.1"), false), anonymous(false));
        assert_eq!(who(&always, None, false), anonymous(false));

        let never = Access::of(&doc("anonymous: never"), None);
        assert_eq!(who(&never, ip("127.0.0.1"), true), None);

        let networks = Access::of(
            &doc(
                "anonymous: [{cidr: 10.1.0.0/16, id: lab, scopes: [infer, manage]}, {cidr: 10.0.0.0/8, id: office}, {cidr: 127.0.0.0/8, id: here}]",
            ),
            None,
        );
        assert_eq!(
            who(&networks, ip("10.1.2.3"), false),
            Some(("lab".into(), true))
        );
        assert_eq!(
            who(&networks, ip("10.2.2.3"), false),
            Some(("office".into(), false))
        );
        assert_eq!(
            who(&networks, ip("127.0.0.1"), true),
            Some(("here".into(), false))
        );
        assert_eq!(who(&networks, ip("127.0.0.1"), false), None, "only claimed");
        assert_eq!(who(&networks, ip("192.0.2.1"), false), None);
        assert_eq!(who(&networks, None, false), None);
    }

    #[test]
    fn a_key_that_stays_keeps_what_it_used_up_and_one_that_went_is_revoked() {
        let first = Access::of(
            &keys(&format!("{}, {}", key("a", "aa"), key("b", "bb"))),
            None,
        );
        let [a, b] = [0xaa, 0xbb].map(|byte| {
            let grant = first.key(&KeyDigest([byte; 32]));
            Arc::clone(grant.unwrap())
        });
        let now = std::time::Instant::now();
        let _open = a.limiter.enter(&a.limits, None, now).unwrap();

        let second = Access::of(&keys(&key("a", "aa")), Some(&first));
        let again = second.key(&KeyDigest([0xaa; 32])).unwrap();
        assert!(again.limiter.enter(&again.limits, None, now).is_err());
        assert!(second.key(&KeyDigest([0xbb; 32])).is_none());
        assert!(b.is_revoked() && !a.is_revoked());

        let rotated = Access::of(&keys(&key("a", "cc")), Some(&second));
        assert!(again.is_revoked(), "the old secret of a rotated key is out");
        assert!(a.is_revoked(), "and so is what began two documents ago");
        assert!(rotated.key(&KeyDigest([0xcc; 32])).is_some());
    }
}
