//! The embedded engine: atomicity, visibility, concurrency, errors.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use ambidex_db::{Db, DbError, Migration, Value, params, statement};

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: "CREATE TABLE item (id TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, note TEXT);
          CREATE TABLE log (seq BIGINT NOT NULL, worker BIGINT NOT NULL, PRIMARY KEY (worker, seq));",
}];

fn open() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open_sqlite(&dir.path().join("server.db")).unwrap();
    db.migrate("test", SCHEMA).unwrap();
    (dir, db)
}

async fn n_of(db: &Db, id: &str) -> Option<i64> {
    db.point("SELECT n FROM item WHERE id = $1", &params![id])
        .await
        .unwrap()
        .map(|row| row.get(0).unwrap())
}

fn put(id: &str, n: i64) -> ambidex_db::Statement {
    statement("INSERT INTO item (id, n) VALUES ($1, $2)", params![id, n])
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_see_every_returned_write() {
    let (_dir, db) = open();
    for n in 0..200 {
        let id = format!("id-{n}");
        assert_eq!(db.apply(vec![put(&id, n)]).await.unwrap(), [1]);
        assert_eq!(n_of(&db, &id).await, Some(n));
        let rows = db
            .query("SELECT count(*) FROM item WHERE n <= $1", params![n])
            .await
            .unwrap();
        assert_eq!(rows[0].get::<i64>(0).unwrap(), n + 1);
    }
}

#[tokio::test]
async fn parameters_are_bound_by_their_number() {
    let (_dir, db) = open();
    let row = db
        .point(
            "SELECT $2, $1, $2 || '$1', $3, $4, $5",
            &params!["a", "b", Option::<i64>::None, true, vec![1u8, 2]],
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.get::<String>(0).unwrap(), "b");
    assert_eq!(row.get::<String>(1).unwrap(), "a");
    assert_eq!(row.text(2).unwrap(), "b$1");
    assert_eq!(row.get::<Option<String>>(3).unwrap(), None);
    assert!(row.get::<bool>(4).unwrap());
    assert_eq!(row.get::<Vec<u8>>(5).unwrap(), [1, 2]);
    assert!(row.get::<i64>(0).is_err() && row.get::<i64>(9).is_err());
    let missing = db.point("SELECT $2", &params!["a"]).await;
    assert!(matches!(missing, Err(DbError::Other(_))), "{missing:?}");
}

#[tokio::test]
async fn a_failed_batch_leaves_nothing() {
    let (_dir, db) = open();
    db.apply(vec![put("a", 1)]).await.unwrap();
    let duplicate = db.apply(vec![put("b", 2), put("a", 3)]).await;
    assert!(
        matches!(&duplicate, Err(DbError::UniqueViolation { constraint }) if constraint.contains("item.id")),
        "{duplicate:?}"
    );
    let update = || statement("UPDATE item SET n = 9 WHERE id = $1", params!["nobody"]);
    let conflict = db.apply(vec![put("c", 4), update().expect_one()]).await;
    assert_eq!(conflict, Err(DbError::Conflict { index: 1 }));
    assert_eq!(
        db.apply(vec![update().expect_at_least(1)]).await,
        Err(DbError::Conflict { index: 0 })
    );
    assert_eq!(db.apply(vec![update(), put("d", 5)]).await.unwrap(), [0, 1]);
    assert!(matches!(
        db.apply(vec![statement("UPDATE nowhere SET x = 1", vec![])])
            .await,
        Err(DbError::Other(_))
    ));
    let ids = db
        .query("SELECT id FROM item ORDER BY id", vec![])
        .await
        .unwrap();
    let ids: Vec<_> = ids.iter().map(|row| row.text(0).unwrap()).collect();
    assert_eq!(ids, ["a", "d"]);
}

/// Many tasks increment through compare-and-set; neighbours in the same group that fail must not undo
/// those that succeed, and none may be lost or counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conditional_updates_are_settled_by_the_database() {
    const TASKS: i64 = 64;
    const EACH: i64 = 20;
    let (_dir, db) = open();
    db.apply(vec![put("counter", 0)]).await.unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|worker| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut conflicts = 0;
                let mut done = 0;
                while done < EACH {
                    let seen = n_of(&db, "counter").await.unwrap();
                    let outcome = db
                        .apply(vec![
                            statement(
                                "INSERT INTO log (seq, worker) VALUES ($1, $2)",
                                params![done, worker],
                            ),
                            statement(
                                "UPDATE item SET n = n + 1 WHERE id = $1 AND n = $2",
                                params!["counter", seen],
                            )
                            .expect_one(),
                        ])
                        .await;
                    match outcome {
                        Ok(_) => done += 1,
                        Err(DbError::Conflict { index: 1 }) => conflicts += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
                conflicts
            })
        })
        .collect();
    let mut conflicts = 0;
    for task in tasks {
        conflicts += task.await.unwrap();
    }
    assert!(conflicts > 0, "the tasks must have met");
    assert_eq!(n_of(&db, "counter").await, Some(TASKS * EACH));
    let rows = db.query("SELECT count(*) FROM log", vec![]).await.unwrap();
    assert_eq!(rows[0].get::<i64>(0).unwrap(), TASKS * EACH);
}

#[tokio::test]
async fn transactions_see_themselves_and_roll_back() {
    let (_dir, db) = open();
    let sum: i64 = db
        .transaction(|tx| {
            tx.execute(
                "INSERT INTO item (id, n) VALUES ($1, $2)",
                &params!["a", 20],
            )?;
            tx.execute(
                "INSERT INTO item (id, n) VALUES ($1, $2)",
                &params!["b", 22],
            )?;
            tx.query("SELECT sum(n) FROM item", &[])?[0].get(0)
        })
        .await
        .unwrap();
    assert_eq!(sum, 42);
    let refused: Result<(), DbError> = db
        .transaction(|tx| {
            tx.execute("DELETE FROM item", &[])?;
            Err(DbError::Conflict { index: 7 })
        })
        .await;
    assert_eq!(refused, Err(DbError::Conflict { index: 7 }));
    let panicked: Result<(), DbError> = db
        .transaction(|tx| {
            tx.execute("DELETE FROM item", &[])?;
            panic!("in the middle")
        })
        .await;
    assert!(matches!(panicked, Err(DbError::Other(_))));
    assert_eq!(
        n_of(&db, "b").await,
        Some(22),
        "nothing was deleted, the writer lives"
    );
}

#[tokio::test]
async fn migrations_run_once_and_refuse_surprises() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let db = Db::open_sqlite(&path).unwrap();
    let one = Migration {
        version: 1,
        name: "one",
        sql: "CREATE TABLE a (x BIGINT NOT NULL PRIMARY KEY);",
    };
    let two = Migration {
        version: 2,
        name: "two",
        sql: "CREATE TABLE b (x BIGINT NOT NULL PRIMARY KEY); INSERT INTO a (x) VALUES (1);",
    };
    let broken = Migration {
        version: 3,
        name: "broken",
        sql: "CREATE TABLE c (x BIGINT); INSERT INTO nowhere VALUES (1);",
    };
    db.migrate("s", &[one]).unwrap();
    db.migrate("s", &[one, two]).unwrap();
    db.migrate("s", &[one, two]).unwrap();
    let failed = db
        .migrate("s", &[one, two, broken])
        .unwrap_err()
        .to_string();
    assert!(failed.contains("3 broken"), "{failed}");
    assert!(
        db.query("SELECT * FROM c", vec![]).await.is_err(),
        "applied whole or not at all"
    );
    let newer = db.migrate("s", &[one]).unwrap_err().to_string();
    assert!(newer.contains("newer program"), "{newer}");
    let edited = Migration {
        sql: "CREATE TABLE other (x BIGINT);",
        ..one
    };
    assert!(db.migrate("s", &[edited, two]).is_err());
    assert!(db.migrate("s", &[two, one]).is_err());
    db.close().await.unwrap();
    assert_eq!(db.point("SELECT 1", &[]).await, Err(DbError::Closed));
    assert_eq!(db.apply(vec![]).await, Err(DbError::Closed));
    let db = Db::open_sqlite(&path).unwrap();
    let rows = db.query("SELECT x FROM a", vec![]).await.unwrap();
    assert_eq!(rows.len(), 1);
    db.ping().await.unwrap();
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

#[tokio::test]
async fn plans_can_be_told_apart() {
    let (_dir, db) = open();
    let search = db.explain("SELECT n FROM item WHERE id = $1").unwrap();
    assert!(
        search.iter().all(|line| !line.contains("SCAN")),
        "{search:?}"
    );
    let scan = db.explain("SELECT n FROM item WHERE note = $1").unwrap();
    assert!(scan.iter().any(|line| line.contains("SCAN")), "{scan:?}");
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

/// Administration verbs write beside a running server: neither loses anything, neither fails.
#[tokio::test(flavor = "multi_thread")]
async fn two_handles_on_one_file_take_turns() {
    let (dir, db) = open();
    let other = Db::open_sqlite(&dir.path().join("server.db")).unwrap();
    let writers: Vec<_> = [&db, &other]
        .into_iter()
        .enumerate()
        .map(|(handle, db)| {
            let db = db.clone();
            tokio::spawn(async move {
                for n in 0..200 {
                    db.apply(vec![put(&format!("{handle}-{n}"), n)])
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for db in [&db, &other] {
        let rows = db.query("SELECT count(*) FROM item", vec![]).await.unwrap();
        assert_eq!(rows[0].get::<i64>(0).unwrap(), 400);
    }
}
