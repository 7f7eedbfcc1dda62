//! The embedded engine alone: its file and its log.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use ambidex_db::{Db, DbError, Migration, Value, statement};

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: "CREATE TABLE item (id TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, note TEXT);",
}];

fn open() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open_sqlite(&dir.path().join("server.db")).unwrap();
    db.migrate("test", SCHEMA).unwrap();
    (dir, db)
}

#[tokio::test]
async fn unusable_files_are_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let missing = Db::open_sqlite(&dir.path().join("no/server.db")).unwrap_err();
    assert!(
        matches!(&missing, DbError::Unavailable(text) if text.contains("no/server.db")),
        "{missing}"
    );
    let garbage = dir.path().join("garbage.db");
    std::fs::write(
        &garbage,
        "this is not a database, whatever its name says".repeat(100),
    )
    .unwrap();
    assert!(matches!(
        Db::open_sqlite(&garbage),
        Err(DbError::Corrupt(_))
    ));
    let (dir, _db) = open();
    let mode = std::fs::metadata(dir.path().join("server.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "it holds password hashes");
}

/// The log must not grow without bound under a steady load of writes.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_moved_into_the_file() {
    let (dir, db) = open();
    let filler = "x".repeat(4000);
    for round in 0..40 {
        let batch = (0..250)
            .map(|n| {
                statement(
                    "INSERT INTO item (id, n, note) VALUES ($1, $2, $3)",
                    vec![
                        format!("{round}-{n}").into(),
                        Value::Int(n),
                        filler.as_str().into(),
                    ],
                )
            })
            .collect();
        db.apply(batch).await.unwrap();
    }
    let log = std::fs::metadata(dir.path().join("server.db-wal"))
        .unwrap()
        .len();
    assert!(
        log < 32 << 20,
        "the log has {log} bytes after 40 MB of writes"
    );
}
