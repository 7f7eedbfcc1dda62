//! Device swarm and benchmarks
