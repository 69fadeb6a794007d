//! The Sluice server.
fn main() {}
