//! Saving the embedded database while it is written to.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use ambidex_db::{Db, DbError, Migration, params, statement};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_one_moment_of_a_busy_database() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open_sqlite(&dir.path().join("db")).unwrap();
    db.migrate(
        "pairs",
        &[Migration {
            version: 1,
            name: "init",
            sql: "CREATE TABLE pairs (n BIGINT NOT NULL PRIMARY KEY, filler TEXT NOT NULL);
                  CREATE TABLE sums (id BIGINT NOT NULL PRIMARY KEY, rows BIGINT NOT NULL);
                  INSERT INTO sums VALUES (1, 0);",
        }],
    )
    .unwrap();
    let write = |n: i64| {
        vec![
            statement(
                "INSERT INTO pairs (n, filler) VALUES ($1, $2)",
                params![n, "x".repeat(2000)],
            ),
            statement(
                "UPDATE sums SET rows = rows + 1 WHERE id = $1",
                params![1_i64],
            ),
        ]
    };
    for n in 0..2_000 {
        db.apply(write(n)).await.unwrap();
    }
    let writer = {
        let db = db.clone();
        tokio::spawn(async move {
            for n in 2_000.. {
                if db.apply(write(n)).await.is_err() {
                    return;
                }
            }
        })
    };
    let copy = dir.path().join("copy");
    let reports = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = reports.clone();
    db.backup_to(&copy, move |done, total| {
        told.lock().unwrap().push((done, total))
    })
    .await
    .unwrap();
    db.close().await.unwrap();
    writer.await.unwrap();
    let again = db.backup_to(&copy, |_, _| ()).await;
    assert_eq!(again, Err(DbError::Closed));
    let (done, total) = *reports.lock().unwrap().last().unwrap();
    assert_eq!(done, total);
    assert_eq!(total, std::fs::metadata(&copy).unwrap().len());
    assert!(!dir.path().join("copy-wal").exists(), "one file");
    let copy = Db::open_sqlite(&copy).unwrap();
    let number = |sql: &'static str| {
        let copy = copy.clone();
        async move {
            copy.query(sql, params![]).await.unwrap()[0]
                .get::<i64>(0)
                .unwrap()
        }
    };
    let rows = number("SELECT COUNT(*) FROM pairs").await;
    assert!(rows >= 2_000);
    assert_eq!(
        rows,
        number("SELECT rows FROM sums").await,
        "batches are whole"
    );
    assert_eq!(copy.applied_migrations().await.unwrap()[0].service, "pairs");
    let taken = copy.backup_to(&dir.path().join("db"), |_, _| ()).await;
    assert!(matches!(taken, Err(DbError::Unavailable(_))), "{taken:?}");
}
