//! Copies of one device, made in the database of a stopped server.

use std::path::Path;

use anyhow::{Context, bail};
use rusqlite::Connection;

/// A table with a row a device, the column that names the device, and how the copies differ: column and
/// expression over `n`, the number of the copy from 1. `copy_id` is its id as a device.
type Table = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const TABLES: &[Table] = &[
    (
        "devauth_devices",
        "id",
        &[
            ("id", "copy_id"),
            ("identity_hash", "printf('%064x', n)"),
            ("identity_data", "printf('{\"mac\":\"06:00:%012x\"}', n)"),
            ("created_ms", "created_ms + n"),
        ],
    ),
    (
        "devauth_auth_sets",
        "device_id",
        &[
            ("id", "printf('%08x-0000-4000-9000-%012x', n, n)"),
            ("device_id", "copy_id"),
        ],
    ),
    (
        "devauth_tokens",
        "device_id",
        &[
            ("id", "printf('%08x-0000-4000-9000-%012x', n, n)"),
            ("device_id", "copy_id"),
        ],
    ),
    (
        "inventory_devices",
        "id",
        &[
            ("id", "copy_id"),
            ("identity", "printf('{\"mac\":\"06:00:%012x\"}', n)"),
            ("created_ms", "created_ms + n"),
        ],
    ),
];

const COPY_ID: &str = "printf('%08x-0000-4000-8000-%012x', n, n)";

/// Copies the oldest device `copies` times.
pub fn copy_devices(database: &Path, copies: usize) -> anyhow::Result<()> {
    let connection = Connection::open(database).context("opening the database")?;
    let device: String = connection
        .query_row(
            "SELECT id FROM devauth_devices ORDER BY created_ms, id LIMIT 1",
            [],
            |row| row.get(0),
        )
        .context("finding a device to copy")?;
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN")?;
    for (table, key, changes) in TABLES {
        let columns = columns(&connection, table)?;
        for (column, _) in *changes {
            if !columns.iter().any(|known| known == column) {
                bail!("{table} has no column {column} any more: adapt the benchmark");
            }
        }
        let values: Vec<String> = columns
            .iter()
            .map(|column| {
                changes
                    .iter()
                    .find(|(changed, _)| changed == column)
                    .map_or_else(
                        || column.clone(),
                        |(_, value)| value.replace("copy_id", COPY_ID),
                    )
            })
            .collect();
        let sql = format!(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
             INSERT INTO {table} ({}) SELECT {} FROM number CROSS JOIN (SELECT * FROM {table} WHERE {key} = ?2)",
            columns.join(", "),
            values.join(", "),
        );
        let made = connection
            .execute(&sql, (copies as i64, &device))
            .with_context(|| format!("copying rows of {table}"))?;
        if made != copies {
            bail!("{made} rows of {table} were copied instead of {copies}");
        }
    }
    // The counts that the services keep beside the rows.
    connection.execute(
        "UPDATE devauth_tallies SET devices = devices + ?1 WHERE status = 'accepted'",
        [copies as i64],
    )?;
    connection.execute(
        "UPDATE inventory_shapes SET devices = devices + ?1
         WHERE shape = (SELECT shape FROM inventory_devices WHERE id = ?2)",
        (copies as i64, &device),
    )?;
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

fn columns(connection: &Connection, table: &str) -> anyhow::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}
