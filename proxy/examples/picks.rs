//! Prints what picking a node and reloading a large fleet cost, as JSON, for `script/bench`.

fn main() {
    println!("{}", aivonx_proxy::measure::picks(1000, 500));
}
