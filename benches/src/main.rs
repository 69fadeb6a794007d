//! Measures what a full sync costs.
fn main() {}
