//! A node's address: scheme, host, port and base path, so that an Ollama may stand behind an
//! ingress that shares one address among several.

use std::fmt;
use std::str::FromStr;

/// How a node is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
}

/// A parsed node URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeUrl {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Host name or IP address, IPv6 without brackets.
    pub host: String,
    /// Port; the scheme's own where the URL has none.
    pub port: u16,
    /// Path before Ollama's own, without a trailing slash: empty or `/team-a`.
    pub base: String,
}

/// Why a text is no node URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No `http://` or `https://` in front.
    #[error("must begin with http:// or https://, as http://10.0.0.1:11434")]
    Scheme,
    /// No host, or one that no host name can be.
    #[error("has no valid host")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    /// Credentials in the URL would end in logs.
    #[error("must not hold a user or password")]
    Credentials,
    /// Query or fragment.
    #[error("must not hold `?`, `#`, `%` or spaces")]
    Extra,
}

impl FromStr for NodeUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest, default_port) = if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest, 80)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest, 443)
        } else {
            return Err(UrlError::Scheme);
        };
        if rest
            .bytes()
            .any(|byte| matches!(byte, b'?' | b'#' | b'%') || !byte.is_ascii_graphic())
        {
            return Err(UrlError::Extra);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        let (host, port) = split_port(authority, default_port)?;
        if !is_host(host) {
            return Err(UrlError::Host);
        }
        Ok(Self {
            scheme,
            host: host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port,
            base: path.trim_end_matches('/').to_owned(),
        })
    }
}

fn split_port(authority: &str, default: u16) -> Result<(&str, u16), UrlError> {
    let split = if authority.starts_with('[') {
        let end = authority.find(']').ok_or(UrlError::Host)? + 1;
        let rest = &authority[end..];
        if !rest.is_empty() && !rest.starts_with(':') {
            return Err(UrlError::Host);
        }
        (&authority[..end], rest.strip_prefix(':'))
    } else {
        authority
            .split_once(':')
            .map_or((authority, None), |(host, port)| (host, Some(port)))
    };
    match split {
        (host, None) => Ok((host, default)),
        (host, Some(port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((host, port)),
            _ => Err(UrlError::Port),
        },
    }
}

/// Whether a text may be a host: a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        return inner
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    }
    !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

impl NodeUrl {
    /// `host:port`, IPv6 in brackets: the `Host` a node expects.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url: NodeUrl = "https://GPU-1.example/team-a/".parse().unwrap();
        assert_eq!(
            (url.scheme, url.host.as_str(), url.port, url.base.as_str()),
            (Scheme::Https, "gpu-1.example", 443, "/team-a")
        );
        let url: NodeUrl = "http://[::1]:11434".parse().unwrap();
        assert_eq!(url.authority(), "[::1]:11434");
        assert_eq!(url.to_string(), "http://[::1]:11434");
    }

    #[test]
    fn what_is_no_url_says_why() {
        for (text, error) in [
            ("10.0.0.1:11434", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http://:80", UrlError::Host),
            ("http://a:0", UrlError::Port),
            ("http://a:b", UrlError::Port),
            ("http://u:p@a", UrlError::Credentials),
            ("http://a/?x", UrlError::Extra),
            ("http://[::1", UrlError::Host),
        ] {
            assert_eq!(text.parse::<NodeUrl>(), Err(error), "{text}");
        }
    }
}
