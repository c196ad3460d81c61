//! `bench-servers`: a Postgres and a Redis of their own, for as long as somebody holds the standard input. Says
//! in one line of JSON where they are.

use std::io::Read;

use aivonx_test_servers::{Postgres, Redis};
use serde_json::json;

fn main() -> std::io::Result<()> {
    let (postgres, redis) = (Postgres::new()?, Redis::new());
    let urls = json!({"postgres": postgres.database()?, "redis": redis.url()});
    println!("{urls}");
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing)?;
    Ok(())
}
