//! Against nodes that are never asked: what goes over the wire is tested end to end.

use aivonx_shared::config::ProxyConfig;
use aivonx_shared::fleet_doc::FleetDoc;
use aivonx_shared::operations::PullState;

use super::*;
use crate::fleet::Fleet;
use crate::telemetry::metrics::Metrics;

/// Over a fleet of one node, `a`, that was never probed.
fn pulls() -> Pulls {
    let config = ProxyConfig::defaults();
    let fleet = Arc::new(Fleet::new(config.breaker));
    fleet.apply(FleetDoc::from_yaml("nodes: [{name: a, url: \"http://a:1\"}]").unwrap());
    let metrics = Arc::new(Metrics::new().unwrap());
    Pulls::new(Arc::new(Stores::new(fleet, config.timeouts, metrics)))
}

fn order(model: &str, node: &str) -> PullOrder {
    PullOrder {
        model: model.to_owned(),
        node: node.to_owned(),
        insecure: false,
    }
}

async fn ended(pulls: &Pulls, id: &str) -> PullSeen {
    loop {
        let seen = pulls.seen(id).unwrap();
        if seen.state != PullState::Running {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_order_that_cannot_be_carried_out_says_why() {
    let pulls = pulls();
    let node = pulls.begin("1", &order("tiny", "b")).unwrap_err();
    assert_eq!(node.to_string(), "node 'b' is not in the fleet");
    let model = pulls.begin("1", &order("a//b", "a")).unwrap_err();
    assert_eq!(model, NotBegun::Model);
    assert_eq!(pulls.seen("1"), None, "nothing was begun");
    assert_eq!(pulls.end("1").await, None);

    let begun = pulls.begin("1", &order("tiny", "a")).unwrap();
    assert_eq!(begun, PullSeen::default());
    let down = ended(&pulls, "1").await;
    assert_eq!(
        (down.state, down.message.as_str()),
        (PullState::Error, "node a is down")
    );
    pulls.begin("2", &order("gpt-oss:120b-cloud", "a")).unwrap();
    let cloud = ended(&pulls, "2").await;
    assert!(cloud.message.contains("cloud is disabled"), "{cloud:?}");
    assert_eq!(pulls.end("2").await, Some(cloud), "it had ended");
}

#[tokio::test(start_paused = true)]
async fn how_a_pull_ended_is_known_for_a_while_and_its_id_begins_nothing_anew() {
    let pulls = pulls();
    pulls.begin("1", &order("tiny", "a")).unwrap();
    let end = ended(&pulls, "1").await;
    tokio::time::advance(ENDED_KEPT / 2).await;
    let again = pulls.begin("1", &order("other", "a")).unwrap();
    assert_eq!(again, end);
    tokio::time::advance(ENDED_KEPT / 2).await;
    assert_eq!(pulls.seen("1"), None);
    let anew = pulls.begin("1", &order("tiny", "a")).unwrap();
    assert_eq!(anew.state, PullState::Running);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_known_pulls_is_bounded() {
    let pulls = pulls();
    for number in 0..MOST {
        pulls
            .begin(&number.to_string(), &order("tiny", "a"))
            .unwrap();
    }
    let one_more = pulls.begin("x", &order("tiny", "a"));
    assert_eq!(one_more, Err(NotBegun::Full));
    assert!(pulls.begin("7", &order("tiny", "a")).is_ok(), "a known one");
    for number in 0..MOST {
        ended(&pulls, &number.to_string()).await;
    }
    tokio::time::advance(ENDED_KEPT).await;
    assert!(pulls.begin("x", &order("tiny", "a")).is_ok());
}

#[tokio::test]
async fn nothing_begins_in_a_process_that_ends() {
    let pulls = pulls();
    pulls.begin("1", &order("tiny", "a")).unwrap();
    pulls.stores.stop();
    assert_eq!(
        pulls.begin("2", &order("tiny", "a")),
        Err(NotBegun::Draining)
    );
    assert_eq!(ended(&pulls, "1").await.state, PullState::Cancelled);
}
