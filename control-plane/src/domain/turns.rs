//! Whose turn it is: where a job may begin a pull while others go on. At most so many go on at one node
//! and over the fleet, and of several jobs the one that has least under way comes first. The store asks
//! under its lock, so what is granted holds over all control planes.

use std::collections::HashMap;

/// How many pulls may go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullLimits {
    /// At one node.
    pub per_node: usize,
    /// At all nodes together.
    pub fleet: usize,
}

/// A job as far as turns go: nodes by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contender {
    /// Where it has begun and not ended.
    pub running: Vec<i64>,
    /// Where it has not begun, in the order in which it wants to.
    pub waiting: Vec<i64>,
}

impl Contender {
    fn could_begin(&self, busy: &HashMap<i64, usize>, limits: PullLimits) -> Option<i64> {
        let is_free = |node: &i64| busy.get(node).copied().unwrap_or(0) < limits.per_node;
        self.waiting.iter().copied().find(is_free)
    }
}

/// The nodes at which `own` may begin now, beside the others. One that could begin and has less under way
/// goes before; its own worker begins it.
pub fn granted(own: &Contender, others: &[Contender], limits: PullLimits) -> Vec<i64> {
    let mut own = own.clone();
    let mut busy: HashMap<i64, usize> = HashMap::new();
    let running = others.iter().chain([&own]).flat_map(|one| &one.running);
    for node in running {
        *busy.entry(*node).or_default() += 1;
    }
    let mut begun = Vec::new();
    while busy.values().sum::<usize>() < limits.fleet {
        let Some(node) = own.could_begin(&busy, limits) else {
            break;
        };
        let goes_before = |other: &&Contender| {
            other.running.len() < own.running.len() && other.could_begin(&busy, limits).is_some()
        };
        if others.iter().any(|other| goes_before(&other)) {
            break;
        }
        own.waiting.retain(|other| *other != node);
        own.running.push(node);
        *busy.entry(node).or_default() += 1;
        begun.push(node);
    }
    begun
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn job(running: &[i64], waiting: &[i64]) -> Contender {
        Contender {
            running: running.to_vec(),
            waiting: waiting.to_vec(),
        }
    }

    fn limits(per_node: usize, fleet: usize) -> PullLimits {
        PullLimits { per_node, fleet }
    }

    #[test]
    fn a_job_alone_begins_as_far_as_the_fleet_allows() {
        let own = job(&[], &[1, 2, 3, 4]);
        assert_eq!(granted(&own, &[], limits(1, 3)), [1, 2, 3]);
        assert!(granted(&job(&[1, 2, 3], &[4]), &[], limits(1, 3)).is_empty());
    }

    #[test]
    fn a_busy_node_is_passed_over() {
        let other = job(&[1], &[]);
        assert_eq!(
            granted(
                &job(&[], &[1, 2]),
                std::slice::from_ref(&other),
                limits(1, 3)
            ),
            [2]
        );
        assert_eq!(granted(&job(&[], &[1, 2]), &[other], limits(2, 9)), [1, 2]);
    }

    #[test]
    fn who_has_less_under_way_goes_before() {
        let large = job(&[1, 2], &[3, 4]);
        let small = job(&[], &[5]);
        assert!(granted(&large, std::slice::from_ref(&small), limits(1, 3)).is_empty());
        assert_eq!(
            granted(&small, std::slice::from_ref(&large), limits(1, 3)),
            [5]
        );
        // one that cannot begin holds nobody up
        let stuck = job(&[], &[1]);
        assert_eq!(granted(&large, &[stuck], limits(1, 3)), [3]);
    }

    #[test]
    fn of_two_equal_ones_the_first_begins_one_and_leaves_the_next_to_the_other() {
        let (one, two) = (job(&[], &[1, 2, 3]), job(&[], &[4, 5, 6]));
        assert_eq!(granted(&one, &[two], limits(1, 4)), [1]);
    }

    proptest! {
        #[test]
        fn the_limits_hold_and_somebody_can_always_go_on(
            per_node in 1_usize..3,
            fleet in 1_usize..5,
            jobs in prop::collection::vec(prop::collection::btree_set(0_i64..6, 1..6), 1..5),
        ) {
            let limits = limits(per_node, fleet);
            let mut jobs: Vec<_> = jobs
                .into_iter()
                .map(|nodes| job(&[], &nodes.into_iter().collect::<Vec<_>>()))
                .collect();
            loop {
                let mut has_begun = false;
                for at in 0..jobs.len() {
                    let mut others = jobs.clone();
                    let own = others.remove(at);
                    for node in granted(&own, &others, limits) {
                        has_begun = true;
                        jobs[at].waiting.retain(|other| *other != node);
                        jobs[at].running.push(node);
                    }
                }
                let running: Vec<_> = jobs.iter().flat_map(|job| job.running.clone()).collect();
                prop_assert!(running.len() <= fleet);
                for node in 0..6 {
                    prop_assert!(running.iter().filter(|other| **other == node).count() <= per_node);
                }
                let all_begun = jobs.iter().all(|job| job.waiting.is_empty());
                if all_begun {
                    break;
                }
                prop_assert!(has_begun || !running.is_empty(), "nobody may begin: {jobs:?}");
                // the oldest pull ends
                if let Some(job) = jobs.iter_mut().find(|job| !job.running.is_empty()) {
                    job.running.remove(0);
                }
            }
        }
    }
}
