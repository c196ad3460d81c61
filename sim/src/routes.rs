//! Ollama's table of routes, and what gin and `ServeMux` do with everything beside it.

/// A route and, where its path has one, the variable part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Root,
    Version,
    Status,
    Tags,
    Ps,
    Show,
    Generate,
    Chat,
    Embed,
    Embeddings,
    Pull,
    Push,
    Create,
    BlobPut(String),
    BlobHead(String),
    Copy,
    Delete,
    Me,
    Signout,
    WebTool(&'static str),
    Recommendations,
    V1Chat,
    V1Completions,
    V1Embeddings,
    V1Responses,
    V1Messages,
    V1Transcriptions,
    V1Models,
    V1Model(String),
}

impl Route {
    /// Whether it runs a model.
    pub(crate) fn is_inference(&self) -> bool {
        matches!(
            self,
            Self::Generate
                | Self::Chat
                | Self::Embed
                | Self::Embeddings
                | Self::V1Chat
                | Self::V1Completions
                | Self::V1Embeddings
                | Self::V1Responses
                | Self::V1Messages
                | Self::V1Transcriptions
        )
    }

    /// Whether its body may come in zstd.
    pub(crate) fn takes_zstd(&self) -> bool {
        matches!(
            self,
            Self::V1Chat
                | Self::V1Completions
                | Self::V1Embeddings
                | Self::V1Responses
                | Self::V1Messages
        )
    }
}

/// What a method and path lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    Found(Route),
    /// Another method would do; the value of `Allow`.
    NotAllowed(String),
    NotFound,
    /// Another spelling would do.
    Redirect {
        status: u16,
        path: String,
    },
}

/// gin's order of methods in `Allow`: as its trees were made.
const METHODS: [&str; 4] = ["HEAD", "GET", "POST", "DELETE"];

/// Looks a request up, the path decoded and without its query.
pub(crate) fn resolve(method: &str, path: &str) -> Resolution {
    let clean = clean(path);
    if clean != path {
        return Resolution::Redirect {
            status: 307,
            path: clean,
        };
    }
    if let Some(route) = lookup(method, path) {
        return Resolution::Found(route);
    }
    let other = match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        _ => format!("{path}/"),
    };
    if lookup(method, &other).is_some() {
        let status = if method == "GET" { 301 } else { 307 };
        return Resolution::Redirect {
            status,
            path: other,
        };
    }
    let allowed: Vec<&str> = METHODS
        .into_iter()
        .filter(|m| lookup(m, path).is_some())
        .collect();
    if allowed.is_empty() {
        Resolution::NotFound
    } else {
        Resolution::NotAllowed(allowed.join(", "))
    }
}

fn lookup(method: &str, path: &str) -> Option<Route> {
    let route = match (method, path) {
        ("GET" | "HEAD", "/") => Route::Root,
        ("GET" | "HEAD", "/api/version") => Route::Version,
        ("GET" | "HEAD", "/api/tags") => Route::Tags,
        ("GET", "/api/status") => Route::Status,
        ("GET", "/api/ps") => Route::Ps,
        ("POST", "/api/show") => Route::Show,
        ("POST", "/api/generate") => Route::Generate,
        ("POST", "/api/chat") => Route::Chat,
        ("POST", "/api/embed") => Route::Embed,
        ("POST", "/api/embeddings") => Route::Embeddings,
        ("POST", "/api/pull") => Route::Pull,
        ("POST", "/api/push") => Route::Push,
        ("POST", "/api/create") => Route::Create,
        ("POST", "/api/copy") => Route::Copy,
        ("DELETE", "/api/delete") => Route::Delete,
        ("POST", "/api/me") => Route::Me,
        ("POST", "/api/signout") => Route::Signout,
        ("POST", "/api/experimental/web_search") => Route::WebTool("web_search"),
        ("POST", "/api/experimental/web_fetch") => Route::WebTool("web_fetch"),
        ("GET", "/api/experimental/model-recommendations") => Route::Recommendations,
        ("POST", "/v1/chat/completions") => Route::V1Chat,
        ("POST", "/v1/completions") => Route::V1Completions,
        ("POST", "/v1/embeddings") => Route::V1Embeddings,
        ("POST", "/v1/responses") => Route::V1Responses,
        ("POST", "/v1/messages") => Route::V1Messages,
        ("POST", "/v1/audio/transcriptions") => Route::V1Transcriptions,
        ("GET", "/v1/models") => Route::V1Models,
        _ => return with_variable(method, path),
    };
    Some(route)
}

fn with_variable(method: &str, path: &str) -> Option<Route> {
    let (prefix, last) = path.rsplit_once('/')?;
    if last.is_empty() {
        return None;
    }
    match (method, prefix) {
        ("POST", "/api/blobs") => Some(Route::BlobPut(last.to_owned())),
        ("HEAD", "/api/blobs") => Some(Route::BlobHead(last.to_owned())),
        ("GET", "/v1/models") => Some(Route::V1Model(last.to_owned())),
        ("DELETE", "/api/user/keys") => Some(Route::Signout),
        _ => None,
    }
}

/// `ServeMux`'s `cleanPath`: no doubled slashes, no dots, a final slash kept.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let mut out = format!("/{}", parts.join("/"));
    if path.ends_with('/') && out != "/" {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_dots_are_redirected() {
        for (method, path, status, to) in [
            ("GET", "/api/tags/", 301, "/api/tags"),
            ("POST", "/api/chat/", 307, "/api/chat"),
            ("GET", "//api/tags", 307, "/api/tags"),
            ("GET", "/api/../api/tags", 307, "/api/tags"),
        ] {
            let want = Resolution::Redirect {
                status,
                path: to.into(),
            };
            assert_eq!(resolve(method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn another_method_is_not_allowed_and_says_which_is() {
        assert_eq!(
            resolve("GET", "/api/chat"),
            Resolution::NotAllowed("POST".into())
        );
        assert_eq!(
            resolve("POST", "/api/tags"),
            Resolution::NotAllowed("HEAD, GET".into())
        );
        assert_eq!(
            resolve("GET", "/v1/models/library/tiny"),
            Resolution::NotFound
        );
    }
}
