//! Which requests go through, and that nothing of them is changed.

use super::{BROWSER, Control, TOKEN, house, node, open, send};
use crate::edge::with_tls;
use crate::support::{Client, H2, Setup, Tls, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_of_the_control_plane_is_relayed_with_every_method() {
    let (_sim, control, aivonx) = house().await;
    for path in [
        "/ui",
        "/ui/manage",
        "/api/proxy",
        "/api/proxy/nodes/7?fields=name&x=%2F%20",
        "/api/account/login",
        "/api/logs",
        "/api/logs/?limit=5",
        "/api/health",
        "/api/schema?format=json",
        "/swagger",
        "/swagger/app.js",
        "/redoc",
        "/redoc/",
        "/static/a%20b.css",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let body = if matches!(method, "GET" | "HEAD") {
                String::new()
            } else {
                format!("{method} \0\r\n{{\"model\": 7")
            };
            let lines = "X-Request-Id: mine\r\nX-Own: 1\r\nAccept-Encoding: gzip\r\n";
            let answer = send(aivonx.addr, method, path, lines, &body).await;
            let seen = control.last();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, path));
            assert_eq!(seen.body, body.as_bytes(), "{method} {path}");
            assert_eq!(seen.one("x-own"), "1");
            assert_eq!(seen.one("accept-encoding"), "gzip");
            assert_eq!(seen.one("host"), "localhost");
            assert_eq!(seen.one("x-request-id"), "mine");
            assert_eq!((answer.status, answer.header("x-own")), (200, Some("yes")));
            assert_eq!(answer.header("x-request-id"), Some("mine"));
            assert_eq!(answer.header("x-aivonx-node"), None);
            let expected = if method == "HEAD" { "" } else { &body };
            assert_eq!(answer.body, expected.as_bytes(), "{method} {path}");
        }
    }
    let refused = send(aivonx.addr, "TRACE", "/api/proxy", "", "").await;
    assert_eq!(refused.status, 405);
    assert!(control.seen().iter().all(|seen| seen.method != "TRACE"));

    let line = aivonx.access_line("mine").await;
    assert_eq!(
        (line["route"].as_str(), line["node"].as_str()),
        (Some("front_door"), Some(""))
    );
    assert_eq!(line["outcome"], "ok");
    let series = r#"aivonx_requests_total{model="",node="",route="front_door",status="200"}"#;
    assert_eq!(aivonx.metric(series), 98.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_control_planes_stays_here() {
    let (_sim, control, aivonx) = house().await;
    for (path, status) in [
        ("/", 200),
        ("/api/version", 200),
        ("/api/tags", 200),
        ("/v1/models", 200),
        ("/api/health/", 404),
        ("/uix", 404),
        ("/api/account", 404),
        ("/ui/../api/tags", 404),
        ("/ui/%2e%2e/api/tags", 404),
        ("/api/tags/../proxy/nodes", 404),
        ("/api/..//ui/x", 404),
        ("//ui/x", 404),
        ("/ui//x", 404),
        ("/api%2Fproxy", 404),
        ("/%75i/x", 404),
        ("/ui/a%2fb", 404),
        ("/ui/a%5cb", 404),
        ("/ui\\x", 404),
        ("/ui/a%00", 404),
        ("/ui/a%0d%0aX:1", 404),
        ("/ui/a%252f", 404),
        ("//api/tags", 307),
    ] {
        let answer = get(aivonx.addr, path).await;
        assert_eq!(answer.status, status, "{path}");
    }
    // a body that names a model does not lead such a path to a node
    let body = r#"{"model":"tiny"}"#;
    let answer = send(aivonx.addr, "POST", "/api/chat/../proxy", "", body).await;
    assert_eq!(answer.status, 404);
    assert_eq!(control.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_gets_the_console_at_the_root_and_ollamas_clients_its_sign_of_life() {
    let (_sim, control, aivonx) = house().await;
    for method in ["GET", "HEAD"] {
        let answer = send(aivonx.addr, method, "/", BROWSER, "").await;
        assert_eq!(answer.header("x-own"), Some("yes"));
        let seen = control.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, "/"));
    }
    for lines in [
        "",
        "Accept: */*\r\n",
        "Accept: application/json, text/plain, */*\r\n",
    ] {
        let answer = send(aivonx.addr, "GET", "/", lines, "").await;
        assert_eq!(answer.text(), "Ollama is running", "{lines}");
    }
    let posted = send(aivonx.addr, "POST", "/", BROWSER, "x").await;
    assert_eq!(posted.status, 405, "as without a front door");
    assert_eq!(control.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_front_door_leaves_everything_as_it_was() {
    let (sim, control) = (node().await, Control::start().await);
    for setup in [
        Setup::nodes(&[&sim]),
        Setup::nodes(&[&sim]).set("FRONT_DOOR", "false"),
    ] {
        let aivonx = setup.start().await;
        for path in [
            "/ui",
            "/api/proxy",
            "/api/health",
            "/api/logs",
            "/swagger",
            "/static/a",
        ] {
            let answer = get(aivonx.addr, path).await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (404, "404 page not found")
            );
        }
        let answer = get(aivonx.addr, "/ui/../api/tags").await;
        assert_eq!(answer.header("location"), Some("/api/tags"));
        let answer = send(aivonx.addr, "GET", "/", BROWSER, "").await;
        assert_eq!(answer.text(), "Ollama is running");
        let unknown = send(
            aivonx.addr,
            "POST",
            "/api/proxy/x",
            "",
            r#"{"model":"tiny"}"#,
        )
        .await;
        assert_eq!(unknown.header("x-aivonx-node"), Some("n0"));
    }
    assert_eq!(control.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_in_absolute_form_and_a_base_path_lead_to_the_same_place() {
    let (sim, control) = (node().await, Control::start().await);
    let to = format!("http://localhost:{}/team/", control.addr.port());
    let setup = Setup::nodes(&[&sim])
        .set("FRONT_DOOR__TO", &to)
        .set("FRONT_DOOR__TOKEN", TOKEN);
    let aivonx = setup.start().await;
    let answer = send(aivonx.addr, "GET", "http://localhost/ui/x?y=1", "", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(control.last().target, "/team/ui/x?y=1");
    let answer = send(aivonx.addr, "GET", "http://localhost/ui/../x", "", "").await;
    assert_eq!(answer.status, 404);
    let mut old = Client::connect(aivonx.addr).await;
    old.send("GET /ui/old HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.response().await.status, 200);
    let seen = control.last();
    assert_eq!(seen.target, "/team/ui/old");
    assert_eq!(
        seen.one("host"),
        format!("localhost:{}", control.addr.port())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_clients_come_through_plain_and_over_tls() {
    let (sim, control) = (node().await, Control::start().await);
    let (folder, tls) = (tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let setup = open(Setup::nodes(&[&sim]), control.addr);
    let aivonx = with_tls(setup, folder.path()).start().await;
    let over_tls = H2::tls(aivonx.tls.unwrap(), &tls).await;
    for (client, scheme) in [(H2::plain(aivonx.addr).await, "http"), (over_tls, "https")] {
        let mut head = client.head(http::Method::PUT, "/api/proxy/config?x=1");
        for cookie in ["session=1", "csrf=2"] {
            head.headers_mut().append("cookie", cookie.parse().unwrap());
        }
        head.headers_mut()
            .insert("x-aivonx-scheme", "gopher".parse().unwrap());
        let answer = client.send(head, &[b"one ", b"two"]).await;
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, &b"one two"[..])
        );
        let seen = control.last();
        assert_eq!(seen.target, "/api/proxy/config?x=1");
        assert_eq!(seen.one("cookie"), "session=1; csrf=2");
        assert_eq!(seen.one("x-aivonx-scheme"), scheme);
        assert_eq!(seen.one("x-aivonx-client"), "127.0.0.1");
        assert!(
            seen.one("host")
                .ends_with(|last: char| last.is_ascii_digit())
        );
        let answer = client.get("/ui/cookies").await;
        let cookies: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie")
            .collect();
        assert_eq!((answer.status, cookies.len()), (204, 2));
        assert_eq!(client.get("/ui//x").await.status, 404);
    }
}

#[test]
fn a_front_door_that_leads_to_itself_is_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet.yaml");
    std::fs::write(&fleet, "nodes: []\n").unwrap();
    let check = |to: &str| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_aivonx"))
            .args(["check-config", "--fleet"])
            .arg(&fleet)
            .env("AIVONX_PROXY__FRONT_DOOR__TO", to)
            .env("AIVONX_PROXY__FRONT_DOOR__TOKEN", TOKEN)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), told)
    };
    assert_eq!(check("http://127.0.0.1:8001").0, Some(0));
    let (code, told) = check("http://127.0.0.1:8000");
    assert_eq!(code, Some(78));
    assert!(told.contains("proxy.front_door.to"), "{told}");
}
