//! A full disk: refused with the cause in the log, nothing acknowledged is lost, and it heals by itself.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::instance::{EMAIL, Instance, PASSWORD, http, verb_ok};

const SETTINGS: &str = "/api/management/v1/useradm/settings";

/// A small file system that is unmounted when dropped; `None` without the right to mount.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(dir: &'a Path) -> Option<Small<'a>> {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(dir)
            .output();
        done.is_ok_and(|output| output.status.success())
            .then_some(Small(dir))
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(dir.path()) else {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return;
    };
    let server = Instance::start(dir.path(), &[]);
    verb_ok(
        &server.data_dir,
        &["user", "create", "--email", EMAIL, "--password", PASSWORD],
    );
    let token = server.token();
    assert_eq!(
        server
            .call("POST", SETTINGS, &token, r#"{"before":1}"#)
            .status,
        201
    );
    small.fill();
    // Many texts, because the length of each is limited.
    let parts: Vec<String> = (0..15)
        .map(|n| format!(r#""k{n}":"{}""#, "x".repeat(4000)))
        .collect();
    let big = format!("{{{}}}", parts.join(","));
    let health = || {
        http(
            server.internal,
            "GET",
            "/api/internal/v1/useradm/health",
            "",
            "",
        )
        .unwrap()
    };
    for _ in 0..3 {
        let refused = server.call("POST", SETTINGS, &token, &big);
        assert_eq!(refused.status, 503);
        assert_eq!(
            refused.json()["error"],
            "the database cannot serve at the moment, try again later"
        );
    }
    let unwell = health();
    assert_eq!(unwell.status, 503);
    assert!(
        unwell.body.contains("free space on the disk"),
        "{}",
        unwell.body
    );
    assert_eq!(
        server.call("GET", SETTINGS, &token, "").body,
        r#"{"before":1}"#,
        "reading goes on"
    );
    std::fs::remove_file(dir.path().join("filler")).unwrap();
    assert_eq!(
        server
            .call("POST", SETTINGS, &token, r#"{"after":1}"#)
            .status,
        201
    );
    assert_eq!(health().status, 204);
    server.kill();
    let server = Instance::start(dir.path(), &[]);
    assert_eq!(
        server.call("GET", SETTINGS, &token, "").body,
        r#"{"after":1}"#
    );
    drop(server);
}
