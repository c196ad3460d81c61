//! Where a browser's request comes from: its `Origin`, or else its `Referer`, against the address
//! under which we were asked. `csrf` decides by it.

use http::Uri;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Our own pages.
    Same,
    /// Another site's, or a page without an origin.
    Other,
    /// It does not say.
    Unknown,
}

/// Scheme, host and port: what browsers call an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    is_https: bool,
    /// Lower case.
    host: String,
    port: u16,
}

/// What a request says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The client came over TLS.
    pub is_tls: bool,
    /// `Host`, or the authority of HTTP/2.
    pub host: &'a str,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Referer`.
    pub referer: Option<&'a str>,
}

impl Origin {
    /// Reads `https://host[:port]`; a path is left out, as of a `Referer`. `None` for what is no
    /// address of the web, `null` above all.
    pub fn read(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let standard = if is_https { 443 } else { 80 };
        let port = match authority.as_str().rsplit_once(':') {
            // the colons of an IPv6 address stand within brackets
            Some((_, port)) if !port.ends_with(']') => port.parse().ok()?,
            _ => standard,
        };
        Some(Self {
            is_https,
            host: authority.host().to_ascii_lowercase(),
            port,
        })
    }
}

impl Asked<'_> {
    /// Where the request comes from. `trusted` are further origins of ours: where TLS ends in front
    /// of us at somebody who does not say so, the browser's origin is not the one we see.
    pub fn source(&self, trusted: &[Origin]) -> Source {
        // browsers send an empty `Referer` for none, never an empty `Origin`
        let referer = self.referer.filter(|text| !text.is_empty());
        let Some(said) = self.origin.or(referer) else {
            return Source::Unknown;
        };
        let Some(said) = Origin::read(said) else {
            return Source::Other;
        };
        let scheme = if self.is_tls { "https" } else { "http" };
        let ours = Origin::read(&format!("{scheme}://{}", self.host));
        if ours.as_ref() == Some(&said) || trusted.contains(&said) {
            Source::Same
        } else {
            Source::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(is_tls: bool, host: &str, origin: Option<&str>, referer: Option<&str>) -> Source {
        let asked = Asked {
            is_tls,
            host,
            origin,
            referer,
        };
        asked.source(&[])
    }

    #[test]
    fn our_own_pages_have_our_scheme_host_and_port() {
        let same = [
            (false, "localhost:8000", "http://localhost:8000"),
            (false, "Example.org", "http://example.org"),
            (false, "example.org", "http://example.org:80"),
            (true, "example.org", "https://example.org:443"),
            (true, "example.org:443", "https://EXAMPLE.org"),
            (false, "[::1]:8000", "http://[::1]:8000"),
            (false, "[::1]", "http://[::1]"),
        ];
        for (is_tls, host, origin) in same {
            let found = source(is_tls, host, Some(origin), None);
            assert_eq!(found, Source::Same, "{host} {origin}");
        }
    }

    #[test]
    fn whatever_differs_is_another_site() {
        let other = [
            (false, "example.org", "https://example.org"),
            (true, "example.org", "http://example.org"),
            (false, "example.org", "http://example.org:8000"),
            (false, "example.org", "http://evil.org"),
            (false, "example.org", "http://example.org.evil.org"),
            (false, "example.org", "http://example.org@evil.org"),
            (false, "example.org", "http://evil.org@example.org"),
            (false, "example.org", "null"),
            (false, "example.org", ""),
            (false, "example.org", "example.org"),
            (false, "example.org", "file://example.org"),
            (false, "[::1]:8000", "http://[::2]:8000"),
            (false, "", "http://"),
            (false, "a b", "http://a b"),
            (false, "example.org:99999", "http://example.org:99999"),
        ];
        for (is_tls, host, origin) in other {
            let found = source(is_tls, host, Some(origin), None);
            assert_eq!(found, Source::Other, "{host} {origin}");
        }
    }

    #[test]
    fn the_referer_speaks_where_there_is_no_origin() {
        let of = |origin, referer| source(false, "a.org", origin, referer);
        let page = "http://a.org/ui/manage?x=1#y";
        assert_eq!(of(None, Some(page)), Source::Same);
        assert_eq!(of(None, Some("http://b.org/a.org")), Source::Other);
        assert_eq!(of(Some("http://b.org"), Some(page)), Source::Other);
        assert_eq!(of(None, None), Source::Unknown);
        assert_eq!(of(None, Some("")), Source::Unknown);
    }

    #[test]
    fn further_origins_of_ours_may_be_named() {
        let asked = Asked {
            is_tls: false,
            host: "inner:8000",
            origin: Some("https://console.example.org"),
            referer: None,
        };
        let trusted = [Origin::read("https://console.example.org/").unwrap()];
        assert_eq!(asked.source(&trusted), Source::Same);
        assert_eq!(asked.source(&[]), Source::Other);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(host in ".{0,40}", origin in "(https?://)?.{0,40}") {
            let _ = source(true, &host, Some(&origin), None);
        }
    }
}
