//! Asking a data plane, over real sockets.

use std::sync::Arc;

use aivonx_shared::bus::memory::MemoryBus;
use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::operations::{ProbeOrder, PullOrder, PullState};

use super::fake::FakePlane;
use super::{Plane, PlaneError, Planes};

fn order() -> PullOrder {
    PullOrder {
        model: "llama3".to_owned(),
        node: "a".to_owned(),
        insecure: false,
    }
}

#[tokio::test]
async fn a_live_data_plane_is_found_and_asked() {
    let bus = Arc::new(MemoryBus::new());
    let fake = FakePlane::start(&bus, "p1").await;
    fake.report_draining("p2").await;
    let planes = fake.planes();
    let live = planes.live().await;
    assert_eq!(live, [fake.plane()]);

    let begun = planes.put_pull(&live[0], "x", &order()).await.unwrap();
    assert_eq!(begun.state, PullState::Running);
    fake.set("a", PullState::Success, "success");
    let seen = planes.pull(&live[0], "x").await.unwrap();
    assert_eq!(seen.state, PullState::Success);
    let unknown = planes.pull(&live[0], "y").await.unwrap_err();
    assert!(unknown.is_not_found(), "{unknown}");
    let probed = ProbeOrder {
        nodes: vec!["a".to_owned()],
    };
    let probed = planes.probe(&live[0], &probed).await.unwrap();
    assert!(probed.nodes.contains_key("a"));
}

#[tokio::test]
async fn a_wrong_token_and_a_dead_data_plane_are_told_apart() {
    let bus = Arc::new(MemoryBus::new());
    let fake = FakePlane::start(&bus, "p1").await;
    let plane = fake.plane();
    let with = |token: Option<&str>| Planes::new(bus.clone(), token.map(Secret::new));
    let (wrong, order) = (with(Some("another token")), order());
    let refused = wrong.put_pull(&plane, "x", &order).await.unwrap_err();
    assert!(refused.is_of_the_token(), "{refused}");
    assert!(!refused.to_string().contains("another token"));
    let none = with(None).put_pull(&plane, "x", &order).await;
    assert_eq!(none, Err(PlaneError::NoToken));
    let nobody = Plane {
        instance: "gone".to_owned(),
        ops: fake.stopped_address().await,
    };
    let silent = fake.planes().put_pull(&nobody, "x", &order).await;
    assert!(
        matches!(silent, Err(PlaneError::Silent { .. })),
        "{silent:?}"
    );
}
