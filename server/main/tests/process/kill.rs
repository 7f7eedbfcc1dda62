//! SIGKILL under a load of writes loses nothing that was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::instance::{Instance, http};

const DEVICES: &str = "/api/management/v2/devauth/devices";
const WRITERS: usize = 8;
const RUNS: u64 = 4;
/// Any well-formed Ed25519 public key does: nobody signs with it here.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

#[test]
fn no_acknowledged_write_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Instance::start_with_user(dir.path());
    let token = server.token();
    let mut acknowledged: Vec<String> = Vec::new();
    for run in 0..RUNS {
        let stop = AtomicBool::new(false);
        let to = server.public;
        let new = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (stop, token) = (&stop, &token);
                    scope.spawn(move || {
                        let mut done = Vec::new();
                        for n in 0.. {
                            let name = format!("{run}-{writer}-{n}");
                            let body =
                                json!({"identity_data": {"mac": name}, "pubkey": KEY}).to_string();
                            match http(to, "POST", DEVICES, &format!("Bearer {token}"), &body) {
                                Some(answer) => {
                                    assert_eq!(answer.status, 201, "{}", answer.body);
                                    let id = answer
                                        .head
                                        .lines()
                                        .find_map(|l| l.strip_prefix("location: "));
                                    done.push(id.unwrap().rsplit('/').next().unwrap().to_owned());
                                }
                                None if stop.load(Ordering::SeqCst) => return done,
                                None => panic!("the server went away by itself"),
                            }
                        }
                        done
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(500 + 230 * run));
            stop.store(true, Ordering::SeqCst);
            server.kill();
            writers
                .into_iter()
                .flat_map(|writer| writer.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(!new.is_empty(), "run {run} wrote nothing");
        acknowledged.extend(new);
        server = Instance::start(dir.path(), &[]);
        for id in &acknowledged {
            let answer = server.call("GET", &format!("{DEVICES}/{id}"), &token, "");
            assert_eq!(
                answer.status, 200,
                "device {id} was acknowledged and is lost in run {run}"
            );
        }
    }
    println!("{} acknowledged writes, {RUNS} kills", acknowledged.len());
}
