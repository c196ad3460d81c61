//! Several control planes and data planes, and the roads between them and their servers: what is cut off, what
//! is killed in the middle, who comes at the same time. Requests flow meanwhile, and not one of them may fail.

mod clock;
mod disk;
mod killed;
mod partitions;
mod racing;
mod secured;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};

use crate::support::Estate;

/// So many control planes and data planes with one node that all know; its id.
async fn estate(controls: usize, planes: usize) -> (SimNode, Estate, i64) {
    let node = SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny")));
    let (node, estate) = (node.await.unwrap(), Estate::start(controls, planes).await);
    let id = estate.register(&node).await;
    (node, estate, id)
}
