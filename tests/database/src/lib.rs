//! Databases for tests.
//!
//! [`open`] gives a service test its database: the embedded one, or a schema of its own on the
//! PostgreSQL server that the variable `AMBIDEX_TEST_POSTGRES` names. `cargo xtask test` runs the
//! suites once with and once without it. [`Cluster`] is a throw-away server for tests that stop and
//! kill it.

mod cluster;
mod skip;

pub use cluster::{Cluster, Missing, Options};

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ambidex_db::Db;
use anyhow::{Context as _, Result};

/// Names the server to test on, as `postgres://user@host/database`.
pub const VARIABLE: &str = "AMBIDEX_TEST_POSTGRES";
/// Remembers the schema of a directory.
const SCHEMA_FILE: &str = "postgres-schema";

/// The database of a test that keeps its files in `dir`. A second call with the same directory opens the
/// same database.
///
/// # Panics
/// When there is no such database: a test cannot go on without it.
pub fn open(dir: &Path) -> Db {
    let opened = match url(dir) {
        Some(url) => Db::open_postgres(&url),
        None => Db::open_sqlite(&dir.join("server.db")),
    };
    opened.unwrap_or_else(|error| panic!("the database of the test: {error}"))
}

/// The URL of the database that [`open`] opens, if that is PostgreSQL.
///
/// # Panics
/// When the schema cannot be made.
pub fn url(dir: &Path) -> Option<String> {
    let server = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty())?;
    let file = dir.join(SCHEMA_FILE);
    let schema = match std::fs::read_to_string(&file) {
        Ok(schema) => schema,
        Err(_) => {
            let schema = unique();
            execute(&server, &format!("CREATE SCHEMA {schema}"))
                .and_then(|()| std::fs::write(&file, &schema).context("noting the schema"))
                .unwrap_or_else(|error| panic!("the schema of the test: {error:#}"));
            schema
        }
    };
    let sign = if server.contains('?') { '&' } else { '?' };
    Some(format!("{server}{sign}options=-c%20search_path%3D{schema}"))
}

/// Runs statements beside the engine under test.
///
/// # Errors
/// When the server refuses.
pub fn execute(url: &str, sql: &str) -> Result<()> {
    std::thread::scope(|scope| {
        // Callers may be inside of a runtime, which must not be entered twice.
        let work = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    let (client, connection) =
                        tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
                    tokio::spawn(connection);
                    client.batch_execute(sql).await?;
                    Ok(())
                })
        });
        work.join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread panicked")))
    })
}

/// Asserts that a statement finds its rows through an index on the engine under test.
///
/// # Panics
/// When the plan goes through a whole table.
#[track_caller]
pub fn assert_searches(db: &Db, sql: &str) {
    let plan = db
        .explain(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .join("\n")
        // a row of constants is no table
        .replace("SCAN CONSTANT ROW", "");
    let scans = if db.is_shared() { "Seq Scan" } else { "SCAN" };
    assert!(!plan.contains(scans), "{sql}\n{plan}");
}

/// A server of its own for a test that stops and kills it; `None`, loudly, when this machine has none.
///
/// # Panics
/// When the server does not start.
pub fn cluster(options: Options) -> Option<Cluster> {
    match Cluster::start(options) {
        Ok(cluster) => Some(cluster),
        Err(error) if error.is::<Missing>() => {
            skip::skip(&error.to_string());
            None
        }
        Err(error) => panic!("the server of the test: {error:#}"),
    }
}

fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    format!(
        "t{}_{}_{nanos}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}
