//! The PostgreSQL engine alone: a server that stops, crashes and hangs, several instances, TLS.
//! Every test has a server of its own.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::time::{Duration, Instant};

use ambidex_db::{Db, DbError, Migration, Statement, params, statement};
use ambidex_testdb::{Cluster, Options};

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: "CREATE TABLE item (id TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL);
          CREATE TABLE twin (id TEXT NOT NULL PRIMARY KEY);",
}];

fn start() -> Option<(Cluster, Db)> {
    with(Options::default())
}

fn with(options: Options) -> Option<(Cluster, Db)> {
    let cluster = ambidex_testdb::cluster(options)?;
    let db = Db::open_postgres(&cluster.url()).unwrap();
    db.migrate("test", SCHEMA).unwrap();
    Some((cluster, db))
}

fn put(id: &str) -> Vec<Statement> {
    vec![
        statement("INSERT INTO item (id, n) VALUES ($1, 1)", params![id]),
        statement("INSERT INTO twin (id) VALUES ($1)", params![id]).expect_one(),
    ]
}

async fn count(db: &Db) -> i64 {
    let rows = db.query("SELECT COUNT(*) FROM item", vec![]).await.unwrap();
    rows[0].get(0).unwrap()
}

#[track_caller]
fn unavailable<T: std::fmt::Debug>(outcome: Result<T, DbError>) {
    assert!(
        matches!(&outcome, Err(DbError::Unavailable(text)) if !text.is_empty()),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_told_and_a_restarted_one_is_used() {
    let Some((mut cluster, db)) = start() else {
        return;
    };
    db.apply(put("before")).await.unwrap();
    db.ping().await.unwrap();
    cluster.stop().unwrap();
    unavailable(db.ping().await);
    unavailable(db.apply(put("lost")).await);
    unavailable(db.point("SELECT 1", &[]).await);
    unavailable(db.query("SELECT 1", vec![]).await);
    unavailable(
        db.transaction(|tx| tx.execute("DELETE FROM item", &[]))
            .await,
    );
    unavailable(Db::open_postgres(&cluster.url()));
    cluster.restart().unwrap();
    assert_eq!(count(&db).await, 1);
    db.ping().await.unwrap();

    // Nobody calls while it restarts: the first calls afterwards notice nothing.
    cluster.crash().unwrap();
    cluster.restart().unwrap();
    db.apply(put("after")).await.unwrap();
    cluster.crash().unwrap();
    cluster.restart().unwrap();
    assert_eq!(count(&db).await, 2);
    let row = db
        .point("SELECT n FROM item WHERE id = $1", &params!["after"])
        .await
        .unwrap();
    assert!(row.is_some());
    db.transaction(|tx| tx.execute("UPDATE item SET n = 2", &[]))
        .await
        .unwrap();
}

/// Crashes of the server and kills of single connections under a load of writes: what was acknowledged
/// is there, what was refused for certain is not, nothing is there by half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_lose_no_acknowledged_write() {
    let Some((mut cluster, db)) = with(Options {
        durable: true,
        ..Options::default()
    }) else {
        return;
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (db, stopped) = (db.clone(), stopped.clone());
            tokio::spawn(async move {
                let (mut kept, mut refused) = (Vec::new(), Vec::new());
                for n in 0.. {
                    if *stopped.borrow() {
                        break;
                    }
                    let id = format!("{writer}-{n}");
                    match db.apply(put(&id)).await {
                        Ok(_) => kept.push(id),
                        Err(DbError::Unavailable(text)) if text.contains("not known") => {}
                        Err(DbError::Unavailable(_)) => refused.push(id),
                        Err(other) => panic!("{other}"),
                    }
                }
                (kept, refused)
            })
        })
        .collect();
    let url = cluster.url();
    for round in 0..6 {
        let before = loop {
            if let Ok(rows) = db.query("SELECT COUNT(*) FROM item", vec![]).await {
                break rows[0].get::<i64>(0).unwrap();
            }
        };
        if round % 2 == 0 {
            cluster.crash().unwrap();
            cluster.restart().unwrap();
        } else {
            ambidex_testdb::execute(
                &url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'ambidex-server'",
            )
            .unwrap();
        }
        // The load goes on before the next blow.
        let started = Instant::now();
        while count_or_zero(&db).await <= before {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "no write comes through"
            );
        }
    }
    stop.send(true).unwrap();
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for writer in writers {
        let (one, two) = writer.await.unwrap();
        kept.extend(one);
        refused.extend(two);
    }
    let mut present: Vec<String> = db
        .query("SELECT id FROM item ORDER BY id", vec![])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0).unwrap())
        .collect();
    let twins = db
        .query("SELECT id FROM twin ORDER BY id", vec![])
        .await
        .unwrap();
    let twins: Vec<String> = twins.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(present, twins, "half a batch was applied");
    present.sort();
    let missing: Vec<_> = kept
        .iter()
        .filter(|id| present.binary_search(id).is_err())
        .collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    let lies: Vec<_> = refused
        .iter()
        .filter(|id| present.binary_search(id).is_ok())
        .collect();
    assert!(lies.is_empty(), "refused and there: {lies:?}");
    println!("{} kept, {} refused", kept.len(), refused.len());
}

async fn count_or_zero(db: &Db) -> i64 {
    match db.query("SELECT COUNT(*) FROM item", vec![]).await {
        Ok(rows) => rows[0].get(0).unwrap(),
        Err(_) => 0,
    }
}

/// A health check must not wait for ever, and what hangs goes on once the server does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_fails_the_health_check() {
    let Some((cluster, db)) = start() else {
        return;
    };
    // Another session holds what the check writes, as a server that does not answer would.
    let url = cluster.url();
    let (locked, waiting) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let other = Db::open_postgres(&url).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(other.transaction(move |tx| {
            tx.execute("UPDATE schema_ping SET beats = 0", &[])?;
            locked.send(()).unwrap();
            released.recv().unwrap();
            Ok::<_, DbError>(())
        }))
    });
    waiting.recv().unwrap();
    unavailable(db.ping().await);
    assert_eq!(count(&db).await, 0, "reads do not wait for writers");
    let write = tokio::spawn({
        let db = db.clone();
        async move { db.apply(put("later")).await }
    });
    release.send(()).unwrap();
    holder.join().unwrap().unwrap();
    write.await.unwrap().unwrap();
    db.ping().await.unwrap();
}

/// The services are written for one writer at a time; instances on one database must not break that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_write_as_if_they_were_one() {
    const EACH: i64 = 150;
    let Some((cluster, first)) = start() else {
        return;
    };
    let second = Db::open_postgres(&cluster.url()).unwrap();
    // "The highest number so far and one more": two at the same time would get the same number.
    let next = "INSERT INTO item (id, n) SELECT $1, COALESCE(MAX(n), 0) + 1 FROM item";
    let mut tasks = Vec::new();
    for (instance, db) in [first.clone(), second.clone()].into_iter().enumerate() {
        for task in 0..4 {
            let db = db.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0..EACH / 2 {
                    let id = format!("{instance}-{task}-{n}");
                    db.apply(vec![statement(next, params![id])]).await.unwrap();
                    let id = format!("tx-{instance}-{task}-{n}");
                    db.transaction(move |tx| {
                        let rows = tx.query("SELECT COALESCE(MAX(n), 0) + 1 FROM item", &[])?;
                        let number: i64 = rows[0].get(0)?;
                        tx.execute(
                            "INSERT INTO item (id, n) VALUES ($1, $2)",
                            &params![id, number],
                        )
                    })
                    .await
                    .unwrap();
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let rows = second
        .query(
            "SELECT COUNT(*), COUNT(DISTINCT n), MAX(n) FROM item",
            vec![],
        )
        .await
        .unwrap();
    for column in 0..3 {
        assert_eq!(rows[0].get::<i64>(column), Ok(8 * EACH));
    }
}

#[test]
fn instances_that_start_together_migrate_once() {
    let Some(cluster) = ambidex_testdb::cluster(Options::default()) else {
        return;
    };
    let url = cluster.url();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let db = Db::open_postgres(&url).unwrap();
                db.migrate("test", SCHEMA).unwrap();
                db.migrate("other", SCHEMA)
                    .expect_err("its tables exist already");
                db.migrate("test", SCHEMA).unwrap();
            });
        }
    });
}

#[test]
fn what_cannot_be_used_is_named_with_a_remedy() {
    let Some(cluster) = ambidex_testdb::cluster(Options::default()) else {
        return;
    };
    let url = cluster.url();
    let base = url.strip_suffix("/postgres").unwrap().to_owned();
    ambidex_testdb::execute(&url, "CREATE USER guest").unwrap();
    ambidex_testdb::execute(
        &url,
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0",
    )
    .unwrap();
    let guest = url.replace("ambidex@", "guest:s3cret@");
    for (url, hint) in [
        (format!("{base}/nothing"), "createdb"),
        (format!("{base}/latin"), "UTF8"),
        (
            format!("{url}?options=-c%20search_path%3Dnowhere"),
            "search_path",
        ),
        (guest, "owner of the database"),
        (
            "postgres://ambidex:s3cret@127.0.0.1:1/db".to_owned(),
            "check that PostgreSQL runs",
        ),
    ] {
        let error = Db::open_postgres(&url).unwrap_err().to_string();
        assert!(error.contains(hint) && !error.contains("s3cret"), "{error}");
    }
}

/// A free port; somebody else may take it before the server does, so a failed start takes another.
fn with_tls() -> Option<(Cluster, u16, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(dir.path().join("root.pem"), certificate.pem()).unwrap();
    for _ in 0..5 {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut cluster = ambidex_testdb::cluster(Options::default())?;
        cluster.stop().unwrap();
        for (name, text) in [
            ("server.crt", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            use std::os::unix::fs::PermissionsExt as _;
            let path = cluster.dir().join("data").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            cluster.own(&path).unwrap();
        }
        cluster.set(&[
            "ssl=on",
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
        ]);
        if cluster.restart().is_ok() {
            return Some((cluster, port, dir));
        }
    }
    panic!("no port was free five times in a row");
}

#[tokio::test]
async fn tls_is_used_and_certificates_are_verified_when_asked_for() {
    let Some((_cluster, port, dir)) = with_tls() else {
        return;
    };
    let root = dir.path().join("root.pem").display().to_string();
    let address = |host: &str, query: &str| {
        format!("postgres://ambidex@{host}:{port}/postgres?hostaddr=127.0.0.1&{query}")
    };
    let in_use = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (url, encrypted) in [
        (address("localhost", "sslmode=disable"), false),
        (address("localhost", "sslmode=prefer"), true),
        (address("other", "sslmode=require"), true),
        (
            address(
                "localhost",
                &format!("sslmode=verify-full&sslrootcert={root}"),
            ),
            true,
        ),
    ] {
        let db = Db::open_postgres(&url).unwrap();
        let row = db.point(in_use, &[]).await.unwrap().unwrap();
        assert_eq!(row.get::<bool>(0), Ok(encrypted), "{url}");
    }
    for url in [
        address("localhost", "sslmode=verify-full"),
        address("other", &format!("sslmode=verify-full&sslrootcert={root}")),
        address("other", &format!("sslmode=require&sslrootcert={root}")),
    ] {
        let error = Db::open_postgres(&url).unwrap_err().to_string();
        assert!(error.contains("certificate"), "{url}: {error}");
    }
}
