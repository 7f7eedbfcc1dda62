//! The Ambidex server: every service in one process
fn main() {}
