//! What is read when somebody asks for the metrics: jobs, data planes, connections to the database. What cannot
//! be read at that moment has no series, so that an old number is never taken for a new one.

use aivonx_shared::report::{Report, STALE};
use aivonx_shared::revision::Revision;
use prometheus::IntGaugeVec;

use super::families::Families;
use crate::store::{Connections, JobState};

/// Gauges that are set anew each time.
#[derive(Clone)]
pub struct SeenMetrics {
    jobs: IntGaugeVec,
    planes: IntGaugeVec,
    lag: IntGaugeVec,
    connections: IntGaugeVec,
}

/// What the reports of the data planes say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanesSeen {
    /// Those that report.
    pub fresh: i64,
    /// Those that fell silent a moment ago.
    pub stale: i64,
    /// Changes that the last of those that report has not applied yet.
    pub lag: i64,
}

impl PlanesSeen {
    /// Puts reports together. A data plane without a document, or with one of another epoch, has all of them
    /// before it.
    pub fn of(reports: &[Report], current: Revision) -> Self {
        let fresh = || reports.iter().filter(|report| report.age < STALE);
        let behind = |report: &Report| match report.applied {
            Some(applied) if applied.epoch == current.epoch => {
                current.number.saturating_sub(applied.number)
            }
            _ => current.number,
        };
        let count = fresh().count();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            fresh: number(count),
            stale: number(reports.len() - count),
            lag: fresh().map(behind).max().unwrap_or(0).cast_signed(),
        }
    }
}

impl SeenMetrics {
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            jobs: families.gauges("jobs", "Jobs in the database, by state.", &["state"])?,
            planes: families.gauges(
                "data_planes",
                "Data planes: fresh ones report, stale ones fell silent within the last minute.",
                &["state"],
            )?,
            lag: families.gauges(
                "data_plane_revision_lag",
                "Changes of the fleet that the last of the fresh data planes has not applied yet.",
                &[],
            )?,
            connections: families.gauges(
                "store_connections",
                "Connections to the database, by state: used or idle.",
                &["state"],
            )?,
        })
    }

    /// Jobs by state; `None` where nobody could tell.
    pub fn jobs(&self, jobs: Option<Vec<(JobState, i64)>>) {
        self.jobs.reset();
        let Some(jobs) = jobs else { return };
        for state in JobState::ALL {
            let found = jobs.iter().find(|(of, _)| *of == state);
            let count = found.map_or(0, |(_, count)| *count);
            self.jobs.with_label_values(&[state.as_str()]).set(count);
        }
    }

    /// The data planes; `None` where nobody could tell.
    pub fn planes(&self, seen: Option<PlanesSeen>) {
        self.planes.reset();
        self.lag.reset();
        let Some(seen) = seen else { return };
        self.planes.with_label_values(&["fresh"]).set(seen.fresh);
        self.planes.with_label_values(&["stale"]).set(seen.stale);
        self.lag.with_label_values::<&str>(&[]).set(seen.lag);
    }

    /// Connections to the database.
    pub fn connections(&self, connections: Connections) {
        for (state, count) in [("used", connections.used), ("idle", connections.idle)] {
            self.connections
                .with_label_values(&[state])
                .set(i64::from(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Metrics;
    use super::*;

    fn report(age: u64, applied: Option<Revision>) -> Report {
        Report {
            age: Duration::from_secs(age),
            applied,
            ..Report::default()
        }
    }

    #[test]
    fn the_lag_is_that_of_the_last_of_those_that_report() {
        let current = Revision::new(2, 10);
        let at = |epoch, number| Some(Revision::new(epoch, number));
        for (reports, lag) in [
            (vec![], 0),
            (vec![report(0, at(2, 10)), report(0, at(2, 8))], 2),
            (vec![report(0, at(2, 10)), report(9, at(2, 1))], 0),
            (vec![report(0, at(1, 10))], 10),
            (vec![report(0, None)], 10),
            (vec![report(0, at(2, 11))], 0),
        ] {
            assert_eq!(PlanesSeen::of(&reports, current).lag, lag, "{reports:?}");
        }
        let seen = PlanesSeen::of(&[report(0, None), report(9, None)], current);
        assert_eq!((seen.fresh, seen.stale), (1, 1));
    }

    #[test]
    fn what_nobody_can_tell_has_no_series() {
        let metrics = Metrics::new().unwrap();
        metrics.seen.jobs(Some(vec![(JobState::Running, 2)]));
        metrics
            .seen
            .planes(Some(PlanesSeen::of(&[], Revision::new(1, 1))));
        let text = metrics.render().unwrap();
        for line in [
            "jobs{state=\"running\"} 2",
            "jobs{state=\"queued\"} 0",
            "data_planes{state=\"fresh\"} 0",
            "data_plane_revision_lag 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        metrics.seen.jobs(None);
        metrics.seen.planes(None);
        let text = metrics.render().unwrap();
        assert!(
            !text.contains("_jobs{") && !text.contains("_lag 0"),
            "{text}"
        );
    }
}
