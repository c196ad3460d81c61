use std::collections::HashMap;

use aivonx_shared::config::ProxyConfig;
use aivonx_shared::fleet_doc::FleetDoc;
use proptest::prelude::*;

use super::*;
use crate::fleet::inventory::parse_list;

/// A fleet of healthy nodes that all hold model `m`.
async fn balancer(yaml: &str) -> (Arc<Fleet>, Balancer, Demand) {
    let fleet = Arc::new(Fleet::new(ProxyConfig::defaults().breaker));
    fleet.apply(FleetDoc::from_yaml(yaml).unwrap());
    for node in fleet.load().nodes() {
        node.state().health.observe(true, 1, 1);
        node.state()
            .set_inventory(parse_list(br#"{"models":[{"name":"m"}]}"#, "modified_at").unwrap());
    }
    fleet.refresh();
    let balancer = Balancer::new(Arc::clone(&fleet), Dice::new(7));
    balancer.sync().await;
    let id = fleet
        .load()
        .model("registry.ollama.ai/library/m:latest")
        .map(|entry| entry.id);
    (
        fleet,
        balancer,
        Demand {
            model: id,
            cloud: false,
            unheld: None,
            only: None,
        },
    )
}

fn nodes(count: usize, extra: &str) -> String {
    let list: Vec<_> = (0..count)
        .map(|n| format!("{{name: n{n}, url: \"http://same:1/b{n}\"{extra}}}"))
        .collect();
    format!("nodes: [{}]", list.join(", "))
}

fn resident(fleet: &Fleet, node: usize) {
    let key = ModelKey::parse("m").unwrap();
    fleet.load().nodes()[node]
        .state()
        .model(&key)
        .set_resident(true);
}

#[tokio::test]
async fn resident_and_free_comes_before_free_before_the_rest() {
    let (fleet, balancer, demand) = balancer(&nodes(3, "")).await;
    resident(&fleet, 1);
    let now = Instant::now();
    let first = balancer.acquire(&demand, &[], now).unwrap();
    assert_eq!(first.node().name(), "n1", "warm and free");
    let second = balancer.acquire(&demand, &[], now).unwrap();
    let third = balancer.acquire(&demand, &[], now).unwrap();
    let mut cold = [second.node().name(), third.node().name()];
    cold.sort_unstable();
    assert_eq!(cold, ["n0", "n2"], "then those with a free slot");
    assert!(
        balancer.acquire(&demand, &[], now).is_ok(),
        "then all: here nothing waits"
    );
}

#[tokio::test]
async fn nodes_that_share_an_address_are_several() {
    let (_, balancer, demand) = balancer(&nodes(4, ", slots: 100")).await;
    let permits: Vec<_> = (0..8)
        .map(|_| balancer.acquire(&demand, &[], Instant::now()).unwrap())
        .collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for permit in &permits {
        *counts.entry(permit.node().name().to_owned()).or_default() += 1;
    }
    assert_eq!(counts.len(), 4);
    assert!(counts.values().all(|count| *count == 2), "{counts:?}");
}

#[tokio::test]
async fn ties_among_the_idle_fall_at_random_by_weight() {
    let yaml = "nodes: [{name: a, url: \"http://h:1\", weight: 3}, {name: b, url: \"http://h:2\"}]";
    let (_, balancer, demand) = balancer(yaml).await;
    let heavy = (0..4000)
        .filter(|_| {
            balancer
                .acquire(&demand, &[], Instant::now())
                .unwrap()
                .node()
                .name()
                == "a"
        })
        .count();
    assert!((2800..3200).contains(&heavy), "{heavy} of 4000");
}

#[tokio::test]
async fn weight_shares_the_load_in_proportion() {
    let yaml = "nodes: [{name: a, url: \"http://h:1\", weight: 3, slots: 99}, {name: b, url: \"http://h:2\", slots: 99}]";
    let (_, balancer, demand) = balancer(yaml).await;
    let permits: Vec<_> = (0..40)
        .map(|_| balancer.acquire(&demand, &[], Instant::now()).unwrap())
        .collect();
    let heavy = permits
        .iter()
        .filter(|permit| permit.node().name() == "a")
        .count();
    assert!((29..=31).contains(&heavy), "{heavy}");
}

#[tokio::test]
async fn lowest_latency_prefers_the_quick_node_without_herding() {
    let (fleet, balancer, demand) = balancer(&format!(
        "strategy: lowest_latency\n{}",
        nodes(3, ", slots: 1000")
    ))
    .await;
    let now = Instant::now();
    let key = ModelKey::parse("m").unwrap();
    for (node, millis) in [(0, 100), (1, 200), (2, 400)] {
        fleet.load().nodes()[node]
            .state()
            .model(&key)
            .latency
            .observe(Duration::from_millis(millis), now);
        resident(&fleet, node);
    }
    assert_eq!(
        balancer.acquire(&demand, &[], now).unwrap().node().name(),
        "n0"
    );
    let permits: Vec<_> = (0..70)
        .map(|_| balancer.acquire(&demand, &[], now).unwrap())
        .collect();
    let count = |name: &str| {
        permits
            .iter()
            .filter(|permit| permit.node().name() == name)
            .count()
    };
    // costs level out: 100 × 40 = 200 × 20 = 400 × 10
    assert!(
        (38..=42).contains(&count("n0")) && (8..=12).contains(&count("n2")),
        "{} {} {}",
        count("n0"),
        count("n1"),
        count("n2")
    );
}

#[tokio::test]
async fn a_new_node_does_not_draw_everything_by_its_ping() {
    let (fleet, balancer, demand) = balancer(&format!(
        "strategy: lowest_latency\n{}",
        nodes(2, ", slots: 1000")
    ))
    .await;
    let now = Instant::now();
    let key = ModelKey::parse("m").unwrap();
    fleet.load().nodes()[0]
        .state()
        .model(&key)
        .latency
        .observe(Duration::from_secs(2), now);
    for node in fleet.load().nodes() {
        node.state().latency.seed(Duration::from_micros(300), now);
    }
    let permits: Vec<_> = (0..40)
        .map(|_| balancer.acquire(&demand, &[], now).unwrap())
        .collect();
    let new = permits
        .iter()
        .filter(|permit| permit.node().name() == "n1")
        .count();
    assert!((18..=22).contains(&new), "{new} of 40");
}

#[tokio::test]
async fn what_stands_against_every_node_is_told() {
    let (fleet, balancer, demand) = balancer(&nodes(2, "")).await;
    let now = Instant::now();
    let serials: Vec<_> = fleet
        .load()
        .nodes()
        .iter()
        .map(|node| node.serial())
        .collect();
    assert_eq!(
        balancer.acquire(&demand, &serials, now).err(),
        Some(NoNode::Exhausted)
    );
    for node in fleet.load().nodes() {
        node.state().breaker.trip(now);
    }
    let Err(NoNode::Broken(wait)) = balancer.acquire(&demand, &[], now) else {
        panic!()
    };
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1));
    for node in fleet.load().nodes() {
        node.state().health.observe(false, 1, 1);
    }
    assert_eq!(
        balancer.acquire(&demand, &[], now).err(),
        Some(NoNode::Unhealthy)
    );
    let gone = Demand {
        model: Some(ModelId(999)),
        cloud: false,
        unheld: None,
        only: None,
    };
    assert_eq!(balancer.acquire(&gone, &[], now).err(), Some(NoNode::None));
}

#[tokio::test]
async fn an_unheld_model_goes_only_where_patterns_allow_it() {
    let yaml = "nodes: [{name: small, url: \"http://h:1\", models: {exclude: [\"*:70b\"]}}, {name: large, url: \"http://h:2\"}]";
    let (_, balancer, _) = balancer(yaml).await;
    let demand = Demand {
        model: None,
        cloud: false,
        unheld: Some(ModelKey::parse("llama3:70b").unwrap()),
        only: None,
    };
    for _ in 0..20 {
        assert_eq!(
            balancer
                .acquire(&demand, &[], Instant::now())
                .unwrap()
                .node()
                .name(),
            "large"
        );
    }
}

proptest! {
    #[test]
    fn in_flight_is_level_and_ends_at_zero(steps in proptest::collection::vec(0..3u8, 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (fleet, balancer, demand) = runtime.block_on(balancer(&nodes(4, ", slots: 1000")));
        let mut held = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            if *step == 0 && !held.is_empty() {
                held.swap_remove(index % held.len());
            } else {
                held.push(balancer.acquire(&demand, &[], Instant::now()).unwrap());
                let fewest = fleet.load().nodes().iter().map(|node| node.state().in_flight()).min().unwrap();
                let chosen = held.last().unwrap().node().state().in_flight();
                prop_assert!(chosen <= fewest + 1, "it took {} beside {}", chosen, fewest);
            }
        }
        let total: u32 = fleet.load().nodes().iter().map(|node| node.state().in_flight()).sum();
        prop_assert_eq!(total as usize, held.len());
        held.clear();
        prop_assert!(fleet.load().nodes().iter().all(|node| node.state().in_flight() == 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_at_once_do_not_pile_up() {
    let (fleet, balancer, demand) = balancer(&nodes(4, ", slots: 1000")).await;
    let balancer = Arc::new(balancer);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (balancer, demand) = (Arc::clone(&balancer), demand.clone());
            std::thread::spawn(move || {
                (0..100)
                    .map(|_| balancer.acquire(&demand, &[], Instant::now()).unwrap())
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let held: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(held.len(), 400);
    for node in fleet.load().nodes() {
        assert_eq!(node.state().in_flight(), 100, "{}", node.name());
    }
}

#[tokio::test]
async fn in_a_very_large_fleet_warm_nodes_are_found_and_load_stays_level() {
    let (fleet, balancer, demand) = balancer(&nodes(300, "")).await;
    for warm in [17, 203] {
        resident(&fleet, warm);
    }
    let now = Instant::now();
    let mut warm: Vec<_> = (0..2)
        .map(|_| balancer.acquire(&demand, &[], now).unwrap())
        .collect();
    warm.sort_by_key(|permit| permit.node().name().to_owned());
    assert_eq!(
        [warm[0].node().name(), warm[1].node().name()],
        ["n17", "n203"],
        "the two warm ones first"
    );
    let cold: Vec<_> = (0..298)
        .map(|_| balancer.acquire(&demand, &[], now).unwrap())
        .collect();
    let names: std::collections::HashSet<_> = cold
        .iter()
        .chain(&warm)
        .map(|permit| permit.node().name())
        .collect();
    assert_eq!(
        names.len(),
        300,
        "each free slot is found before one is used twice"
    );
    assert!(
        balancer.acquire(&demand, &[], now).is_ok(),
        "then busy ones"
    );
    drop(warm);
    let key = ModelKey::parse("m").unwrap();
    fleet.load().nodes()[17]
        .state()
        .model(&key)
        .set_resident(false);
    assert_eq!(
        balancer.acquire(&demand, &[], now).unwrap().node().name(),
        "n203",
        "17 has unloaded it"
    );
}

#[tokio::test]
async fn in_a_very_large_fleet_the_last_healthy_node_is_found() {
    let (fleet, balancer, demand) = balancer(&nodes(300, "")).await;
    for (index, node) in fleet.load().nodes().iter().enumerate() {
        node.state().health.observe(index == 123, 1, 1);
    }
    balancer.sync().await;
    assert_eq!(
        balancer
            .acquire(&demand, &[], Instant::now())
            .unwrap()
            .node()
            .name(),
        "n123"
    );
}

#[tokio::test]
async fn a_demand_for_one_node_is_for_no_other() {
    let (fleet, balancer, demand) = balancer(&nodes(40, "")).await;
    let serial = fleet.load().nodes()[31].serial();
    for model in [demand.model, None] {
        let pinned = Demand {
            model,
            unheld: None,
            cloud: false,
            only: Some([serial].into()),
        };
        for _ in 0..20 {
            let permit = balancer.acquire(&pinned, &[], Instant::now()).unwrap();
            assert_eq!(permit.node().serial(), serial);
            assert!(!balancer.has_another(&pinned, &[serial], Instant::now()));
        }
        let none = balancer.acquire(&pinned, &[serial], Instant::now());
        assert_eq!(none.err(), Some(NoNode::Exhausted));
    }
}

#[tokio::test]
async fn a_changed_node_serves_before_the_load_balancer_has_heard_of_the_change() {
    let (fleet, balancer, demand) = balancer(&nodes(1, "")).await;
    let changed = FleetDoc::from_yaml(&nodes(1, ", labels: {rack: b}")).unwrap();
    fleet.apply(changed);
    let permit = balancer.acquire(&demand, &[], Instant::now()).unwrap();
    assert_eq!(permit.node().doc().labels["rack"], "b");
    drop(permit);
    fleet.load().nodes()[0].state().health.observe(false, 1, 1);
    assert_eq!(
        balancer.acquire(&demand, &[], Instant::now()).err(),
        Some(NoNode::Unhealthy)
    );
}

#[tokio::test]
async fn no_request_is_refused_while_documents_come_into_force() {
    let (fleet, balancer, demand) = balancer(&nodes(1, "")).await;
    let documents =
        [1, 2].map(|slots| FleetDoc::from_yaml(&nodes(1, &format!(", slots: {slots}"))));
    let documents = documents.map(Result::unwrap);
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for document in documents.iter().cycle().take(2_000) {
                fleet.apply(document.clone());
            }
            ended.store(true, std::sync::atomic::Ordering::Release);
        });
        while !ended.load(std::sync::atomic::Ordering::Acquire) {
            let taken = balancer.acquire(&demand, &[], Instant::now());
            assert!(taken.is_ok(), "{:?}", taken.err());
        }
    });
}
