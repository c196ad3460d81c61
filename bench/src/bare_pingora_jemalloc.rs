//! The bare Pingora of `bare_pingora.rs` with jemalloc.

#[path = "bare_pingora.rs"]
mod bare;

#[global_allocator]
static JEMALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    bare::main();
}
