//! Real agent against real server on loopback
