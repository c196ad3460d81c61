//! Who the client is: the peer, or what the front door says of it. For throttling, the audit,
//! cookies that need TLS, and what only this machine may do. Every handler's request passes here.
//!
//! The front door is the data plane. It shows a token that both planes hold, and takes these headers
//! away from whatever clients send; without the right token nothing that they say is believed.

use std::net::IpAddr;

use aivonx_shared::fleet_doc::Secret;
use subtle::ConstantTimeEq as _;

use super::digest::Digest;

/// The token that both planes hold.
pub const FRONT_DOOR_HEADER: &str = "x-aivonx-front-door";
/// The client's address; anything else where the front door cannot tell it.
pub const CLIENT_HEADER: &str = "x-aivonx-client";
/// `http` or `https`: how the client came to the front door.
pub const SCHEME_HEADER: &str = "x-aivonx-scheme";

/// Headers by which other proxies say that they speak for somebody else, in lower case.
pub const FORWARDING_HEADERS: [&str; 10] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "via",
];

/// A client as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address; `None` where it cannot be told.
    pub address: Option<IpAddr>,
    /// Whether it came over TLS.
    pub is_tls: bool,
    /// Whether it is surely on this machine.
    pub is_loopback: bool,
}

/// What a request's head says of its client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told<'a> {
    /// [`CLIENT_HEADER`].
    pub client: Option<&'a str>,
    /// [`SCHEME_HEADER`].
    pub scheme: Option<&'a str>,
    /// Whether one of [`FORWARDING_HEADERS`] is there.
    pub is_forwarded: bool,
}

/// The token that both planes hold.
#[derive(Debug, Clone)]
pub struct FrontDoor(Digest);

impl FrontDoor {
    /// Believes whoever shows this token.
    pub fn new(token: &Secret) -> Self {
        Self(Digest::of(token.reveal()))
    }

    /// Whether a request shows it in [`FRONT_DOOR_HEADER`]. In constant time, whatever the length.
    pub fn is_shown(&self, given: Option<&str>) -> bool {
        let digest = Digest::of(given.unwrap_or_default());
        given.is_some() & bool::from(digest.bytes().ct_eq(self.0.bytes()))
    }
}

impl Client {
    /// Who a request from `peer` is from. `by_front_door`: it showed the token.
    pub fn of(peer: Option<IpAddr>, by_front_door: bool, told: &Told<'_>) -> Self {
        // "this machine" is given narrowly: another proxy here would make everybody local
        let is_near = peer.is_some_and(|ip| ip.to_canonical().is_loopback()) && !told.is_forwarded;
        if !by_front_door {
            return Self {
                address: peer.map(|ip| ip.to_canonical()),
                is_tls: false, // this listener has none
                is_loopback: is_near,
            };
        }
        let client: Option<IpAddr> = told.client.and_then(|text| text.trim().parse().ok());
        let address = client.map(|ip| ip.to_canonical());
        Self {
            address,
            is_tls: told.scheme == Some("https"),
            // a front door on another machine has another loopback
            is_loopback: is_near && address.is_some_and(|ip| ip.is_loopback()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    fn told<'a>(client: &'a str, scheme: &'a str) -> Told<'a> {
        Told {
            client: Some(client),
            scheme: Some(scheme),
            is_forwarded: false,
        }
    }

    fn client(address: Option<IpAddr>, is_tls: bool, is_loopback: bool) -> Client {
        Client {
            address,
            is_tls,
            is_loopback,
        }
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let door = FrontDoor::new(&Secret::new("0123456789abcdef"));
        assert!(door.is_shown(Some("0123456789abcdef")));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
        ] {
            assert!(!door.is_shown(Some(other)), "{other}");
        }
        assert!(!door.is_shown(None));
        assert!(!FrontDoor::new(&Secret::new("")).is_shown(None));
        assert!(!format!("{door:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn without_the_token_the_peer_is_the_client_whatever_it_says() {
        let claims = told("127.0.0.1", "https");
        let far = Client::of(ip("192.0.2.7"), false, &claims);
        assert_eq!(far, client(ip("192.0.2.7"), false, false));
        let near = Client::of(ip("::ffff:127.0.0.1"), false, &told("192.0.2.7", "https"));
        assert_eq!(near, client(ip("127.0.0.1"), false, true));
        assert_eq!(Client::of(None, false, &claims), client(None, false, false));
    }

    #[test]
    fn with_the_token_the_front_door_is_believed() {
        let of = |peer, address, scheme| Client::of(ip(peer), true, &told(address, scheme));
        assert_eq!(
            of("127.0.0.1", "192.0.2.7", "https"),
            client(ip("192.0.2.7"), true, false)
        );
        assert_eq!(
            of("127.0.0.1", "::1", "http"),
            client(ip("::1"), false, true)
        );
        assert_eq!(
            of("127.0.0.1", "::ffff:127.0.0.1", "HTTPS"),
            client(ip("127.0.0.1"), false, true)
        );
    }

    #[test]
    fn the_loopback_of_another_machine_is_not_ours() {
        let found = Client::of(ip("10.0.0.2"), true, &told("127.0.0.1", "http"));
        assert_eq!(found, client(ip("127.0.0.1"), false, false));
    }

    #[test]
    fn a_client_that_cannot_be_told_is_nobody_and_never_local() {
        for text in ["unknown", "", "127.0.0.1:80", "127.0.0.1, 192.0.2.7"] {
            let found = Client::of(ip("127.0.0.1"), true, &told(text, "https"));
            assert_eq!(found, client(None, true, false), "{text}");
        }
        let silent = Client::of(ip("127.0.0.1"), true, &Told::default());
        assert_eq!(silent, client(None, false, false));
    }

    #[test]
    fn another_proxy_on_this_machine_makes_nobody_local() {
        let forwarded = Told {
            is_forwarded: true,
            ..Told::default()
        };
        let found = Client::of(ip("127.0.0.1"), false, &forwarded);
        assert_eq!(found, client(ip("127.0.0.1"), false, false));
    }

    proptest::proptest! {
        #[test]
        fn no_headers_make_it_panic(address in ".{0,40}", scheme in ".{0,8}", door: bool) {
            let _ = Client::of(ip("127.0.0.1"), door, &told(&address, &scheme));
        }
    }
}
