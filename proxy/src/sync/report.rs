//! Reports: twice a second this data plane says what it sees. And it shares what it has in flight as that
//! changes, and hears what others have, so that the strategies count the whole fleet's work without
//! asking anybody during a request.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aivonx_shared::bus::Bus;
use aivonx_shared::model_name::ModelKey;
use aivonx_shared::report::{Load, NodeLoad, NodeReport, Report};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Interval, MissedTickBehavior};

use super::bus::InForce;
use crate::fleet::inventory::Listed;
use crate::fleet::{Fleet, Node, Snapshot};
use crate::telemetry::metrics::Metrics;

/// Between two reports; and what is in flight is shared at least this often.
const EVERY: Duration = Duration::from_millis(500);
/// Between two looks at what is in flight here and elsewhere. Two data planes choose alike within it, so
/// it is short beside the time between two requests of most fleets.
const LOOK: Duration = Duration::from_millis(25);
/// From this age on a load says nothing of what is in flight now.
const STALE: Duration = Duration::from_secs(3);

/// Says what this data plane sees, and hears the others.
pub(crate) struct Reporter {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) in_force: Arc<InForce>,
    /// Counts the requests that it holds.
    pub(crate) active: Box<dyn Fn() -> usize + Send + Sync>,
    pub(crate) draining: Arc<AtomicBool>,
    /// Where others find its operations listener, `host:port`.
    pub(crate) ops: String,
    /// Which process this is.
    pub(crate) instance: String,
    pub(crate) started: SystemTime,
}

/// A name for this process that no other one has: host, process, and a random part, because both may
/// come again.
pub(crate) fn instance_name(hostname: &str) -> String {
    let (process, random) = (std::process::id(), fastrand::u32(..));
    format!("{hostname}-{process}-{random:08x}")
}

impl Reporter {
    /// Reports until the process ends.
    pub(crate) async fn run(&self) {
        tokio::join!(self.say(), self.share(), self.hear());
    }

    async fn say(&self) {
        let mut tick = ticks(EVERY);
        loop {
            tick.tick().await;
            if self.bus.report(&self.report()).await.is_err() {
                self.metrics.bus_failed("report");
            }
        }
    }

    async fn share(&self) {
        let mut tick = ticks(LOOK);
        let (mut counts, mut shared) = (Vec::new(), None::<Instant>);
        loop {
            tick.tick().await;
            let snapshot = self.fleet.load_full();
            let nodes = snapshot.nodes().iter();
            let now: Vec<_> = nodes.map(|node| node.state().in_flight()).collect();
            if now == counts && shared.is_some_and(|at| at.elapsed() < EVERY) {
                continue;
            }
            match self.bus.share_load(&self.load(&snapshot)).await {
                Ok(()) => (counts, shared) = (now, Some(Instant::now())),
                Err(_) => self.metrics.bus_failed("load"),
            }
        }
    }

    async fn hear(&self) {
        let (mut tick, mut loads) = (ticks(LOOK), self.bus.loads());
        let mut others = Others::default();
        loop {
            tick.tick().await;
            let now = Instant::now();
            let mut is_news = others.forget(now);
            loop {
                match loads.try_recv() {
                    Ok(load) if load.instance == self.instance => {}
                    Ok(load) => {
                        others.heard.insert(load.instance.clone(), (now, load));
                        is_news = true;
                    }
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Closed) => return,
                }
            }
            if is_news {
                others.count(&self.fleet.load_full());
            }
        }
    }

    fn load(&self, snapshot: &Snapshot) -> Load {
        let busy = snapshot
            .nodes()
            .iter()
            .filter(|node| node.state().in_flight() > 0);
        let of = |node: &Arc<Node>| NodeLoad {
            in_flight: node.state().in_flight(),
            models: models_in_flight(node),
        };
        Load {
            instance: self.instance.clone(),
            nodes: busy
                .map(|node| (node.name().to_owned(), of(node)))
                .collect(),
        }
    }

    fn report(&self) -> Report {
        let (snapshot, now) = (self.fleet.load_full(), Instant::now());
        let seen = |node: &Arc<Node>| (node.name().to_owned(), see(node, now));
        Report {
            instance: self.instance.clone(),
            ops: self.ops.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: since_1970(self.started),
            sent_ms: since_1970(SystemTime::now()),
            applied: self.in_force.revision(),
            refused: self.in_force.is_behind(),
            draining: self.draining.load(Ordering::Acquire),
            active: (self.active)() as u32,
            nodes: snapshot.nodes().iter().map(seen).collect(),
            counters: self.metrics.totals(),
            age: Duration::ZERO,
        }
    }
}

/// What other data planes last said.
#[derive(Default)]
struct Others {
    heard: HashMap<String, (Instant, Arc<Load>)>,
}

impl Others {
    /// Forgets who fell silent; true where somebody did.
    fn forget(&mut self, now: Instant) -> bool {
        let before = self.heard.len();
        self.heard
            .retain(|_, (at, _)| now.saturating_duration_since(*at) < STALE);
        self.heard.len() < before
    }

    /// Brings their sums to the nodes, which are told apart by name.
    fn count(&self, snapshot: &Snapshot) {
        let mut nodes: HashMap<&str, (u32, HashMap<&str, u32>)> = HashMap::new();
        for (name, node) in self.heard.values().flat_map(|(_, load)| &load.nodes) {
            let (all, models) = nodes.entry(name).or_default();
            *all = all.saturating_add(node.in_flight);
            for (model, count) in &node.models {
                let sum = models.entry(model).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        for node in snapshot.nodes() {
            let (all, models) = nodes.remove(node.name()).unwrap_or_default();
            node.state().set_elsewhere(all, |key: &ModelKey| {
                models.get(key.display()).copied().unwrap_or(0)
            });
        }
    }
}

/// A clock that does not make up for ticks that it missed.
pub(super) fn ticks(every: Duration) -> Interval {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

fn models_in_flight(node: &Node) -> BTreeMap<String, u32> {
    let models = node.state().models().into_iter();
    let counts = models.map(|(key, model)| (key.display().to_owned(), model.in_flight()));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn see(node: &Node, now: Instant) -> NodeReport {
    let state = node.state();
    let models = state.models();
    let names = |list: &[Listed]| {
        list.iter()
            .map(|listed| listed.key.display().to_owned())
            .collect()
    };
    NodeReport {
        url: node.doc().url.to_string(),
        health: state.health.state().seen(),
        breaker_open: !state.breaker.would_pass(now),
        in_flight: state.in_flight(),
        in_flight_models: models_in_flight(node),
        waiting: models.iter().map(|(_, model)| model.waiting()).sum(),
        latency: state.latency.seconds(now),
        version: state.version.load().as_deref().cloned(),
        models: names(&state.inventory()),
        resident: names(&state.residency()),
    }
}

/// Milliseconds; 0 for clocks that stand before 1970.
fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use aivonx_shared::bus::memory::MemoryBus;
    use aivonx_shared::config::ProxyConfig;
    use aivonx_shared::fleet_doc::FleetDoc;

    use super::*;
    use crate::fleet::Permit;

    fn reporter(bus: &Arc<MemoryBus>, instance: &str) -> Reporter {
        let fleet = Arc::new(Fleet::new(ProxyConfig::defaults().breaker));
        let text = "nodes: [{name: a, url: \"http://h:1\"}, {name: b, url: \"http://h:2\"}]";
        fleet.apply(FleetDoc::from_yaml(text).unwrap());
        Reporter {
            bus: Arc::clone(bus) as Arc<dyn Bus>,
            fleet,
            metrics: Arc::new(Metrics::new().unwrap()),
            in_force: Arc::default(),
            active: Box::new(|| 0),
            draining: Arc::default(),
            ops: "127.0.0.1:8002".into(),
            instance: instance.to_owned(),
            started: SystemTime::now(),
        }
    }

    fn elsewhere(reporter: &Reporter) -> Vec<u32> {
        let snapshot = reporter.fleet.load_full();
        let nodes = snapshot.nodes().iter();
        nodes
            .map(|node| node.state().anywhere() - node.state().in_flight())
            .collect()
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_others_have_in_flight_counts_by_node_and_model_until_they_fall_silent() {
        let bus = Arc::new(MemoryBus::new());
        let all = ["1", "2", "3"].map(|instance| Arc::new(reporter(&bus, instance)));
        let key = ModelKey::parse("tiny").unwrap();
        let mut held = Vec::new();
        for (reporter, node, count) in [(&all[0], 0, 2), (&all[1], 1, 1), (&all[2], 0, 3)] {
            let snapshot = reporter.fleet.load_full();
            let node = &snapshot.nodes()[node];
            let model = node.state().model(&key);
            held.extend((0..count).map(|_| {
                Permit::reserve(node, Some(&model), Instant::now()).expect("no breaker is open")
            }));
        }
        let running: Vec<_> = all
            .iter()
            .cloned()
            .map(|one| tokio::spawn(async move { one.run().await }))
            .collect();
        until("each counts what the others have", || {
            elsewhere(&all[0]) == [3, 1] && elsewhere(&all[1]) == [5, 0]
        })
        .await;
        let snapshot = all[0].fleet.load_full();
        let model = snapshot.nodes()[0].state().model(&key);
        assert_eq!((model.in_flight(), model.anywhere()), (2, 5));
        let reports = bus.reports().await.unwrap();
        assert_eq!(reports.len(), 3);
        assert_eq!(reports[2].nodes["a"].in_flight_models["tiny:latest"], 3);

        drop(held);
        until("what ended is told", || elsewhere(&all[0]) == [0, 0]).await;
        for task in running {
            task.abort();
        }
    }

    #[test]
    fn a_load_counts_for_three_seconds() {
        let one = reporter(&Arc::new(MemoryBus::new()), "1");
        let node = NodeLoad {
            in_flight: 4,
            ..NodeLoad::default()
        };
        let load = Load {
            instance: "2".into(),
            nodes: [("a".to_owned(), node)].into(),
        };
        let (mut others, now) = (Others::default(), Instant::now());
        others.heard.insert("2".into(), (now, Arc::new(load)));
        assert!(!others.forget(now + STALE / 2));
        others.count(&one.fleet.load_full());
        assert_eq!(elsewhere(&one), [4, 0]);
        assert!(others.forget(now + STALE));
        others.count(&one.fleet.load_full());
        assert_eq!(elsewhere(&one), [0, 0]);
    }
}
