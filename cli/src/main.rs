//! The operator command line: artifacts and fleet
fn main() {}
