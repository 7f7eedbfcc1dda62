//! Developer commands: demo, test, ci, bench, boards
fn main() {}
