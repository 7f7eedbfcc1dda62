//! Acknowledged writes survive the death of the process.
//!
//! The test starts its own binary again as a child that writes without pause and prints each write
//! after it was acknowledged; the child is killed at a random moment and the database is opened again.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ambidex_db::{Db, Migration, params, statement};

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: "CREATE TABLE a (id TEXT NOT NULL PRIMARY KEY); CREATE TABLE b (id TEXT NOT NULL PRIMARY KEY);",
}];
const CHILD_DIR: &str = "AMBIDEX_DB_DURABILITY_CHILD";
const WRITERS: u32 = 16;

/// Not a test of its own: does nothing unless started as the child.
#[test]
fn child_writes_until_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let db = Db::open_sqlite(&Path::new(&dir).join("server.db")).unwrap();
        db.migrate("test", SCHEMA).unwrap();
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let db = db.clone();
                tokio::spawn(async move {
                    for n in 0.. {
                        let id = format!("{writer}-{n}-{}", std::process::id());
                        db.apply(vec![
                            statement("INSERT INTO a (id) VALUES ($1)", params![id.as_str()]),
                            statement("INSERT INTO b (id) VALUES ($1)", params![id.as_str()]),
                        ])
                        .await
                        .unwrap();
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "ack {id}").unwrap();
                        out.flush().unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn kill_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for run in 0..5u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_killed", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pid = child.id();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(400 + 170 * run));
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
        });
        let before = acknowledged.len();
        for line in lines.map_while(Result::ok) {
            // A line cut off by the kill is an acknowledgement that nobody received.
            let id = line.strip_prefix("ack ").unwrap_or_default();
            if id.ends_with(&format!("-{pid}")) {
                acknowledged.push(id.to_owned());
            }
        }
        killer.join().unwrap();
        assert!(acknowledged.len() > before, "run {run} wrote nothing");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let db = Db::open_sqlite(&dir.path().join("server.db")).unwrap();
        for id in &acknowledged {
            let row = db.point("SELECT 1 FROM a WHERE id = $1", &params![id]).await.unwrap();
            assert!(row.is_some(), "{id} was acknowledged and is lost");
        }
        let halves = db
            .query(
                "SELECT id FROM a WHERE id NOT IN (SELECT id FROM b) UNION ALL SELECT id FROM b WHERE id NOT IN (SELECT id FROM a)",
                vec![],
            )
            .await
            .unwrap();
        assert!(halves.is_empty(), "half a batch was applied: {halves:?}");
        let checked = db.query("PRAGMA integrity_check", vec![]).await.unwrap();
        assert_eq!(checked[0].text(0).unwrap(), "ok");
    });
    println!("{} acknowledged writes checked", acknowledged.len());
}
