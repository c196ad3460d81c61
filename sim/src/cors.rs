//! Who may talk to a node: the Origin check first, then the Host check of a loopback listener.

use std::net::IpAddr;

use crate::http::head::Head;
use crate::http::reply::Reply;

const ALLOW_HEADERS: &str = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,\
Openai-Beta,X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,\
X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,\
X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,\
X-Stainless-Timeout";

/// What the checks say. Headers they want are already on the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// End here with this status and no body.
    End(u16),
}

/// Checks Origin and Host as gin-contrib/cors and Ollama do.
pub(crate) fn check(head: &Head, reply: &mut Reply<'_>) -> Verdict {
    let host = head.get("host").unwrap_or_default();
    let origin = head.get("origin").unwrap_or_default();
    let same = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        == Some(host);
    if !origin.is_empty() && !same {
        if !is_allowed_origin(origin) {
            return Verdict::End(403);
        }
        reply.add_header("Access-Control-Allow-Origin", origin);
        reply.add_header("Vary", "Origin");
        if head.method == "OPTIONS" {
            reply.add_header("Access-Control-Allow-Headers", ALLOW_HEADERS);
            reply.add_header(
                "Access-Control-Allow-Methods",
                "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
            );
            reply.add_header("Access-Control-Max-Age", "43200");
            reply.add_header("Vary", "Access-Control-Request-Method");
            reply.add_header("Vary", "Access-Control-Request-Headers");
            return Verdict::End(204);
        }
    }
    if is_allowed_host(host) {
        Verdict::Pass
    } else {
        Verdict::End(403)
    }
}

fn is_allowed_origin(origin: &str) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else {
        return false;
    };
    match scheme {
        "app" | "file" | "tauri" | "vscode-webview" | "vscode-file" => true,
        "http" | "https" => {
            let host = match rest.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
                _ => rest,
            };
            matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0" | "[::1]")
        }
        _ => false,
    }
}

fn is_allowed_host(host: &str) -> bool {
    let bare = without_port(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return is_near(address);
    }
    let name = bare.to_ascii_lowercase();
    name.is_empty()
        || name == "localhost"
        || [".localhost", ".local", ".internal"]
            .iter()
            .any(|end| name.ends_with(end))
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unspecified(),
    }
}
