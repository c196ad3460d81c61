//! Measurements from within the crate, for `script/bench`: what a pick and a reload cost in a large
//! fleet, and how long traffic stands still meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aivonx_shared::config::ProxyConfig;
use aivonx_shared::fleet_doc::FleetDoc;
use serde_json::{Value, json};

use crate::balance::{Balancer, Demand};
use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::fleet::inventory::parse_list;

/// Picks averaged over.
const PICKS: u32 = 200_000;

/// Figures for `nodes` × `models`: every model on every node, and every model on eight nodes.
pub fn picks(nodes: usize, models: usize) -> Value {
    let everywhere = Case::new(nodes, models, nodes);
    let eight = Case::new(nodes, models, 8);
    json!({
        "nodes": nodes,
        "models": models,
        "pick_ns": { "holders_8": eight.pick().as_nanos() as u64, "holders_all": everywhere.pick().as_nanos() as u64 },
        "reload": { "holders_8": eight.reload(), "holders_all": everywhere.reload() },
    })
}

struct Case {
    fleet: Arc<Fleet>,
    balancer: Arc<Balancer>,
    runtime: tokio::runtime::Runtime,
    nodes: usize,
    demands: Vec<Demand>,
}

impl Case {
    fn new(nodes: usize, models: usize, holders: usize) -> Self {
        let fleet = Arc::new(Fleet::new(ProxyConfig::defaults().breaker));
        fleet.apply(doc(nodes, 1));
        for (index, node) in fleet.load().nodes().iter().enumerate() {
            node.state().health.observe(true, 1, 1);
            let held =
                (0..models).filter(|model| (index + nodes - model % nodes) % nodes < holders);
            let list: Vec<_> = held.map(|model| json!({ "name": format!("m{model}"), "digest": format!("{model:064}") })).collect();
            let body = json!({ "models": list }).to_string();
            node.state()
                .set_inventory(parse_list(body.as_bytes(), "modified_at").unwrap_or_default());
        }
        fleet.refresh();
        let balancer = Arc::new(Balancer::new(Arc::clone(&fleet), Dice::new(7)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime without I/O");
        runtime.block_on(balancer.sync());
        let demands = fleet
            .load()
            .models()
            .map(|(_, entry)| Demand {
                model: Some(entry.id),
                unheld: None,
                only: None,
            })
            .collect();
        Self {
            fleet,
            balancer,
            runtime,
            nodes,
            demands,
        }
    }

    /// Mean time to choose, reserve and give back, one request after another over all models.
    fn pick(&self) -> Duration {
        let began = Instant::now();
        for turn in 0..PICKS as usize {
            let demand = &self.demands[turn % self.demands.len()];
            drop(self.balancer.acquire(demand, &[], Instant::now()));
        }
        began.elapsed() / PICKS
    }

    /// A new document for every node, while another thread picks without a pause.
    fn reload(&self) -> Value {
        let stop = Arc::new(AtomicBool::new(false));
        let (balancer, demands, stopped) = (
            Arc::clone(&self.balancer),
            self.demands.clone(),
            Arc::clone(&stop),
        );
        let traffic = std::thread::spawn(move || {
            let mut worst = Duration::ZERO;
            let mut turn = 0;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                drop(balancer.acquire(&demands[turn % demands.len()], &[], began));
                worst = worst.max(began.elapsed());
                turn += 1;
            }
            worst
        });
        let began = Instant::now();
        self.fleet.apply(doc(self.nodes, 2));
        self.runtime.block_on(self.balancer.sync());
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        let worst = traffic.join().unwrap_or_default();
        json!({ "took_ms": took.as_secs_f64() * 1e3, "longest_pick_ms": worst.as_secs_f64() * 1e3 })
    }
}

fn doc(nodes: usize, weight: u32) -> FleetDoc {
    let list: Vec<String> = (0..nodes)
        .map(|node| {
            format!(
                "- {{name: n{node}, url: \"http://10.{}.{}.1:11434\", weight: {weight}}}\n",
                node / 250,
                node % 250
            )
        })
        .collect();
    FleetDoc::from_yaml(&format!("nodes:\n{}", list.concat())).expect("a valid document")
}
