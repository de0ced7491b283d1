//! The `carob` program.
fn main() {}
