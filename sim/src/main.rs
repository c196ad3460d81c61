//! `ollama-sim`: simulated Ollama nodes as a program, for the demo and for benchmarks.
//!
//! Prints one JSON line a node when it listens, then one for the control port if there is one.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aivonx_sim::{NodeSpec, SimNode, control};
use clap::Parser;
use serde_json::json;

mod config;

use config::{ModelArg, read_config};

/// Simulated Ollama nodes.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// How many nodes.
    #[arg(long, default_value_t = 1)]
    nodes: u16,
    /// Address of the first node; the others take the next ports. Port 0 takes free ones.
    #[arg(long, default_value = "127.0.0.1:11500")]
    listen: SocketAddr,
    /// Where to serve the control port, by which faults are put on and taken off.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// A JSON file with models and limits; flags add to it and override it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// `NAME:SIZE:LOAD_MS:TOKENS_PER_S:PROMPT_TOKENS_PER_S`, all but the name optional; a speed left
    /// out, or of 0, is no wait at all. Prompts of one model are evaluated one after the other.
    /// Repeatable.
    #[arg(long = "model")]
    models: Vec<ModelArg>,
    /// Node seconds in a real second.
    #[arg(long)]
    time_scale: Option<f64>,
    /// Seed of everything random; node number n adds n.
    #[arg(long)]
    seed: Option<u64>,
    /// Streams of one model at a time.
    #[arg(long)]
    num_parallel: Option<usize>,
    /// Requests that may wait for a load.
    #[arg(long)]
    max_queue: Option<usize>,
    /// How many requests are remembered; 0 is fastest.
    #[arg(long, default_value_t = 0)]
    remember: usize,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let cli = Cli::parse();
    let base = spec(&cli)?;
    let mut nodes = Vec::new();
    for n in 0..cli.nodes {
        let mut addr = cli.listen;
        if addr.port() != 0 {
            addr.set_port(addr.port() + n);
        }
        let spec = NodeSpec {
            seed: base.seed + u64::from(n),
            ..base.clone()
        };
        let node = SimNode::start_on(spec, addr).await?;
        say(&json!({"node": n, "addr": node.addr().to_string(), "url": node.url()}))?;
        nodes.push(node);
    }
    let nodes = Arc::new(nodes);
    if let Some(addr) = cli.control {
        let (addr, run) = control::serve(addr, Arc::clone(&nodes)).await?;
        say(&json!({"control": addr.to_string()}))?;
        tokio::spawn(run);
    }
    tokio::signal::ctrl_c().await
}

/// The node all nodes are copies of.
fn spec(cli: &Cli) -> io::Result<NodeSpec> {
    let mut spec = match &cli.config {
        Some(path) => read_config(path)?,
        None => NodeSpec::new(),
    };
    spec.models.extend(cli.models.iter().map(|m| m.0.clone()));
    spec.remember = cli.remember;
    if let Some(scale) = cli.time_scale {
        spec.time_scale = scale;
    }
    if let Some(seed) = cli.seed {
        spec.seed = seed;
    }
    if let Some(slots) = cli.num_parallel {
        spec.num_parallel = slots.max(1);
    }
    if let Some(requests) = cli.max_queue {
        spec.max_queue = requests;
    }
    Ok(spec)
}

fn say(line: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
