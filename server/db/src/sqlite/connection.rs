//! One connection: how it is set up and how a statement runs on it.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags};

use crate::{DbError, Row, Value};

/// Statements kept prepared by each connection; the services together have fewer hot ones.
const STATEMENTS_CACHED: usize = 512;
/// How long a write of this process waits for one of another process (administration verbs).
const BUSY_WAIT: Duration = Duration::from_secs(15);
/// Page cache of a connection, in KiB. It holds the upper levels of the trees; the leaves come from the
/// kernel's cache with one system call each. Mapping the file instead would count every page once for
/// each connection and turn a disk error into the death of the process.
const READ_CACHE_KIB: u32 = 8 * 1024;
const WRITE_CACHE_KIB: u32 = 32 * 1024;
/// The log is cut back to this size after a checkpoint.
const JOURNAL_BYTES_KEPT: i64 = 64 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Makes the file before SQLite does: it holds password hashes, so only its owner may read it. The log
/// and the shared-memory file inherit the mode.
pub(super) fn create_private(path: &Path) -> Result<(), DbError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(|_| ())
        .map_err(|e| {
            DbError::Unavailable(format!(
                "cannot open {} for writing: {e}; check that the directory exists and belongs to the user of the server",
                path.display()
            ))
        })
}

pub(super) fn open(path: &Path, access: Access) -> Result<Connection, DbError> {
    let fail = |e: rusqlite::Error| DbError::sqlite(&e, &format!("opening {}", path.display()));
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(BUSY_WAIT).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // Without it a statement that could use a partial index is planned anew for each set of parameters,
    // which costs ten times the read itself.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(fail)?;
    if access == Access::Write {
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(fail)?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(DbError::Unavailable(format!(
                "{} cannot use a write-ahead log (journal mode {mode}): put the data directory on a local file system",
                path.display()
            )));
        }
        connection
            .execute_batch(&format!(
                "PRAGMA synchronous = FULL;
                 PRAGMA wal_autocheckpoint = 0;
                 PRAGMA journal_size_limit = {JOURNAL_BYTES_KEPT};
                 CREATE TABLE IF NOT EXISTS schema_migrations (
                     service TEXT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL,
                     fingerprint TEXT NOT NULL, PRIMARY KEY (service, version));
                 CREATE TABLE IF NOT EXISTS schema_ping (id BIGINT NOT NULL PRIMARY KEY, beats BIGINT NOT NULL);
                 INSERT INTO schema_ping (id, beats) VALUES (1, 0) ON CONFLICT DO NOTHING;"
            ))
            .map_err(fail)?;
    }
    let cache_kib = match access {
        Access::Read => READ_CACHE_KIB,
        Access::Write => WRITE_CACHE_KIB,
    };
    connection
        .execute_batch(&format!(
            "PRAGMA foreign_keys = OFF;
             PRAGMA temp_store = MEMORY;
             PRAGMA mmap_size = 0;
             PRAGMA cache_size = -{cache_kib};"
        ))
        .map_err(fail)?;
    Ok(connection)
}

/// Prepares `sql` and binds `$1`, `$2`, … by their number. (SQLite alone would number `$n` by first
/// appearance.)
fn prepare<'a>(
    connection: &'a Connection,
    sql: &str,
    params: &[Value],
) -> Result<CachedStatement<'a>, DbError> {
    let mut statement = connection
        .prepare_cached(sql)
        .map_err(|e| DbError::sqlite(&e, sql))?;
    for position in 1..=statement.parameter_count() {
        let number = statement
            .parameter_name(position)
            .and_then(|name| name.get(1..)?.parse::<usize>().ok());
        let value = number
            .and_then(|n| params.get(n.checked_sub(1)?))
            .ok_or_else(|| {
                DbError::Other(format!(
                    "parameter {position} is not one of $1..${}: {sql}",
                    params.len()
                ))
            })?;
        statement
            .raw_bind_parameter(position, value)
            .map_err(|e| DbError::sqlite(&e, sql))?;
    }
    Ok(statement)
}

/// Runs a statement and collects at most `limit` rows.
pub(super) fn read(
    connection: &Connection,
    sql: &str,
    params: &[Value],
    limit: usize,
) -> Result<Vec<Row>, DbError> {
    let mut statement = prepare(connection, sql, params)?;
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    let mut collected = Vec::new();
    while collected.len() < limit {
        let Some(row) = rows.next().map_err(|e| DbError::sqlite(&e, sql))? else {
            break;
        };
        let mut values = Vec::with_capacity(columns);
        for column in 0..columns {
            values.push(column_value(row, column, sql)?);
        }
        collected.push(Row(values));
    }
    Ok(collected)
}

fn column_value(row: &rusqlite::Row<'_>, column: usize, sql: &str) -> Result<Value, DbError> {
    use rusqlite::types::ValueRef;
    Ok(
        match row.get_ref(column).map_err(|e| DbError::sqlite(&e, sql))? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(v) => Value::Int(v),
            ValueRef::Real(v) => Value::Real(v),
            ValueRef::Text(bytes) => Value::Text(
                std::str::from_utf8(bytes)
                    .map_err(|e| DbError::Corrupt(format!("column {column} is not UTF-8: {e}")))?
                    .to_owned(),
            ),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        },
    )
}

/// Runs a writing statement to its end; returns the number of rows touched.
pub(super) fn write(connection: &Connection, sql: &str, params: &[Value]) -> Result<u64, DbError> {
    let mut statement = prepare(connection, sql, params)?;
    if statement.column_count() == 0 {
        let touched = statement
            .raw_execute()
            .map_err(|e| DbError::sqlite(&e, sql))?;
        return Ok(touched as u64);
    }
    // `… RETURNING`: the rows are of no interest here, but the statement must run to its end.
    let mut rows = statement.raw_query();
    while rows.next().map_err(|e| DbError::sqlite(&e, sql))?.is_some() {}
    drop(rows);
    Ok(connection.changes())
}
