//! `aivonx demo`: the proxy in front of simulated Ollama nodes, to look around without a GPU.

use std::process::ExitCode;
use std::time::Duration;

use aivonx_proxy::FleetSource;
use aivonx_shared::config::ProxyConfig;
use aivonx_shared::fleet_doc::FleetDoc;
use aivonx_sim::{ModelSpec, NodeSpec, SimNode};

use crate::cli::DemoArgs;

/// Starts the nodes, writes their fleet file and runs the proxy over it.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    match prepare(args) {
        Ok((config, folder, doc)) => {
            let file = folder.path().join("fleet.yaml");
            eprintln!(
                "demo: {} simulated nodes; their fleet file is {}",
                args.nodes,
                file.display()
            );
            eprintln!(
                "demo: try  curl http://{}/api/chat -d '{{\"model\":\"llama3.2\",\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'",
                args.listen
            );
            let fleet = FleetSource::File { path: file, doc };
            crate::proxy::start(config, fleet)
        }
        Err(error) => {
            eprintln!("aivonx: demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare(args: &DemoArgs) -> anyhow::Result<(ProxyConfig, tempfile::TempDir, FleetDoc)> {
    let nodes = start_nodes(args.nodes)?;
    let list: Vec<String> = nodes
        .iter()
        .enumerate()
        .map(|(index, url)| format!("  - {{name: sim-{}, url: \"{url}\"}}\n", index + 1))
        .collect();
    let text = format!(
        "# The simulated nodes of `aivonx demo`; changes are applied at once.\nnodes:\n{}",
        list.concat()
    );
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("fleet.yaml"), &text)?;
    let doc = FleetDoc::from_yaml(&text)?;
    let mut config = ProxyConfig::defaults();
    config.listen.proxy = args.listen;
    config.listen.ops = args.ops_listen;
    Ok((config, folder, doc))
}

/// Starts the nodes on a thread of their own; they live as long as the process. Gives their URLs.
fn start_nodes(count: u16) -> anyhow::Result<Vec<String>> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("sim".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let started = runtime.and_then(|runtime| {
                let nodes: std::io::Result<Vec<SimNode>> =
                    runtime.block_on(async { start_each(count).await });
                nodes.map(|nodes| (runtime, nodes))
            });
            match started {
                Ok((runtime, nodes)) => {
                    let _ = tell.send(Ok(nodes.iter().map(SimNode::url).collect()));
                    runtime.block_on(std::future::pending::<()>());
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        })?;
    Ok(told.recv_timeout(Duration::from_secs(10))??)
}

/// Every node has the small model, every other one the large one and the embeddings.
async fn start_each(count: u16) -> std::io::Result<Vec<SimNode>> {
    let mut nodes = Vec::new();
    for index in 0..count {
        let mut spec = NodeSpec::new().model(
            ModelSpec::new("llama3.2:latest")
                .size(2_019_393_189)
                .load_time(Duration::from_secs(2))
                .speed(800.0, 40.0),
        );
        if index % 2 == 0 {
            spec = spec
                .model(
                    ModelSpec::new("qwen3:8b")
                        .size(5_225_388_164)
                        .load_time(Duration::from_secs(4))
                        .speed(400.0, 25.0),
                )
                .model(ModelSpec::embedding("embeddinggemma:300m").size(621_875_917));
        }
        nodes.push(SimNode::start(spec).await?);
    }
    Ok(nodes)
}
