//! Starts real binaries for tests: server, agent, board, fault proxy
