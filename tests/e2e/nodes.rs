//! How aivonx reaches its nodes: TLS, credentials, DNS, and what they say of their account.

mod account;
mod credentials;
mod dns;
mod tls;
mod tls_faults;

use aivonx_sim::{ModelSpec, NodeSpec};

/// A node with one quick model.
fn tiny() -> NodeSpec {
    NodeSpec::new()
        .num_parallel(8)
        .model(ModelSpec::new("tiny").speed(f64::INFINITY, 50.0))
}

/// What a command of the binary prints, and its exit code.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aivonx"))
        .args(args)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}
