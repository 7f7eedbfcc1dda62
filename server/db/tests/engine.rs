//! What callers rely on, the same on both engines: atomicity, visibility, concurrency, errors.
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
    let db = ambidex_testdb::open(dir.path());
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
    let db = ambidex_testdb::open(dir.path());
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
    let db = ambidex_testdb::open(dir.path());
    let rows = db.query("SELECT x FROM a", vec![]).await.unwrap();
    assert_eq!(rows.len(), 1);
    db.ping().await.unwrap();
}

#[tokio::test]
async fn plans_can_be_told_apart() {
    let (_dir, db) = open();
    ambidex_testdb::assert_searches(&db, "SELECT n FROM item WHERE id = $1");
    let scan = db.explain("SELECT n FROM item WHERE note = $1").unwrap();
    assert!(
        scan.iter()
            .any(|line| line.contains("SCAN") || line.contains("Seq Scan")),
        "{scan:?}"
    );
}

/// Administration verbs and other instances write beside a running server: neither loses anything, neither fails.
#[tokio::test(flavor = "multi_thread")]
async fn two_handles_on_one_file_take_turns() {
    let (dir, db) = open();
    let other = ambidex_testdb::open(dir.path());
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

/// Statements mean the same on both engines although their rules of types, capitals and order differ.
#[tokio::test]
async fn dialects_agree() {
    let (_dir, db) = open();
    for (id, n, note) in [
        ("b", 3, Some("Zebra 100%")),
        ("B", -1, None),
        ("a", 2, Some("zebra_\\")),
        ("_", 0, Some("Äther")),
    ] {
        db.apply(vec![statement(
            "INSERT INTO item (id, n, note) VALUES ($1, $2, $3)",
            params![id, n, note],
        )])
        .await
        .unwrap();
    }
    let texts = async |sql: &'static str, params: Vec<Value>| -> Vec<String> {
        let rows = db.query(sql, params).await.unwrap();
        rows.iter().map(|row| row.get(0).unwrap()).collect()
    };
    // By bytes, whatever the language of the database.
    assert_eq!(
        texts("SELECT id FROM item ORDER BY id", vec![]).await,
        ["B", "_", "a", "b"]
    );
    assert_eq!(
        texts(
            "SELECT id FROM item WHERE id > $1 ORDER BY id",
            params!["B"]
        )
        .await,
        ["_", "a", "b"]
    );
    assert_eq!(texts("SELECT MAX(id) FROM item", vec![]).await, ["b"]);
    // ASCII capitals do not count, others do; wildcards can be escaped.
    let like = "SELECT id FROM item WHERE note LIKE $1 ESCAPE '!' ORDER BY id";
    assert_eq!(texts(like, params!["ZEBRA%"]).await, ["a", "b"]);
    assert_eq!(texts(like, params!["%!%"]).await, ["b"]);
    assert_eq!(texts(like, params!["%!_\\"]).await, ["a"]);
    assert_eq!(texts(like, params!["äther"]).await, [""; 0]);
    // Sums, counts, truth values, arithmetic with parameters, limits.
    let row = db
        .point(
            "SELECT SUM(n), COUNT(*), COUNT(*) > 3, SUM(n) + $1, MAX(n) / $2, AVG(n), \
             COALESCE(MIN(note), $3), LENGTH(MAX(note)) FROM item",
            &params![1, 2, Option::<&str>::None],
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.get::<i64>(0), Ok(4));
    assert_eq!(row.get::<u64>(1), Ok(4));
    assert_eq!(row.get::<bool>(2), Ok(true));
    assert_eq!(row.get::<i64>(3), Ok(5));
    assert_eq!(row.get::<i64>(4), Ok(1));
    assert_eq!(row.get::<f64>(5), Ok(1.0));
    assert_eq!(row.text(6).unwrap(), "Zebra 100%");
    let limited = "SELECT id FROM item WHERE n > $1 OR $1 IS NULL ORDER BY n LIMIT $2 OFFSET $3";
    assert_eq!(texts(limited, params![-5, 2, 1]).await, ["_", "a"]);
    assert_eq!(texts(limited, params![5, 2, 1]).await, [""; 0]);
    assert_eq!(
        texts(limited, params![Option::<i64>::None, 1, 3]).await,
        ["b"]
    );
    assert_eq!(
        texts(
            "SELECT SUBSTR(note, $1, $2) FROM item WHERE id = 'b'",
            params![1, 5]
        )
        .await,
        ["Zebra"]
    );
}

#[tokio::test]
async fn values_come_back_as_they_went() {
    let (_dir, db) = open();
    db.migrate(
        "values",
        &[Migration {
            version: 1,
            name: "init",
            sql: "CREATE TABLE kept (id BIGINT NOT NULL PRIMARY KEY, t TEXT, b BLOB, r REAL) WITHOUT ROWID;",
        }],
    )
    .unwrap();
    let text = "ä\u{1F600}\u{1}'\"\\ \n";
    let bytes = [0_u8, 255, 39, 92];
    for (id, values) in [
        (i64::MIN, params![i64::MIN, text, &bytes[..], 0.1]),
        (i64::MAX, params![i64::MAX, "", &[][..] as &[u8], -1.5e300]),
        (
            0,
            params![
                0,
                Option::<&str>::None,
                Option::<Vec<u8>>::None,
                Option::<f64>::None
            ],
        ),
    ] {
        db.apply(vec![statement(
            "INSERT INTO kept (id, t, b, r) VALUES ($1, $2, $3, $4)",
            values.clone(),
        )])
        .await
        .unwrap();
        let row = db
            .point("SELECT id, t, b, r FROM kept WHERE id = $1", &params![id])
            .await
            .unwrap()
            .unwrap();
        for (index, value) in values.iter().enumerate() {
            assert_eq!(row.get::<Value>(index).as_ref(), Ok(value));
        }
    }
    let refused = Err(DbError::Refused("a text contains a NUL character"));
    let nul = statement("UPDATE kept SET t = $1 WHERE id = 0", params!["a\0b"]);
    assert_eq!(db.apply(vec![nul]).await, refused);
    assert!(matches!(
        db.query("SELECT id FROM kept WHERE t = $1", params!["\0"])
            .await,
        Err(DbError::Refused(_))
    ));
}

/// Neighbours in a group: failures of every kind between successes, in an order that the answers keep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_keep_good_and_bad_apart() {
    let (_dir, db) = open();
    db.apply(vec![put("taken", 0)]).await.unwrap();
    let batch = |n: i64| match n % 5 {
        0 => vec![put(&format!("id-{n}"), n), put("taken", n)],
        1 => vec![
            put(&format!("id-{n}"), n),
            statement("UPDATE item SET n = 1 WHERE id = $1", params!["none"]).expect_one(),
        ],
        2 => vec![statement("UPDATE item SET nothing = 1", vec![])],
        _ => vec![
            put(&format!("id-{n}"), n),
            statement("UPDATE item SET n = n + 1 WHERE id = $1", params!["taken"]).expect_one(),
        ],
    };
    let waiting: Vec<_> = (0..200)
        .map(|n| {
            let (db, batch) = (db.clone(), batch(n));
            tokio::spawn(async move { db.apply(batch).await })
        })
        .collect();
    for (n, outcome) in waiting.into_iter().enumerate() {
        let outcome = outcome.await.unwrap();
        match n % 5 {
            0 => assert!(
                matches!(&outcome, Err(DbError::UniqueViolation { constraint }) if constraint == "item.id"),
                "{outcome:?}"
            ),
            1 => assert_eq!(outcome, Err(DbError::Conflict { index: 1 })),
            2 => assert!(matches!(&outcome, Err(DbError::Other(_))), "{outcome:?}"),
            _ => assert_eq!(outcome, Ok(vec![1, 1])),
        }
    }
    assert_eq!(n_of(&db, "taken").await, Some(80));
    let rows = db
        .query(
            "SELECT COUNT(*) FROM item WHERE id LIKE 'id-%' ESCAPE '!'",
            vec![],
        )
        .await
        .unwrap();
    assert_eq!(rows[0].get::<i64>(0), Ok(80));
}

/// A statement that fails inside of a transaction is undone alone.
#[tokio::test]
async fn a_transaction_outlives_a_failed_statement() {
    let (_dir, db) = open();
    let put = "INSERT INTO item (id, n) VALUES ($1, $2)";
    db.transaction(move |tx| {
        tx.execute(put, &params!["a", 1])?;
        let twice = tx.execute(put, &params!["a", 2]);
        assert!(
            matches!(&twice, Err(DbError::UniqueViolation { constraint }) if constraint == "item.id"),
            "{twice:?}"
        );
        assert!(tx.query("SELECT nothing FROM item", &[]).is_err());
        tx.execute(put, &params!["b", 3]).map(|_| ())
    })
    .await
    .unwrap();
    assert_eq!(
        (n_of(&db, "a").await, n_of(&db, "b").await),
        (Some(1), Some(3))
    );
}
