//! The deployment state machine: pure, without clock, files or network
