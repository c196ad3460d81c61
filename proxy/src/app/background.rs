//! What a data plane does beside requests: follows the source of its fleet, probes nodes, reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::watch;

use crate::balance::Balancer;
use crate::edge::Certificate;
use crate::probe::Probes;
use crate::sync::Source;
use crate::sync::members::Members;
use crate::sync::report::Reporter;
use crate::sync::usage::UsageRoad;

/// Follows the source of the fleet and the nodes.
pub(super) struct Background {
    pub(super) probes: Arc<Probes>,
    pub(super) balancer: Arc<Balancer>,
    /// Set once every node was probed and what was found is in force. Stays set.
    pub(super) first_round: Arc<AtomicBool>,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) members: Arc<Members>,
    pub(super) source: Source,
    /// Where somebody listens.
    pub(super) reporter: Option<Reporter>,
    pub(super) usage: Option<Arc<UsageRoad>>,
    pub(super) changes: watch::Receiver<u64>,
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let probes = Arc::clone(&self.probes).run(self.changes.clone());
        // nodes are watched until the last request has ended, the source until the drain begins
        let follow = async {
            tokio::select! {
                () = self.source.follow() => {}
                _ = shutdown.changed() => {}
            }
        };
        tokio::join!(
            probes,
            follow,
            self.members.follow(),
            self.report(),
            self.bring_usage(),
            self.keep_in_force(),
            self.keep_certificate()
        );
    }
}

impl Background {
    async fn report(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.run().await;
        }
    }

    async fn bring_usage(&self) {
        if let Some(usage) = &self.usage {
            usage.run().await;
        }
    }

    /// Takes a new certificate when there is one.
    async fn keep_certificate(&self) {
        if let Some(certificate) = &self.certificate {
            certificate.follow().await;
        }
    }

    /// Builds what requests look at again after each change of document, health or inventory.
    async fn keep_in_force(&self) {
        let mut changes = self.changes.clone();
        loop {
            self.probes.fleet.refresh();
            self.balancer.sync().await;
            // nothing was told since, so all that is known is in force
            let is_known = self.members.is_settled() && self.probes.all_probed();
            if is_known && !changes.has_changed().unwrap_or(true) {
                self.first_round.store(true, Ordering::Release);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}
