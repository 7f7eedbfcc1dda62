//! `ambidex terminal`, `cp`, `port-forward`, `ssh-proxy` and `session` against the real server and a
//! device that is connected to it.

mod access;
mod agent;
mod copy;
mod desk;
mod faults;
mod forward;
mod resume;
mod speed;
mod ssh;
mod terminal;
