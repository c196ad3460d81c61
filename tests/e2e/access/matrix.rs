//! Setting × source × credential × route: what may pass, each cell written down.

use aivonx_sim::SimNode;

use super::{ask_on, bearer, key, node};
use crate::support::{Aivonx, Client, Setup, fleet_yaml, until};

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
/// needs `infer`, of one that needs `manage`, and of one that needs both: `y` it passes, `1` 401,
/// `3` 403.
const CELLS: &str = "
                      none   dummy  infer  manage both   expired
    loopback local    yyy    yyy    y33    3y3    yyy    111
    loopback forged   111    111    y33    3y3    yyy    111
    loopback unsaid   111    111    y33    3y3    yyy    111
    loopback office   111    111    y33    3y3    yyy    111
    loopback lab      111    111    y33    3y3    yyy    111
    loopback stranger 111    111    y33    3y3    yyy    111
    loopback silent   111    111    y33    3y3    yyy    111
    loopback behind   yyy    yyy    y33    3y3    yyy    111
    always   local    yyy    yyy    y33    3y3    yyy    111
    always   forged   y11    y11    y33    3y3    yyy    111
    always   unsaid   y11    y11    y33    3y3    yyy    111
    always   office   y11    y11    y33    3y3    yyy    111
    always   lab      y11    y11    y33    3y3    yyy    111
    always   stranger y11    y11    y33    3y3    yyy    111
    always   silent   y11    y11    y33    3y3    yyy    111
    always   behind   yyy    yyy    y33    3y3    yyy    111
    never    local    111    111    y33    3y3    yyy    111
    never    forged   111    111    y33    3y3    yyy    111
    never    unsaid   111    111    y33    3y3    yyy    111
    never    office   111    111    y33    3y3    yyy    111
    never    lab      111    111    y33    3y3    yyy    111
    never    stranger 111    111    y33    3y3    yyy    111
    never    silent   111    111    y33    3y3    yyy    111
    never    behind   111    111    y33    3y3    yyy    111
    networks local    111    111    y33    3y3    yyy    111
    networks forged   111    111    y33    3y3    yyy    111
    networks unsaid   111    111    y33    3y3    yyy    111
    networks office   y11    y11    y33    3y3    yyy    111
    networks lab      yyy    yyy    y33    3y3    yyy    111
    networks stranger 111    111    y33    3y3    yyy    111
    networks silent   111    111    y33    3y3    yyy    111
    networks behind   111    111    y33    3y3    yyy    111
";

/// What a request needs.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    Infer,
    Manage,
    /// Work on a node that it names.
    Both,
}

use Needs::{Both, Infer, Manage, Nothing};

/// A request, with its status where it passes and where its key may use another model only.
struct Asked {
    needs: Needs,
    method: &'static str,
    path: &'static str,
    passes: u16,
    restricted: u16,
    headers: &'static str,
    body: &'static str,
}

const fn asked(
    needs: Needs,
    method: &'static str,
    path: &'static str,
    passes: u16,
    restricted: u16,
) -> Asked {
    Asked {
        needs,
        method,
        path,
        passes,
        restricted,
        headers: "",
        body: BODY,
    }
}

impl Asked {
    const fn body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    const fn headers(self, headers: &'static str) -> Self {
        Self { headers, ..self }
    }
}

/// A body that every route of inference takes, for a model that nobody has.
const BODY: &str = r#"{"model":"nosuch","prompt":"x","input":"x","max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#;
const UNLOAD: &str = r#"{"model":"nosuch","keep_alive":0}"#;
const PIN: &str = "X-Aivonx-Node: n0\r\n";
const PREFLIGHT: &str = "Origin: http://localhost:3000\r\nAccess-Control-Request-Method: POST\r\n";

/// Every kind of route. None of these requests changes a node.
const ROUTES: [Asked; 51] = [
    asked(Nothing, "GET", "/", 200, 200),
    asked(Nothing, "HEAD", "/", 200, 200),
    asked(Nothing, "GET", "/api/version", 200, 200),
    asked(Nothing, "GET", "/nosuch", 404, 404),
    asked(Nothing, "PUT", "/api/chat", 405, 405),
    asked(Nothing, "OPTIONS", "/api/chat", 405, 405),
    asked(Nothing, "OPTIONS", "/api/chat", 204, 204).headers(PREFLIGHT),
    asked(Nothing, "OPTIONS", "/api/pull", 204, 204).headers(PREFLIGHT),
    // for nobody
    asked(Nothing, "POST", "/api/me", 403, 403),
    asked(Nothing, "POST", "/api/signout", 403, 403),
    asked(Nothing, "DELETE", "/api/user/keys/abc", 403, 403),
    asked(Infer, "GET", "/api/tags", 200, 200),
    asked(Infer, "HEAD", "/api/tags", 200, 200),
    asked(Infer, "GET", "/api/ps", 200, 200),
    asked(Infer, "GET", "/api/status", 200, 200),
    asked(Infer, "GET", "/v1/models", 200, 200),
    asked(Infer, "GET", "/v1/models/tiny", 200, 404),
    asked(Infer, "POST", "/api/show", 404, 403),
    asked(Infer, "POST", "/api/generate", 404, 403),
    asked(Infer, "POST", "/api/chat", 404, 403),
    asked(Infer, "POST", "/api/embed", 404, 403),
    asked(Infer, "POST", "/api/embeddings", 404, 403),
    asked(Infer, "POST", "/v1/chat/completions", 404, 403),
    asked(Infer, "POST", "/v1/completions", 404, 403),
    asked(Infer, "POST", "/v1/embeddings", 404, 403),
    asked(Infer, "POST", "/v1/responses", 404, 403),
    asked(Infer, "POST", "/v1/messages", 404, 403),
    asked(Infer, "POST", "/v1/systemone", 404, 403),
    // no form: a node says so
    asked(Infer, "POST", "/v1/audio/transcriptions", 400, 403),
    // nothing leaves the house
    asked(Infer, "POST", "/api/experimental/web_search", 403, 403),
    asked(Infer, "POST", "/api/experimental/web_fetch", 403, 403),
    asked(
        Infer,
        "GET",
        "/api/experimental/model-recommendations",
        200,
        200,
    ),
    asked(Manage, "POST", "/api/generate", 404, 403).body(UNLOAD),
    asked(Manage, "POST", "/api/chat", 404, 403).body(UNLOAD),
    asked(Manage, "POST", "/api/embed", 404, 403).body(UNLOAD),
    asked(Manage, "POST", "/api/embeddings", 404, 403).body(UNLOAD),
    asked(Manage, "POST", "/api/nosuch", 404, 403),
    asked(Manage, "DELETE", "/api/delete", 404, 403),
    // no registry has it: the node's last line says so
    asked(Manage, "POST", "/api/pull", 200, 403),
    asked(Manage, "POST", "/api/push", 500, 403),
    // neither from nor files
    asked(Manage, "POST", "/api/create", 400, 403),
    asked(Manage, "POST", "/api/copy", 404, 403)
        .body(r#"{"source":"nosuch","destination":"nosuch2"}"#),
    // no digest
    asked(Manage, "POST", "/api/blobs/sha256:ab", 400, 400),
    asked(Manage, "HEAD", "/api/blobs/sha256:ab", 400, 400).body(""),
    asked(Manage, "GET", "/api/version", 200, 200).headers(PIN),
    asked(Both, "GET", "/api/ps", 200, 200).headers(PIN),
    asked(Both, "GET", "/api/tags", 200, 200).headers(PIN),
    asked(Both, "POST", "/api/chat", 404, 403).headers(PIN),
    asked(Both, "POST", "/v1/messages", 404, 403).headers(PIN),
    asked(Manage, "POST", "/api/generate", 404, 403)
        .headers(PIN)
        .body(UNLOAD),
    asked(Manage, "DELETE", "/api/delete", 404, 403).headers(PIN),
];

fn credential(name: &str) -> String {
    match name {
        "none" => String::new(),
        "dummy" => "Authorization: Bearer ollama\r\n".into(),
        key => bearer(key),
    }
}

pub(super) async fn start(node: &SimNode, anonymous: &str) -> Aivonx {
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

/// The status of a request whose cell is this.
fn expected(cell: &str, asked: &Asked) -> u16 {
    let letter = match asked.needs {
        Nothing => return asked.passes,
        Infer => cell.chars().next(),
        Manage => cell.chars().nth(1),
        Both => cell.chars().nth(2),
    };
    match letter {
        Some('y') => asked.passes,
        Some('1') => 401,
        Some('3') => 403,
        other => panic!("{other:?} is no cell"),
    }
}

/// Asks; what came if it is not as wanted.
async fn differs(client: &mut Client, headers: &str, asked: &Asked, want: u16) -> Option<String> {
    let headers = format!("{headers}{}", asked.headers);
    let answer = ask_on(client, &headers, asked.method, asked.path, asked.body).await;
    let Asked { method, path, .. } = asked;
    let (status, text) = (answer.status, answer.text());
    (status != want)
        .then(|| format!("{method} {path} {headers:?}: want {want}, got {status} {text}"))
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
                let headers = format!("{header}{}", credential(credential_name));
                for asked in &ROUTES {
                    let want = expected(cell, asked);
                    let other = differs(&mut client, &headers, asked, want).await;
                    wrong.extend(
                        other.map(|text| format!("{setting} {source} {credential_name} {text}")),
                    );
                    cells += 1;
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
    assert_eq!(cells, 4 * 8 * 6 * ROUTES.len());
    assert_eq!(node.installed(), ["tiny:latest"]);
}

/// States of a key that has both scopes, and the status of what needs one where it is refused for
/// its state.
const STATES: [(&str, Option<u16>); 4] = [
    ("restricted", None),
    ("spent", Some(429)),
    ("revoked", Some(401)),
    ("expired", Some(401)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_key_state_and_route_is_as_written_down() {
    let node = node(&["tiny"]).await;
    let both = |id: &str, more: &str| key(id, &format!(", scopes: [infer, manage]{more}"));
    let document = |revoked: &str| {
        let keys = [
            both("restricted", ", models: [other]"),
            both("spent", ", rate: 1/d"),
            both("expired", ", expires: 2020-01-01"),
        ];
        format!("anonymous: never\nkeys:\n{}{revoked}", keys.concat())
    };
    let with_key = document(&both("revoked", ""));
    let aivonx = Setup::nodes_with(&[&node], "", &with_key).start().await;
    let mut client = Client::connect(aivonx.addr).await;
    for id in ["spent", "revoked"] {
        let answer = ask_on(&mut client, &bearer(id), "GET", "/api/tags", "").await;
        assert_eq!(answer.status, 200, "{id}");
    }
    aivonx.write_fleet(&fleet_yaml(&[&node], "", &document("")));
    until("the key is out", || async {
        let answer = super::ask(aivonx.addr, &bearer("revoked"), "GET", "/api/tags", "").await;
        answer.status == 401
    })
    .await;
    let mut wrong = Vec::new();
    for (state, refused) in STATES {
        for asked in &ROUTES {
            let want = match (asked.needs, refused) {
                (Nothing, _) => asked.passes,
                (_, Some(status)) => status,
                (_, None) => asked.restricted,
            };
            let other = differs(&mut client, &bearer(state), asked, want).await;
            wrong.extend(other.map(|text| format!("{state} {text}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(node.installed(), ["tiny:latest"]);
}
