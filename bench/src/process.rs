//! CPU time and memory of processes, from `/proc`.

use std::io;

/// Processes under test, their children included (nginx forks its workers).
pub(crate) struct Processes(Vec<u32>);

/// Memory of all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Resident, kilobytes; pages that processes share count for each.
    pub(crate) rss_kb: u64,
}

/// Clock ticks in a second, as `/proc` counts: 100 on every Linux that this runs on (proc(5)).
const TICKS: f64 = 100.0;

impl Processes {
    /// The processes `pids` and their children.
    pub(crate) fn of(pids: &[u32]) -> Self {
        let mut all = pids.to_vec();
        for pid in pids {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            // a kernel without this file has no forking servers under test, or says so by numbers
            let children = children.unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        Self(all)
    }

    /// Seconds of CPU so far, user and system.
    pub(crate) fn cpu(&self) -> io::Result<f64> {
        let mut ticks = 0;
        for pid in &self.0 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // the name in parentheses may hold anything
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let fields = rest.split_whitespace().skip(11).take(2);
            ticks += fields
                .filter_map(|field| field.parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(ticks as f64 / TICKS)
    }

    /// Memory now.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let mut rss_kb = 0;
        for pid in &self.0 {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let number = line.and_then(|line| line.split_whitespace().next());
            rss_kb += number
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or(0);
        }
        Ok(Memory { rss_kb })
    }
}
