//! The control plane through the front door, as operators use it: its REST API, and that what it says comes
//! into force. Every test runs on both ways to run the planes.

mod acceptance;
mod accounts;
mod browser;
mod command_line;
mod events;
mod faults;
mod first_start;
mod import;
mod input;
mod keys;
mod listen;
mod moving;
mod openapi;
mod operations;
mod pulls;
mod redirects;
mod usage;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};

use crate::support::{Kind, Stack, get, until};

/// Runs a story on both ways to run the planes.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn in_one_process() {
                super::$name($crate::support::Kind::Alone).await;
            }

            #[tokio::test]
            async fn as_programs_of_their_own() {
                super::$name($crate::support::Kind::Many).await;
            }
        }
    )+};
}
pub(super) use on_both;

async fn node() -> SimNode {
    SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny")))
        .await
        .unwrap()
}

/// Both planes with one node whose models are known.
async fn house(kind: Kind) -> (SimNode, Stack, i64) {
    let (sim, stack) = (node().await, Stack::start(kind).await);
    let id = stack.register("gpu-1", &sim).await;
    until("its models are known", || async {
        let tags = get(stack.aivonx.addr, "/api/tags").await;
        tags.status == 200 && tags.text().contains("tiny")
    })
    .await;
    (sim, stack, id)
}
