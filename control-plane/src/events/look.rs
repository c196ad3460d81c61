//! Two looks at the fleet, and what is another in the second. A part that cannot be looked at, because the
//! database is away, is as it was.

use std::collections::BTreeMap;

use aivonx_shared::bus::Bus;
use aivonx_shared::revision::Revision;
use serde_json::{Value, json};

use super::Event;
use crate::jobs::view::{JobView, Names};
use crate::seen::{Health, Plane, Seen};
use crate::store::{AuditFilter, AuditRow, Db, Job, JobFilter, JobState, Page, StoreError};

/// Kinds of things whose changes are told. Others name people: they stand in the audit, for operators.
pub(crate) const TOLD: [&str; 5] = ["node", "api_key", "settings", "job", "revision"];
/// Most changes of one look; more than that at once is an import, of which the newest are told.
const MOST: u32 = 1000;

/// How the fleet was when it was last looked at; `None` of what nobody looked at yet.
#[derive(Debug, Default)]
pub(super) struct Look {
    healths: Option<BTreeMap<String, Health>>,
    planes: Option<BTreeMap<String, Value>>,
    revision: Option<Revision>,
    /// The newest row of the audit.
    audit: Option<i64>,
    /// Versions of open jobs.
    jobs: Option<BTreeMap<i64, i64>>,
}

/// An event without an id.
fn event(name: &'static str, data: &Value) -> Event {
    Event {
        id: None,
        name,
        data: data.to_string(),
    }
}

/// A change as it is told: what it was about, and not who made it.
pub(crate) fn change(row: &AuditRow) -> Event {
    let data = json!({
        "id": row.id,
        "at": row.at,
        "action": row.action,
        "kind": row.kind,
        "object_id": row.object_id,
        "object_name": row.object_name,
    });
    Event {
        id: Some(row.id),
        name: "change",
        data: data.to_string(),
    }
}

impl Look {
    /// Looks again; gives what happened since, in an order that makes sense: changes, the revision they
    /// made, who applied it, and what follows.
    pub(super) async fn again(&mut self, db: &Db, bus: &dyn Bus) -> Vec<Event> {
        let mut events = self.changes(db).await.unwrap_or_default();
        if let Ok(revision) = db.revision().await {
            events.extend(self.see_revision(revision));
        }
        let seen = Seen::over(bus).await;
        events.extend(self.see_planes(seen.planes()));
        events.extend(self.see_healths(&seen.healths()));
        events.extend(self.jobs(db).await.unwrap_or_default());
        events
    }

    async fn changes(&mut self, db: &Db) -> Result<Vec<Event>, StoreError> {
        let filter = AuditFilter {
            kinds: TOLD.to_vec(),
            after_id: self.audit,
            ..AuditFilter::default()
        };
        let limit = if self.audit.is_some() { MOST } else { 1 };
        let rows = db.audit(filter, Page { limit, offset: 0 }).await?.rows;
        let is_first = self.audit.is_none();
        let newest = rows.first().map(|row| row.id);
        self.audit = newest.or(self.audit).or(Some(0));
        if is_first {
            return Ok(Vec::new());
        }
        Ok(rows.iter().rev().map(change).collect())
    }

    fn see_revision(&mut self, revision: Revision) -> Option<Event> {
        let before = self.revision.replace(revision)?;
        let data = json!({"revision": revision.to_string()});
        (before != revision).then(|| event("revision", &data))
    }

    fn see_planes(&mut self, planes: Vec<Plane>) -> Vec<Event> {
        let now: BTreeMap<_, _> = planes.into_iter().map(plane).collect();
        let Some(before) = self.planes.replace(now.clone()) else {
            return Vec::new();
        };
        let gone = before
            .keys()
            .filter(|instance| !now.contains_key(*instance));
        let gone = gone.map(|instance| json!({"instance": instance, "state": "gone"}));
        let news = now
            .iter()
            .filter(|(instance, plane)| before.get(*instance) != Some(*plane));
        let all = news.map(|(_, plane)| plane.clone()).chain(gone);
        all.map(|plane| event("plane", &plane)).collect()
    }

    fn see_healths(&mut self, now: &BTreeMap<String, Health>) -> Vec<Event> {
        let Some(before) = self.healths.replace(now.clone()) else {
            return Vec::new();
        };
        let gone = before.keys().filter(|node| !now.contains_key(*node));
        let gone = gone.map(|node| (node, Health::Unknown));
        let news = now
            .iter()
            .filter(|(node, health)| before.get(*node) != Some(*health))
            .map(|(node, health)| (node, *health));
        let all = news.chain(gone);
        all.map(|(node, health)| event("health", &json!({"node": node, "health": health})))
            .collect()
    }

    async fn jobs(&mut self, db: &Db) -> Result<Vec<Event>, StoreError> {
        let filter = JobFilter {
            states: vec![JobState::Queued, JobState::Running],
            ..JobFilter::default()
        };
        let page = Page {
            limit: MOST,
            offset: 0,
        };
        let mut news = db.jobs(filter, page).await?.rows;
        news.reverse();
        let now: BTreeMap<i64, i64> = news.iter().map(|job| (job.id, job.version)).collect();
        let Some(before) = self.jobs.clone() else {
            self.jobs = Some(now);
            return Ok(Vec::new());
        };
        news.retain(|job| before.get(&job.id) != Some(&job.version));
        for id in before.keys().filter(|id| !now.contains_key(id)) {
            match db.job(*id).await {
                Ok(job) => news.push(job),
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let events = told(db, &news).await?;
        self.jobs = Some(now);
        Ok(events)
    }
}

async fn told(db: &Db, jobs: &[Job]) -> Result<Vec<Event>, StoreError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let names = Names::read(db).await?;
    let view = |job: &Job| json!(JobView::of(job, &names));
    Ok(jobs.iter().map(|job| event("job", &view(job))).collect())
}

fn plane(plane: Plane) -> (String, Value) {
    let state = if plane.stale {
        "stale"
    } else if plane.draining {
        "draining"
    } else {
        "live"
    };
    let told = json!({
        "instance": plane.instance,
        "state": state,
        "applied": plane.applied,
        "refused": plane.refused,
    });
    (plane.instance, told)
}

#[cfg(test)]
mod tests {
    use aivonx_shared::bus::memory::MemoryBus;
    use aivonx_shared::report::{HealthSeen, NodeReport, Report};

    use super::*;
    use crate::jobs::PULL;
    use crate::store::{Change, DatabaseUrl, NewJob};

    fn report(health: HealthSeen, number: u64) -> Report {
        let node = NodeReport {
            health,
            ..NodeReport::default()
        };
        Report {
            instance: "p1".into(),
            applied: Some(Revision::new(1, number)),
            nodes: [("gpu-1".to_owned(), node)].into(),
            ..Report::default()
        }
    }

    fn names(events: &[Event]) -> Vec<&'static str> {
        events.iter().map(|event| event.name).collect()
    }

    #[tokio::test]
    async fn only_what_is_another_than_before_is_told() {
        let db = Db::open(&DatabaseUrl::Memory).await.unwrap();
        let bus = MemoryBus::new();
        bus.report(&report(HealthSeen::Up, 1)).await.unwrap();
        let mut look = Look::default();
        assert_eq!(
            look.again(&db, &bus).await,
            [],
            "the first look is how it is"
        );
        assert_eq!(look.again(&db, &bus).await, []);

        bus.report(&report(HealthSeen::Down, 2)).await.unwrap();
        let events = look.again(&db, &bus).await;
        assert_eq!(names(&events), ["plane", "health"]);
        let health: Value = serde_json::from_str(&events[1].data).unwrap();
        assert_eq!(health, json!({"node": "gpu-1", "health": "down"}));
    }

    #[tokio::test]
    async fn changes_have_the_audits_ids_and_jobs_are_told_to_their_end() {
        let db = Db::open(&DatabaseUrl::Memory).await.unwrap();
        let bus = MemoryBus::new();
        let mut look = Look::default();
        look.again(&db, &bus).await;
        let change = Change::by_system("test");
        let new = NewJob {
            kind: PULL.into(),
            model: "llama3".into(),
            insecure: false,
            node_ids: vec![1],
            progress: BTreeMap::new(),
        };
        let job = db.create_job(&change, new).await.unwrap();
        let begun = look.again(&db, &bus).await;
        assert_eq!(names(&begun), ["change", "job"]);
        assert!(begun[0].id.is_some() && begun[1].id.is_none());
        assert!(!begun[0].data.contains("actor"), "{}", begun[0].data);
        db.cancel_job(&change, job.id).await.unwrap();
        let ended = look.again(&db, &bus).await;
        assert_eq!(names(&ended), ["change", "job"]);
        assert!(ended[0].id > begun[0].id);
        let view: Value = serde_json::from_str(&ended[1].data).unwrap();
        assert_eq!(
            (&view["state"], &view["nodes"][0]["status"]),
            (&json!("cancelled"), &json!("cancelled"))
        );
        db.new_epoch(&change, None).await.unwrap();
        assert_eq!(names(&look.again(&db, &bus).await), ["change", "revision"]);
        assert_eq!(look.again(&db, &bus).await, []);
    }
}
