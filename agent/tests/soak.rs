//! Ten thousand polls of the real daemon against a server that misbehaves in every way it can: no wedge, no
//! leak, and exactly one final report for every deployment that was not aborted. A day's polls and more, in a
//! minute: the intervals are milliseconds.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::{
    io::Cursor,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ambidex_artifact::{ArtifactSpec, Payload, PayloadSource, write};
use support::{Answer, Device, Request, Server, TOKEN, answer, answer_with, cut, stall};

const POLLS: u32 = 10_000;
/// Polls between two deployments.
const PAUSE: u32 = 50;
/// Polls after which memory is taken for settled.
const SETTLED: u32 = 2_000;
/// How long a thousand polls may take before the daemon counts as wedged.
const WEDGED: Duration = Duration::from_secs(120);
const GROWTH_KIB_MAX: u64 = 2048;
const SEED: u64 = 0x5eed;

const MODULE: &str = r#"
case "$1" in
    SupportsRollback) echo Yes ;;
    ArtifactInstall) ! grep -q fail files/* ;;
esac"#;

#[derive(Debug, Default)]
struct Deployment {
    /// Final words that were taken.
    results: Vec<String>,
    aborted: bool,
}

/// What the server knows, and how it is minded.
struct World {
    dice: u64,
    calm: bool,
    polls: u32,
    faults: u32,
    open: Option<usize>,
    deployments: Vec<Deployment>,
    /// One that installs, and one that does not.
    artifacts: [Vec<u8>; 2],
}

impl World {
    fn roll(&mut self, sides: u64) -> u64 {
        // splitmix64: the same misfortunes in every run
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// One request in seven is answered badly.
    fn fault(&mut self) -> Option<Answer> {
        if self.calm || self.roll(7) != 0 {
            return None;
        }
        self.faults += 1;
        let error = r#"{"error":"not today","request_id":"r"}"#;
        Some(match self.roll(16) {
            0..=2 => answer(500, error),
            3 | 4 => answer(503, "<html>no JSON</html>"),
            5 | 6 => answer(401, error),
            7 => answer_with(429, &[("Retry-After", "0")], error),
            8..=10 => Answer::Close,
            11 | 12 => cut(200, &[], vec![b'x'; 400], 100),
            13 => answer(200, "{\"id\": corrupt"),
            14 => answer(404, error),
            // dear: it costs the whole time limit
            _ if self.roll(8) == 0 => stall(200, &[], vec![b'x'; 400], 10),
            _ => Answer::Close,
        })
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let target = request.target.clone();
        let is_poll = target.contains("/deployments/next");
        self.polls += u32::from(is_poll);
        if let Some((_, id)) = target.split_once("/artifact/") {
            return self.download(request, id.parse().unwrap());
        }
        if let Some(fault) = self.fault() {
            return fault;
        }
        if target.ends_with("/auth_requests") {
            answer(200, TOKEN)
        } else if is_poll {
            self.poll(request)
        } else if target.ends_with("/status") {
            self.status(request)
        } else {
            answer(if request.method == "PUT" { 204 } else { 200 }, "")
        }
    }

    fn poll(&mut self, request: &Request) -> Answer {
        if self.open.is_none() && !self.calm && self.polls.is_multiple_of(PAUSE) {
            self.open = Some(self.deployments.len());
            self.deployments.push(Deployment::default());
        }
        let Some(number) = self.open else {
            return answer(204, "");
        };
        let host = request.header("host").unwrap();
        let body = serde_json::json!({
            "id": format!("deployment-{number}"),
            "artifact": {
                "artifact_name": "release",
                "source": {"uri": format!("http://{host}/artifact/{number}"), "expire": "2099-01-01T00:00:00Z"},
                "device_types_compatible": ["test-board"],
            },
        });
        answer(200, body.to_string())
    }

    fn status(&mut self, request: &Request) -> Answer {
        let (_, rest) = request.target.split_once("/deployment-").unwrap();
        let number: usize = rest.split('/').next().unwrap().parse().unwrap();
        let word = request.json()["status"].as_str().unwrap().to_owned();
        let is_final = ["success", "failure"].contains(&word.as_str());
        let abort = !self.calm && self.roll(40) == 0;
        let deployment = &mut self.deployments[number];
        if deployment.aborted || (abort && !is_final) {
            deployment.aborted = true;
            self.open = self.open.filter(|open| *open != number);
            return answer(409, r#"{"error":"aborted","request_id":"r"}"#);
        }
        if is_final {
            deployment.results.push(word);
            self.open = self.open.filter(|open| *open != number);
        }
        answer(204, "")
    }

    fn download(&mut self, request: &Request, number: usize) -> Answer {
        let mut bytes = self.artifacts[number % 4 / 3].clone();
        let tag = ("ETag", "\"v1\"");
        let from = request
            .header("range")
            .and_then(|range| {
                range
                    .strip_prefix("bytes=")?
                    .split('-')
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or(0_usize);
        let whole = bytes.len();
        let misfortune = if self.calm { 99 } else { self.roll(24) };
        self.faults += u32::from(misfortune < 6);
        let range = format!("bytes {from}-{}/{whole}", whole - 1);
        let part: Vec<u8> = bytes.split_off(from.min(whole));
        let middle = part.len() / 2;
        let (status, headers) = if from > 0 {
            (206, vec![tag, ("Content-Range", range.as_str())])
        } else {
            (200, vec![tag])
        };
        match misfortune {
            0 | 1 => cut(status, &headers, part, middle),
            2 => stall(status, &headers, part, middle),
            3 => answer(503, ""),
            4 => Answer::Close,
            5 => {
                let mut damaged = part;
                damaged[middle] ^= 1;
                answer_with(status, &headers, damaged)
            }
            _ => answer_with(status, &headers, part),
        }
    }
}

fn artifact(content: &[u8]) -> Vec<u8> {
    let payload = Payload::Module("soak".to_owned());
    let spec = ArtifactSpec::new(payload, "release", vec!["test-board".to_owned()]);
    let files = [PayloadSource::from_bytes("file", content)];
    let mut out = Cursor::new(Vec::new());
    write(&spec, &files, None, &mut out, &mut |_| {}).unwrap();
    out.into_inner()
}

struct Daemon(Child);

impl Daemon {
    fn start(device: &Device) -> Daemon {
        let log = std::fs::File::create(device.path("daemon.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ambidex-agent"))
            .arg("--conf-dir")
            .arg(device.path("conf"))
            .arg("--data-dir")
            .arg(device.path("data"))
            .arg("--state-dir")
            .arg(device.path("state"))
            .args(["daemon", "-l", "error"])
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Daemon(child.unwrap())
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        line.unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the server's world is so; the daemon must live and go on meanwhile.
async fn until(daemon: &mut Daemon, world: &Mutex<World>, done: impl Fn(&World) -> bool) {
    let mut seen = (0, Instant::now());
    loop {
        {
            let world = world.lock().unwrap();
            if done(&world) {
                return;
            }
            if world.polls / 1000 != seen.0 {
                seen = (world.polls / 1000, Instant::now());
            }
            assert!(
                seen.1.elapsed() < WEDGED,
                "wedged after {} polls",
                world.polls
            );
        }
        assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_polls_of_a_server_that_misbehaves() {
    let world = Arc::new(Mutex::new(World {
        dice: SEED,
        calm: false,
        polls: 0,
        faults: 0,
        open: None,
        deployments: Vec::new(),
        artifacts: [artifact(&[b'x'; 20_000]), artifact(b"fail")],
    }));
    let script = Arc::clone(&world);
    let server = Server::start(move |request| script.lock().unwrap().answer(request)).await;
    let device = Device::new(&[&server.url], "");
    // the first one refuses every connection
    let conf = format!(
        "servers = [\"http://127.0.0.1:1\", {:?}]\n\
         update_poll_interval_seconds = 0.002\n\
         inventory_poll_interval_seconds = 0.1\n\
         retry_poll_first_seconds = 0.002\n\
         retry_poll_interval_seconds = 0.01\n\
         retry_poll_count = 50\n\
         retry_download_interval_seconds = 0.002\n\
         download_idle_timeout_seconds = 0.2\n\
         request_timeout_seconds = 0.3\n\
         connect_timeout_seconds = 0.3\n",
        server.url
    );
    device.write("conf/agent.toml", &conf);
    device.script("data/modules/v3/soak", MODULE);
    let mut daemon = Daemon::start(&device);

    until(&mut daemon, &world, |world| world.polls >= SETTLED).await;
    let before = (daemon.resident_kib(), daemon.open_files());
    until(&mut daemon, &world, |world| world.polls >= POLLS).await;
    // in peace what was begun comes to its end
    world.lock().unwrap().calm = true;
    until(&mut daemon, &world, |world| world.open.is_none()).await;
    let polls = world.lock().unwrap().polls;
    until(&mut daemon, &world, |world| world.polls >= polls + 20).await;
    let after = (daemon.resident_kib(), daemon.open_files());
    drop(daemon);

    let world = world.lock().unwrap();
    let count = |word: &str| {
        let with = world.deployments.iter().filter(|one| one.results == [word]);
        with.count()
    };
    println!(
        "{} polls, {} faults, {} deployments: {} succeeded, {} failed, {} aborted; {} and {} KiB, {} and {} files",
        world.polls,
        world.faults,
        world.deployments.len(),
        count("success"),
        count("failure"),
        world.deployments.iter().filter(|one| one.aborted).count(),
        before.0,
        after.0,
        before.1,
        after.1,
    );
    for (number, deployment) in world.deployments.iter().enumerate() {
        let wanted = usize::from(!deployment.aborted);
        assert_eq!(deployment.results.len(), wanted, "{number}: {deployment:?}");
    }
    assert!(count("success") > 20 && count("failure") > 20);
    assert!(after.0 < before.0 + GROWTH_KIB_MAX, "{before:?} {after:?}");
    assert!(after.1 < before.1 + 8, "{before:?} {after:?}");
}
