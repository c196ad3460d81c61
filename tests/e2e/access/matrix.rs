//! Setting × source × credential × route: what may pass, each cell written down.

use aivonx_sim::SimNode;
use base64::Engine as _;

use super::{ask_on, bearer, key, node};
use crate::support::{Aivonx, Client, Setup};

/// What `anonymous` says.
const SETTINGS: [(&str, &str); 4] = [
    ("loopback", "loopback"),
    ("always", "always"),
    ("never", "never"),
    (
        "networks",
        "[{cidr: 10.1.0.0/16, id: office}, {cidr: 10.2.0.0/16, id: lab, scopes: [infer, manage]}]",
    ),
];

/// Where a request comes from: the address it connects from and its header. 127.0.0.2 is a trusted
/// proxy, 127.0.0.1 is none.
const SOURCES: [(&str, [u8; 4], &str); 8] = [
    ("local", [127, 0, 0, 1], ""),
    ("forged", [127, 0, 0, 1], "X-Forwarded-For: 10.1.2.3\r\n"),
    ("unsaid", [127, 0, 0, 1], "Via: 1.1 proxy\r\n"),
    (
        "office",
        [127, 0, 0, 2],
        "X-Forwarded-For: 127.0.0.1, 10.1.2.3\r\n",
    ),
    ("lab", [127, 0, 0, 2], "X-Forwarded-For: 10.2.2.3\r\n"),
    (
        "stranger",
        [127, 0, 0, 2],
        "X-Forwarded-For: 10.2.2.3, 192.0.2.7\r\n",
    ),
    ("silent", [127, 0, 0, 2], ""),
    ("behind", [127, 0, 0, 2], "X-Forwarded-For: 127.0.0.1\r\n"),
];

/// Credentials in the order of the columns below.
const CREDENTIALS: [&str; 6] = ["none", "dummy", "infer", "manage", "both", "expired"];

/// The cells: for each setting and source, and each credential, what becomes of a request that
/// needs `infer` and of one that needs `manage`: `y` it passes, `1` 401, `3` 403.
const CELLS: &str = "
                      none dummy infer manage both expired
    loopback local     yy   yy    y3    3y     yy   11
    loopback forged    11   11    y3    3y     yy   11
    loopback unsaid    11   11    y3    3y     yy   11
    loopback office    11   11    y3    3y     yy   11
    loopback lab       11   11    y3    3y     yy   11
    loopback stranger  11   11    y3    3y     yy   11
    loopback silent    11   11    y3    3y     yy   11
    loopback behind    yy   yy    y3    3y     yy   11
    always   local     yy   yy    y3    3y     yy   11
    always   forged    y1   y1    y3    3y     yy   11
    always   unsaid    y1   y1    y3    3y     yy   11
    always   office    y1   y1    y3    3y     yy   11
    always   lab       y1   y1    y3    3y     yy   11
    always   stranger  y1   y1    y3    3y     yy   11
    always   silent    y1   y1    y3    3y     yy   11
    always   behind    yy   yy    y3    3y     yy   11
    never    local     11   11    y3    3y     yy   11
    never    forged    11   11    y3    3y     yy   11
    never    unsaid    11   11    y3    3y     yy   11
    never    office    11   11    y3    3y     yy   11
    never    lab       11   11    y3    3y     yy   11
    never    stranger  11   11    y3    3y     yy   11
    never    silent    11   11    y3    3y     yy   11
    never    behind    11   11    y3    3y     yy   11
    networks local     11   11    y3    3y     yy   11
    networks forged    11   11    y3    3y     yy   11
    networks unsaid    11   11    y3    3y     yy   11
    networks office    y1   y1    y3    3y     yy   11
    networks lab       yy   yy    y3    3y     yy   11
    networks stranger  11   11    y3    3y     yy   11
    networks silent    11   11    y3    3y     yy   11
    networks behind    11   11    y3    3y     yy   11
";

/// A route, with the status of a request that passes.
type Route = (&'static str, &'static str, u16);

/// Routes that need `infer`; the model is one that nobody has.
const INFER: [Route; 17] = [
    ("GET", "/api/tags", 200),
    ("HEAD", "/api/tags", 200),
    ("GET", "/api/ps", 200),
    ("GET", "/api/status", 200),
    ("GET", "/v1/models", 200),
    ("GET", "/v1/models/tiny", 200),
    ("POST", "/api/show", 404),
    ("POST", "/api/generate", 404),
    ("POST", "/api/chat", 404),
    ("POST", "/api/embed", 404),
    ("POST", "/api/embeddings", 404),
    ("POST", "/v1/chat/completions", 404),
    ("POST", "/v1/completions", 404),
    ("POST", "/v1/embeddings", 404),
    ("POST", "/v1/responses", 404),
    ("POST", "/v1/messages", 404),
    ("POST", "/v1/systemone", 404),
];

/// Routes that need `manage`.
const MANAGE: [Route; 2] = [("POST", "/api/nosuch", 404), ("DELETE", "/api/delete", 404)];

/// Routes that anybody may ask, whatever the credential.
const OPEN: [Route; 5] = [
    ("GET", "/", 200),
    ("HEAD", "/", 200),
    ("GET", "/api/version", 200),
    ("GET", "/nosuch", 404),
    ("PUT", "/api/chat", 405),
];

/// Routes that nobody may ask.
const BLOCKED: [Route; 3] = [
    ("POST", "/api/me", 403),
    ("POST", "/api/signout", 403),
    ("DELETE", "/api/user/keys/abc", 403),
];

/// A body that every route takes, for a model that nobody has.
const BODY: &str = r#"{"model":"nosuch","prompt":"x","input":"x","max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#;

fn credential(name: &str) -> String {
    match name {
        "none" => String::new(),
        "dummy" => "Authorization: Bearer ollama\r\n".into(),
        key => bearer(key),
    }
}

async fn start(node: &SimNode, anonymous: &str) -> Aivonx {
    let keys = [
        key("infer", ""),
        key("manage", ", scopes: [manage]"),
        key("both", ", scopes: [infer, manage]"),
        key("expired", ", scopes: [infer, manage], expires: 2020-01-01"),
    ];
    let document = format!("anonymous: {anonymous}\nkeys:\n{}", keys.concat());
    Setup::nodes_with(&[node], "", &document)
        .set("TRUSTED_PROXIES", "[127.0.0.2]")
        .start()
        .await
}

/// The status of a cell's letter.
fn expected(cell: char, passes: u16) -> u16 {
    match cell {
        'y' => passes,
        '1' => 401,
        '3' => 403,
        other => panic!("`{other}` is no cell"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_setting_source_credential_and_route_is_as_written_down() {
    let node = node(&["tiny"]).await;
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (setting, anonymous) in SETTINGS {
        let aivonx = start(&node, anonymous).await;
        for (source, from, header) in SOURCES {
            let mut client = Client::connect_from(from, aivonx.addr).await;
            let row: Vec<&str> = CELLS
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .find(|row| row.starts_with(&[setting, source]))
                .unwrap_or_else(|| panic!("no row for {setting} {source}"));
            for (credential_name, cell) in CREDENTIALS.iter().zip(&row[2..]) {
                let [infer, manage] = [0, 1].map(|at| cell.chars().nth(at).unwrap());
                let headers = format!("{header}{}", credential(credential_name));
                let routes = INFER.iter().map(|route| (route, expected(infer, route.2)));
                let routes = routes.chain(MANAGE.iter().map(|r| (r, expected(manage, r.2))));
                let routes = routes.chain(OPEN.iter().chain(&BLOCKED).map(|r| (r, r.2)));
                for (&(method, path, _), want) in routes {
                    let answer = ask_on(&mut client, &headers, method, path, BODY).await;
                    cells += 1;
                    if answer.status != want {
                        wrong.push(format!(
                            "{setting} {source} {credential_name} {method} {path}: want {want}, got {} {}",
                            answer.status,
                            answer.text()
                        ));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {cells}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(cells, 4 * 8 * 6 * (17 + 2 + 5 + 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_counts_where_clients_put_it_and_nowhere_else() {
    let node = node(&["tiny"]).await;
    let aivonx = start(&node, "never").await;
    let basic = base64::engine::general_purpose::STANDARD.encode("ann:secret-infer");
    let user = base64::engine::general_purpose::STANDARD.encode("secret-infer:");
    let places = [
        (200, "Authorization: Bearer secret-infer".to_owned()),
        (200, "authorization: bearer secret-infer".to_owned()),
        (200, "X-Api-Key: secret-infer".to_owned()),
        (200, format!("Authorization: Basic {basic}")),
        (
            200,
            "Authorization: Bearer dummy\r\nX-Api-Key: secret-infer".to_owned(),
        ),
        (401, format!("Authorization: Basic {user}")),
        (401, "Authorization: secret-infer".to_owned()),
        (401, "Authorization: Token secret-infer".to_owned()),
        (401, "Proxy-Authorization: Bearer secret-infer".to_owned()),
        (401, "Cookie: key=secret-infer".to_owned()),
        (401, "Api-Key: secret-infer".to_owned()),
        (401, "X-Request-Id: secret-infer".to_owned()),
        (401, format!("X-Api-Key: {}", super::sha256("secret-infer"))),
        (401, "X-Api-Key: secret-infer2".to_owned()),
        (401, "X-Api-Key: secret-infe".to_owned()),
        (401, "X-Api-Key:".to_owned()),
    ];
    for (want, place) in places {
        let answer = super::ask(aivonx.addr, &format!("{place}\r\n"), "GET", "/api/tags", "").await;
        assert_eq!(answer.status, want, "{place}");
    }
    for path in [
        "/api/tags?key=secret-infer",
        "/api/tags?api_key=secret-infer",
    ] {
        assert_eq!(
            super::ask(aivonx.addr, "", "GET", path, "").await.status,
            401
        );
    }
    let log = aivonx.log();
    assert!(!log.contains("secret-"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_speaks_the_dialect_of_its_path_and_says_how_to_present_a_key() {
    let node = node(&["tiny"]).await;
    let aivonx = start(&node, "never").await;
    let text = "an API key is needed: send it as `Authorization: Bearer` or `x-api-key`";
    for (path, message, kind) in [
        ("/api/chat", "/error", None),
        (
            "/v1/chat/completions",
            "/error/message",
            Some("authentication_error"),
        ),
        (
            "/v1/messages",
            "/error/message",
            Some("authentication_error"),
        ),
    ] {
        let body = super::chat("tiny");
        let answer = super::ask(aivonx.addr, "", "POST", path, &body).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"aivonx\"")
        );
        assert_eq!(answer.json().pointer(message).unwrap(), text, "{path}");
        let found = answer.json();
        assert_eq!(
            found.pointer("/error/type").and_then(|kind| kind.as_str()),
            kind
        );
    }
    let expired = super::ask(aivonx.addr, &bearer("expired"), "GET", "/api/tags", "").await;
    assert_eq!(expired.json()["error"], "the API key `expired` has expired");
    assert_eq!(
        node.requests()
            .iter()
            .filter(|seen| seen.path == "/api/chat")
            .count(),
        0
    );
    aivonx
        .metric_is("aivonx_rejections_total{reason=\"no_key\"}", 3.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sees_neither_key_nor_user() {
    let node = node(&["tiny"]).await;
    let document = format!("keys:\n{}", key("ui", ", user_header: X-User-Email"));
    let aivonx = Setup::nodes_with(&[&node], "", &document).start().await;
    let headers = format!(
        "{}X-Api-Key: secret-ui\r\nX-User-Email: ann@example.com\r\nX-Request-Id: who-1\r\n",
        bearer("ui")
    );
    let answer = super::ask(
        aivonx.addr,
        &headers,
        "POST",
        "/api/chat",
        &super::chat("tiny"),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = crate::support::last_chat(&node);
    let text = format!("{seen:?}").to_lowercase();
    for secret in ["secret-ui", "ann@example.com", "authorization", "x-api-key"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let line = aivonx.access_line("who-1").await;
    assert_eq!(
        (&line["key"], &line["user"]),
        (&"ui".into(), &"ann@example.com".into())
    );
    assert_eq!(aivonx.metric("aivonx_key_requests_total{key=\"ui\"}"), 1.0);
    assert_eq!(
        aivonx.metric("aivonx_key_tokens_total{key=\"ui\",kind=\"output\"}"),
        3.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_needs_a_key_or_an_allowed_host_and_always_an_allowed_origin() {
    let node = node(&["tiny"]).await;
    let aivonx = start(&node, "loopback").await;
    let with = async |key: &str, host: &str, origin: &str, method: &str| {
        let mut client = Client::connect(aivonx.addr).await;
        let preflight = if method == "OPTIONS" {
            "Access-Control-Request-Method: GET\r\n"
        } else {
            ""
        };
        client
            .send(format!(
                "{method} /api/tags HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{preflight}{key}\r\n"
            ))
            .await;
        let answer = client.response().await;
        (
            answer.status,
            answer
                .header("access-control-allow-origin")
                .map(str::to_owned),
        )
    };
    let (near, far) = ("http://localhost:3000", "https://evil.example.com");
    let named = Some(near.to_owned());
    let key = bearer("infer");
    assert_eq!(
        with("", "localhost", near, "GET").await,
        (200, named.clone())
    );
    assert_eq!(
        with("", "rebound.example.com", near, "GET").await,
        (403, None)
    );
    assert_eq!(
        with(&key, "ai.example.com", near, "GET").await,
        (200, named.clone())
    );
    assert_eq!(with(&key, "localhost", far, "GET").await, (403, None));
    assert_eq!(
        with("", "ai.example.com", near, "OPTIONS").await,
        (204, named)
    );
    assert_eq!(with("", "localhost", far, "OPTIONS").await, (403, None));
}
