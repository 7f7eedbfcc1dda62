//! SIGKILL under a load of writes loses nothing that was acknowledged.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::instance::{Instance, http};

const DEVICES: &str = "/api/management/v2/devauth/devices";
const INVENTORY: &str = "/api/management/v1/inventory/devices";
const LOGS: &str = "/api/management/v1/auditlogs/logs?object_type=device&per_page=1";
const WRITERS: usize = 8;
const PAGE: usize = 500;
/// Any well-formed Ed25519 public key does: nobody signs with it here.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

#[test]
fn no_acknowledged_write_is_lost() {
    kill_under_load(4);
}

/// `cargo nextest run -p ambidex-server fifty_kills --run-ignored all --no-capture`
#[test]
#[ignore = "takes minutes"]
fn fifty_kills_lose_nothing() {
    kill_under_load(50);
}

/// Kills the server so many times while writers announce devices, and looks after each start for everything that
/// was acknowledged so far, in every service that must know of it.
fn kill_under_load(runs: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Instance::start_with_user(dir.path());
    let token = server.token();
    let mut acknowledged: HashSet<String> = HashSet::new();
    let mut starts = Vec::new();
    for run in 0..runs {
        // Another moment of the commit, the checkpoint and the background work each time.
        let after = 20 + (run * 97) % 300;
        acknowledged.extend(write_until_killed(server, &token, run, after));
        let begun = Instant::now();
        server = Instance::start(dir.path(), &[]);
        starts.push(begun.elapsed());
        let known = ids(&server, &token, DEVICES);
        let lost: Vec<_> = acknowledged.difference(&known).collect();
        assert!(
            lost.is_empty(),
            "acknowledged and lost in run {run}: {lost:?}"
        );
    }
    // What was still on its way to neighbours when the server died arrives: once, and for every device.
    let known = ids(&server, &token, DEVICES);
    wait_for("the inventory knows other devices", || {
        ids(&server, &token, INVENTORY) == known
    });
    wait_for("the audit log knows another number of devices", || {
        let answer = server.call("GET", LOGS, &token, "");
        let total = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("x-total-count: "));
        total.unwrap().parse() == Ok(known.len())
    });
    starts.sort_unstable();
    println!(
        "{} acknowledged writes, {} found, {runs} kills, slowest start {:?}",
        acknowledged.len(),
        known.len(),
        starts.last().unwrap()
    );
}

/// Writes, and kills the server once so many writes were acknowledged, in the middle of the next ones; returns
/// the ids of all that were.
fn write_until_killed(server: Instance, token: &str, run: u64, after: u64) -> Vec<String> {
    let stop = AtomicBool::new(false);
    let (acknowledge, acknowledged) = mpsc::channel();
    let to = server.public;
    let writer = |writer: usize, acknowledge: mpsc::Sender<()>| {
        let mut done = Vec::new();
        for n in 0.. {
            let name = format!("{run}-{writer}-{n}");
            let body = json!({"identity_data": {"mac": name}, "pubkey": KEY}).to_string();
            match http(to, "POST", DEVICES, &format!("Bearer {token}"), &body) {
                Some(answer) => {
                    assert_eq!(answer.status, 201, "{}", answer.body);
                    let mut lines = answer.head.lines();
                    let id = lines.find_map(|line| line.strip_prefix("location: devices/"));
                    done.push(id.unwrap().to_owned());
                    let _ = acknowledge.send(());
                }
                None if stop.load(Ordering::SeqCst) => break,
                None => panic!("the server went away by itself"),
            }
        }
        done
    };
    let writer = &writer;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let acknowledge = acknowledge.clone();
                scope.spawn(move || writer(number, acknowledge))
            })
            .collect();
        for _ in 0..after {
            acknowledged.recv().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        server.kill();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    })
}

/// The ids of a whole list, page by page.
fn ids(server: &Instance, token: &str, list: &str) -> HashSet<String> {
    let mut all = HashSet::new();
    for page in 1.. {
        let answer = server.call(
            "GET",
            &format!("{list}?per_page={PAGE}&page={page}"),
            token,
            "",
        );
        assert_eq!(answer.status, 200, "{}", answer.body);
        let found = answer.json();
        let found = found.as_array().unwrap();
        all.extend(
            found
                .iter()
                .map(|device| device["id"].as_str().unwrap().to_owned()),
        );
        if found.len() < PAGE {
            break;
        }
    }
    all
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
