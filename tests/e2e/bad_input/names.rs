//! Names that no model has: answered as by a node, and never a label of a metric.

use serde_json::json;

use super::{DIALECTS, House, judged_alike};
use crate::support::post;

/// Names of no model, as they stand in JSON.
fn names() -> Vec<String> {
    let text = |name: &str| json!(name).to_string();
    vec![
        text("nosuch"),
        text("a\nb\u{7}\u{0}c"),
        text("\u{1b}[31mred"),
        text(&"x".repeat(5000)),
        text(&"x/".repeat(100)),
        text("%s%n%d{}{0}${HOME}"),
        text("\"} 1\naivonx_evil{model=\""),
        text("../../etc/passwd"),
        text("<script>alert(1)</script>"),
        text("modèle"),
        text("a:b:c"),
        text("   "),
        text(""),
        r#""\ud800""#.to_owned(),
        r#""\udc00\ud800x""#.to_owned(),
        r#""tiny\ud83d""#.to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_names_are_answered_as_by_the_node_and_grow_no_series() {
    let house = House::with(&[]).await;
    house.still_serves().await;
    let series = || {
        let text = house.aivonx.ops("/metrics").1;
        let names = text.lines().filter(|line| !line.starts_with('#'));
        names
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect::<Vec<_>>()
    };
    for (path, rest) in DIALECTS {
        for name in names() {
            let body = format!(r#"{{"model":{name},{rest}}}"#);
            let short = &name[..name.len().min(40)];
            let direct = post(house.sim.addr(), path, &body).await;
            let through = post(house.addr(), path, &body).await;
            assert!(direct.status >= 400, "{path} {short}");
            judged_alike(path, short, &direct, &through);
        }
    }
    let text = house.aivonx.ops("/metrics").1;
    for part in [
        "nosuch", "xxxx", "evil", "passwd", "script", "%s", "mod", "\u{1b}",
    ] {
        let found = text.lines().filter(|line| !line.starts_with('#'));
        let mut labels = found.filter_map(|line| line.split_once('{'));
        assert!(
            !labels.any(|(_, labels)| labels.replace("model=", "").contains(part)),
            "{part}"
        );
    }
    let before = series();
    for name in 0..200 {
        let body = format!(r#"{{"model":"made-up-{name}"}}"#);
        assert_eq!(post(house.addr(), "/api/generate", &body).await.status, 404);
    }
    let after = series();
    // one more route and status may have come, with its buckets; not one for each name
    assert!(
        after.len() < before.len() + 60,
        "{} series, then {}",
        before.len(),
        after.len()
    );
    assert!(!after.iter().any(|series| series.contains("made-up")));
    house.still_serves().await;
}
