//! Which requests go through the front door to the control plane, and what it is told of their
//! client. Asked by `gateway/front_door`, where the configuration opens the door.
//!
//! The control plane reads a path again, with another router. So only a path that both can read in
//! one way passes: whatever would lie below these paths by another spelling is not found.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};

use super::client::ClientAddress;
use super::route::Route;
use super::route::path::{cleaned, decoded, unescaped};

/// These paths, and all below them.
const TREES: [&str; 5] = ["/ui", "/api/proxy", "/api/logs", "/swagger", "/redoc"];
/// All below these.
const BELOW: [&str; 2] = ["/api/account/", "/static/"];
/// These alone.
const SINGLE: [&str; 2] = ["/api/health", "/api/schema"];
/// `TRACE` is none of them: its answer would show what is set on the way, the token too.
const METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// The route of a request as far as the open front door decides it; `None` leaves it to
/// [`Route::of`]. `path` as it came, without the query.
pub(crate) fn route(method: &Method, path: &str, headers: &HeaderMap) -> Option<Route> {
    if path == "/" {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        return (reads && prefers_html(headers)).then_some(Route::FrontDoor);
    }
    let is_here = is_behind(path);
    if is_here && is_plain(path) {
        return Some(match *method {
            Method::TRACE | Method::CONNECT => Route::WrongMethod(METHODS),
            _ => Route::FrontDoor,
        });
    }
    (is_here || leads_behind(path)).then_some(Route::NotFound)
}

fn is_behind(path: &str) -> bool {
    let in_tree = |tree: &&str| {
        path.strip_prefix(*tree)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    TREES.iter().any(in_tree)
        || BELOW.iter().any(|folder| path.starts_with(folder))
        || SINGLE.contains(&path)
}

/// Whether a path in another spelling would lie there.
fn leads_behind(path: &str) -> bool {
    let is_common = !path.contains(['%', '\\']) && !path.contains("//") && !path.contains("/.");
    if is_common {
        return false;
    }
    let path = String::from_utf8_lossy(&unescaped(path)).replace('\\', "/");
    let clean = cleaned(path.as_bytes());
    let clean = clean.as_deref().map(String::from_utf8_lossy);
    is_behind(&clean.unwrap_or(Cow::Borrowed(&path)))
}

/// Whether a path means the same to everybody: visible ASCII, no empty segments and no `.` or `..`,
/// and no escape of a sign that a second reader might take for one of these.
fn is_plain(path: &str) -> bool {
    let is_visible = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    path.bytes().all(is_visible)
        && !path.contains("//")
        && !path.split('/').any(|part| part == "." || part == "..")
        && escapes_are_harmless(path)
}

fn escapes_are_harmless(path: &str) -> bool {
    let mut escapes = path.split('%').skip(1);
    let each = escapes.all(|rest| {
        let hex = rest.as_bytes().get(..2);
        let is_hex = hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let byte = rest
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        is_hex && byte.is_some_and(|byte| !byte.is_ascii_control() && !b"/\\.%".contains(&byte))
    });
    // what is no UTF-8 comes back as it was
    each && (!path.contains('%') || !decoded(path).contains('%'))
}

/// Whether a client would rather have a page than text, as browsers say it: `text/html` above
/// `text/plain` and above `*/*`.
pub(crate) fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut plain, mut text, mut any) = (0, None, None, 0);
    let lines = headers.get_all(ACCEPT).iter();
    for range in lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
    {
        let (kind, quality) = media_range(range);
        match kind.to_ascii_lowercase().as_str() {
            "text/html" => html = quality,
            "text/plain" => plain = Some(quality),
            "text/*" => text = Some(quality),
            "*/*" => any = quality,
            _ => {}
        }
    }
    html > plain.or(text).unwrap_or(0) && html > any
}

/// A media range and its quality in thousandths; one that cannot be read is not wanted.
fn media_range(text: &str) -> (&str, u32) {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let quality = quality.map_or(Some(1.0), |value| value.parse::<f32>().ok());
    let quality = quality.filter(|quality| (0.0..=1.0).contains(quality));
    (
        kind,
        quality.map_or(0, |quality| (quality * 1000.0).round() as u32),
    )
}

/// The client's address as the control plane is told it. A loopback address there is a claim to
/// trust, so it is told only of a client that counts as on this machine and whose page, if it is
/// one, is its own (`is_foreign`). Whoever else comes from such an address is `unknown`, as are
/// those whose address cannot be told.
pub(crate) fn told_client(client: &ClientAddress, is_foreign: bool) -> HeaderValue {
    let is_believed = client.local && !is_foreign;
    let told = client.ip.filter(|ip| is_believed || !is_loopback(*ip));
    let text = told.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
    HeaderValue::try_from(text).expect("an address is visible ASCII")
}

/// An address that is none may lead to this machine, too.
fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Whether the client itself came over TLS: as this proxy saw it, or as a trusted one says.
pub(crate) fn is_https(client: &ClientAddress, over_tls: bool, headers: &HeaderMap) -> bool {
    let said = || {
        let line = headers.get_all("x-forwarded-proto").iter().next_back();
        let last = line.and_then(|line| line.to_str().ok()?.rsplit(',').next());
        last.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
    };
    over_tls || (client.proxied && said())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str) -> Option<Route> {
        route(&method.parse().unwrap(), path, &HeaderMap::new())
    }

    fn accepting(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_control_planes_paths_go_there_and_no_others() {
        for path in [
            "/ui",
            "/ui/",
            "/ui/manage",
            "/api/proxy",
            "/api/proxy/nodes/7",
            "/api/account/login",
            "/api/logs",
            "/api/logs/",
            "/api/health",
            "/api/schema",
            "/swagger/a.js",
            "/redoc",
            "/static/a%20b.css",
            "/ui/m%C3%BCller",
            "/ui/...",
        ] {
            for method in ["GET", "POST", "PROPFIND"] {
                assert_eq!(of(method, path), Some(Route::FrontDoor), "{method} {path}");
            }
        }
        for path in [
            "/api/chat",
            "/api/tags",
            "/uix",
            "/UI",
            "/api/proxyx",
            "/api/account",
            "/api/health/",
            "/static",
            "/v1/models/a%2Fb",
            "//api/chat",
            "/",
        ] {
            assert_eq!(of("GET", path), None, "{path}");
        }
        let refused = Some(Route::WrongMethod(METHODS));
        assert_eq!(of("TRACE", "/api/proxy"), refused);
    }

    #[test]
    fn what_two_readers_could_take_for_two_paths_is_not_found() {
        for path in [
            "/ui/../api/chat",
            "/ui/./x",
            "/ui//x",
            "//ui/x",
            "/api/../ui/x",
            "/api/chat/../proxy/nodes",
            "/ui/%2e%2e/api/chat",
            "/ui/..%2fx",
            "/api%2Fproxy",
            "/api/%70roxy",
            "/%75i/x",
            "/ui/a%2Fb",
            "/ui/a%5cb",
            "/ui/a\\b",
            "\\ui\\a",
            "/ui\\a",
            "/ui/a%00",
            "/ui/a%0d%0ab",
            "/ui/a%7f",
            "/ui/a%252f",
            "/ui/a%ff",
            "/ui/a%zz",
            "/ui/a%+5",
            "/ui/a%2",
            "/ui/ä",
            "/ui/x/..",
            "/static/../api/me",
        ] {
            for method in ["GET", "POST", "TRACE"] {
                assert_eq!(of(method, path), Some(Route::NotFound), "{method} {path}");
            }
        }
    }

    #[test]
    fn browsers_prefer_html_and_programs_do_not() {
        let root = |method: &str, lines: &[&str]| {
            route(&method.parse().unwrap(), "/", &accepting(lines)) == Some(Route::FrontDoor)
        };
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert!(root("GET", &[browser]) && root("HEAD", &[browser]));
        assert!(!root("POST", &[browser]), "as today");
        for lines in [
            &["text/html"][..],
            &["*/*;q=0.1", "Text/HTML ; q=0.5"],
            &["text/html, text/*;q=0.9"],
            &["text/html;level=1;q=0.4, text/plain;q=0.3"],
            &["text/html, text/plain;q=0, */*;q=0.5"],
        ] {
            assert!(root("GET", lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &["*/*"],
            &["text/html, */*"],
            &["text/html, text/plain"],
            &["text/html;q=0"],
            &["text/html;q=high"],
            &["text/html;q=7"],
            &["text/html;q=0.5, text/*"],
            &["application/json"],
            &[""],
        ] {
            assert!(!root("GET", lines), "{lines:?}");
        }
    }

    #[test]
    fn loopback_is_told_of_clients_on_this_machine_alone() {
        let told = |ip: Option<&str>, local, is_foreign| {
            let ip = ip.map(|ip| ip.parse().unwrap());
            let client = ClientAddress {
                ip,
                local,
                proxied: false,
            };
            told_client(&client, is_foreign)
        };
        assert_eq!(told(Some("127.0.0.1"), true, false), "127.0.0.1");
        assert_eq!(told(Some("::1"), true, false), "::1");
        assert_eq!(told(Some("127.0.0.1"), true, true), "unknown");
        for ip in ["127.0.0.1", "127.8.0.1", "::1", "0.0.0.0", "::"] {
            assert_eq!(told(Some(ip), false, false), "unknown", "{ip}");
        }
        assert_eq!(told(Some("192.0.2.7"), false, true), "192.0.2.7");
        assert_eq!(told(None, false, false), "unknown");
    }

    #[test]
    fn only_a_trusted_proxy_may_say_that_its_client_came_over_tls() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-proto", HeaderValue::from_static("http, https"));
        let from = |proxied| ClientAddress {
            proxied,
            ..ClientAddress::default()
        };
        assert!(is_https(&from(true), false, &headers));
        assert!(!is_https(&from(false), false, &headers));
        assert!(is_https(&from(false), true, &HeaderMap::new()));
        headers.append("x-forwarded-proto", HeaderValue::from_static("http"));
        assert!(!is_https(&from(true), false, &headers));
    }
}
