//! Method and path → what is to be done. The table is ollama-api.md §1, the layer around it
//! (404, 405, redirects) as Go's router answers (recordings `routing-*`). `kind` tells routes apart,
//! `path` is how paths are spelled.

mod kind;
pub(crate) mod path;

use aivonx_shared::error_body::Dialect;
use http::Method;

pub(crate) use kind::{NodeRoute, Scope, StoreRoute};
use path::{cleaned, encoded, is_plain, unescaped};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET`/`HEAD /`.
    Root,
    /// `GET`/`HEAD /api/version`.
    Version,
    /// `GET`/`HEAD /api/tags`.
    Tags,
    /// `GET /api/ps`.
    Ps,
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`, the id decoded.
    Model(String),
    /// Goes to a node.
    Node(NodeRoute),
    /// Changes the store of one node or of several.
    Store(StoreRoute),
    /// Goes to the control plane (`front_door`).
    FrontDoor,
    /// Shows or changes a node's identity at ollama.com: for nobody.
    Blocked(&'static str),
    /// `OPTIONS` of a path with these methods.
    Options(&'static str),
    /// The path exists, the method does not: `Allow`.
    WrongMethod(&'static str),
    /// No such path.
    NotFound,
    /// Another spelling of a path: status and where to.
    Redirect(u16, String),
}

impl Route {
    /// The name in metrics and access lines: from this table, never from the client's text.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Version => "/api/version",
            Self::Tags => "/api/tags",
            Self::Ps => "/api/ps",
            Self::Models => "/v1/models",
            Self::Model(_) => "/v1/models/{id}",
            Self::Node(route) => route.label(),
            Self::Store(route) => route.label(),
            Self::FrontDoor => "front_door",
            Self::Blocked(path) => path,
            Self::Options(_) | Self::WrongMethod(_) | Self::NotFound | Self::Redirect(..) => {
                "other"
            }
        }
    }

    /// Whether it tells something of the nodes without asking one.
    pub(crate) fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Version | Self::Tags | Self::Ps | Self::Models | Self::Model(_)
        )
    }

    /// What a caller needs for it; `None`: nothing, or the control plane asks for it. A POST below `/api`
    /// that this version does not know may change a node.
    pub(crate) fn scope(&self, dialect: Dialect) -> Option<Scope> {
        match self {
            Self::Node(NodeRoute::Unknown) if dialect == Dialect::Ollama => Some(Scope::Manage),
            Self::Tags | Self::Ps | Self::Models | Self::Model(_) | Self::Node(_) => {
                Some(Scope::Infer)
            }
            Self::Store(_) => Some(Scope::Manage),
            Self::Root
            | Self::Version
            | Self::FrontDoor
            | Self::Blocked(_)
            | Self::Options(_)
            | Self::WrongMethod(_)
            | Self::NotFound
            | Self::Redirect(..) => None,
        }
    }

    /// The names in a query that a node reads (a form's fields, which Go looks for there, too) or
    /// hands on to ollama.com. What else stands in one may be a key, and goes nowhere.
    pub(crate) fn query_read(&self) -> &'static [&'static str] {
        match self {
            Self::Node(NodeRoute::V1Transcriptions) => {
                &["model", "response_format", "language", "prompt"]
            }
            Self::Node(NodeRoute::V1Messages) => &["beta"],
            _ => &[],
        }
    }

    /// Reads method and path (without the query). What counts is the decoded path, as in Go.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let bytes = unescaped(path);
        if let Some(clean) = cleaned(&bytes) {
            return Self::Redirect(307, encoded(&clean));
        }
        let path = &*String::from_utf8_lossy(&bytes);
        if let Some((methods, route)) = known(path) {
            return pick(method, methods, route);
        }
        let slashed = path
            .strip_suffix('/')
            .filter(|bare| !bare.is_empty() && known(bare).is_some());
        if let Some(bare) = slashed {
            let status = if method == Method::GET { 301 } else { 307 };
            return Self::Redirect(status, bare.to_owned());
        }
        let ours = path.starts_with("/api/") || path.starts_with("/v1/");
        if method == Method::POST && ours && is_plain(path) {
            Self::Node(NodeRoute::Unknown)
        } else {
            Self::NotFound
        }
    }
}

/// The route of a known path, with the methods it has.
fn known(path: &str) -> Option<(&'static str, Route)> {
    use NodeRoute as N;
    let post = |route| Some(("POST", Route::Node(route)));
    match path {
        "/" => Some(("HEAD, GET", Route::Root)),
        "/api/version" => Some(("HEAD, GET", Route::Version)),
        "/api/tags" => Some(("HEAD, GET", Route::Tags)),
        "/api/ps" => Some(("GET", Route::Ps)),
        "/api/status" | "/api/experimental/model-recommendations" => {
            Some(("GET", Route::Node(N::AnyNode)))
        }
        "/api/experimental/web_search" | "/api/experimental/web_fetch" => post(N::WebTool),
        "/api/generate" => post(N::Generate),
        "/api/chat" => post(N::Chat),
        "/api/embed" => post(N::Embed),
        "/api/embeddings" => post(N::Embeddings),
        "/api/show" => post(N::Show),
        "/v1/chat/completions" => post(N::V1Chat),
        "/v1/completions" => post(N::V1Completions),
        "/v1/embeddings" => post(N::V1Embeddings),
        "/v1/responses" => post(N::V1Responses),
        "/v1/messages" => post(N::V1Messages),
        "/v1/audio/transcriptions" => post(N::V1Transcriptions),
        "/v1/models" => Some(("GET", Route::Models)),
        "/api/pull" => Some(("POST", Route::Store(StoreRoute::Pull))),
        "/api/push" => Some(("POST", Route::Store(StoreRoute::Push))),
        "/api/create" => Some(("POST", Route::Store(StoreRoute::Create))),
        "/api/copy" => Some(("POST", Route::Store(StoreRoute::Copy))),
        "/api/delete" => Some(("DELETE", Route::Store(StoreRoute::Delete))),
        "/api/me" => Some(("POST", Route::Blocked("/api/me"))),
        "/api/signout" => Some(("POST", Route::Blocked("/api/signout"))),
        _ => below(path),
    }
}

/// Paths with a part of the client's own.
fn below(path: &str) -> Option<(&'static str, Route)> {
    let rest = |prefix| {
        path.strip_prefix(prefix)
            .filter(|rest: &&str| !rest.is_empty())
    };
    if let Some(id) = rest("/v1/models/") {
        // unlike Ollama, names with a slash can be asked for: the SDKs send them as %2F
        return (!id.ends_with('/')).then(|| ("GET", Route::Model(id.to_owned())));
    }
    if rest("/api/blobs/").is_some_and(|digest| !digest.contains('/') && is_plain(digest)) {
        return Some(("HEAD, POST", Route::Store(StoreRoute::Blob)));
    }
    if rest("/api/user/keys/").is_some_and(|key| !key.contains('/')) {
        return Some(("DELETE", Route::Blocked("/api/user/keys/{key}")));
    }
    None
}

fn pick(method: &Method, methods: &'static str, route: Route) -> Route {
    if methods.split(", ").any(|known| known == method.as_str()) {
        route
    } else if method == Method::OPTIONS {
        Route::Options(methods)
    } else {
        Route::WrongMethod(methods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str) -> Route {
        Route::of(&method.parse().unwrap(), path)
    }

    #[test]
    fn known_paths_take_their_methods_only() {
        assert_eq!(route("GET", "/"), Route::Root);
        assert_eq!(route("HEAD", "/api/tags"), Route::Tags);
        assert_eq!(route("HEAD", "/api/ps"), Route::WrongMethod("GET"));
        assert_eq!(route("GET", "/api/generate"), Route::WrongMethod("POST"));
        assert_eq!(route("OPTIONS", "/api/chat"), Route::Options("POST"));
        assert_eq!(route("POST", "/api/chat"), Route::Node(NodeRoute::Chat));
        assert_eq!(
            route("DELETE", "/api/delete"),
            Route::Store(StoreRoute::Delete)
        );
        assert_eq!(
            route("HEAD", "/api/blobs/sha256:ab"),
            Route::Store(StoreRoute::Blob)
        );
        assert_eq!(route("POST", "/api/me"), Route::Blocked("/api/me"));
    }

    #[test]
    fn unknown_posts_under_our_roots_are_routed_by_model() {
        assert_eq!(
            route("POST", "/v1/systemone"),
            Route::Node(NodeRoute::Unknown)
        );
        assert_eq!(
            route("POST", "/api/nosuch"),
            Route::Node(NodeRoute::Unknown)
        );
        assert_eq!(route("GET", "/api/nosuch"), Route::NotFound);
        assert_eq!(route("POST", "/nosuch"), Route::NotFound);
    }

    #[test]
    fn other_spellings_are_redirected_as_go_does() {
        assert_eq!(
            route("GET", "/api/tags/"),
            Route::Redirect(301, "/api/tags".into())
        );
        assert_eq!(
            route("POST", "/api/chat/"),
            Route::Redirect(307, "/api/chat".into())
        );
        assert_eq!(
            route("GET", "//api/tags"),
            Route::Redirect(307, "/api/tags".into())
        );
        assert_eq!(
            route("GET", "/api/../api/tags"),
            Route::Redirect(307, "/api/tags".into())
        );
        assert_eq!(route("GET", "/../.."), Route::Redirect(307, "/".into()));
    }

    #[test]
    fn paths_are_read_decoded_and_written_encoded() {
        assert_eq!(route("POST", "/api/%63hat"), Route::Node(NodeRoute::Chat));
        assert_eq!(route("GET", "/api%2Ftags"), Route::Tags);
        assert_eq!(
            route("GET", "/api/%2e%2e/a%0d%0ab c%25"),
            Route::Redirect(307, "/a%0D%0Ab%20c%25".into())
        );
    }

    #[test]
    fn a_path_that_another_server_may_read_otherwise_is_not_there() {
        let climbing = route("POST", "/v1/%ff/..%2f..%2fapi%2fpull");
        assert_eq!(climbing, Route::Redirect(307, "/api/pull".into()));
        for path in [
            "/v1/%252e%252e/api/pull",
            "/v1/..\\..\\api\\pull",
            "/v1/..%5c..%5capi%5cpull",
            "/v1/%252e%252e%252fapi%252fpull",
            "/v1/..%252fapi%252fpull",
            "/v1/x%252f..%252f..%252fapi%252fpull",
            "/v1/%25%32%65%25%32%65/api/pull",
            "/v1/..;/api/pull",
            "/v1/..%3b/api/pull",
            "/v1/x%3f/../api/pull",
            "/v1/%ff",
            "/v1/%c0%ae%c0%ae/api/pull",
            "/v1/\u{fffd}",
            "/v1/x%00",
            "/v1/x%0d%0a",
            "/v1/x%23",
            "/api/%2561pi",
        ] {
            let found = route("POST", path);
            assert!(
                matches!(found, Route::NotFound | Route::Redirect(..)),
                "{path}: {found:?}"
            );
        }
        for path in ["/v1/%66oo", "/v1/images/generations", "/api/a-b_c.d~e"] {
            assert_eq!(route("POST", path), Route::Node(NodeRoute::Unknown));
        }
    }

    #[test]
    fn the_digest_of_a_blob_is_a_plain_segment() {
        let digest = "/api/blobs/sha256:00ff";
        for path in [digest, "/api/blobs/sha256-00ff", "/api/blobs/sha256%3A00ff"] {
            assert_eq!(route("POST", path), Route::Store(StoreRoute::Blob));
        }
        for path in [
            "/api/blobs/..%5c..%5cme",
            "/api/blobs/%252e%252e%252fme",
            "/api/blobs/%ff",
        ] {
            assert_eq!(route("POST", path), Route::NotFound, "{path}");
        }
    }

    #[test]
    fn model_ids_are_decoded() {
        assert_eq!(
            route("GET", "/v1/models/ns%2Ftiny%3A1b"),
            Route::Model("ns/tiny:1b".into())
        );
        assert_eq!(route("GET", "/v1/models/a%zz"), Route::Model("a%zz".into()));
    }
}
