//! The tables of this crate and those of the services, made and brought up to date.

use super::dialect;
use super::fault::Fault;
use super::session::Session;
use crate::migration::{self, Migration};
use crate::{DbError, Value};

/// Number of the lock that keeps two instances from migrating at the same time.
const MIGRATION_LOCK: u32 = 1;

const TABLES: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
        service TEXT COLLATE \"C\" NOT NULL, version BIGINT NOT NULL, name TEXT COLLATE \"C\" NOT NULL,
        fingerprint TEXT COLLATE \"C\" NOT NULL, PRIMARY KEY (service, version));
    CREATE TABLE IF NOT EXISTS schema_ping (id BIGINT NOT NULL PRIMARY KEY, beats BIGINT NOT NULL);
    INSERT INTO schema_ping (id, beats) VALUES (1, 0) ON CONFLICT DO NOTHING";

/// Begins a transaction that may take its time and that no other instance disturbs.
async fn begin(session: &Session) -> Result<(), Fault> {
    session
        .command(&format!(
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5min'; {}",
            session.lock(MIGRATION_LOCK)
        ))
        .await
}

/// Applies what is outstanding of a service's migrations. The caller rolls back after an error.
pub(super) async fn migrate(
    session: &Session,
    service: &'static str,
    migrations: &[Migration],
) -> Result<(), Fault> {
    begin(session).await?;
    let missing = session
        .read("SELECT to_regclass('schema_migrations') IS NULL", &[])
        .await?;
    if missing.first().is_some_and(|row| row.get(0) == Ok(true)) {
        session.command(TABLES).await?;
    }
    let applied: Vec<(u32, String)> = session
        .read(
            "SELECT version, fingerprint FROM schema_migrations WHERE service = $1 ORDER BY version",
            &[Value::from(service)],
        )
        .await?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect::<Result<_, DbError>>()?;
    for step in migration::outstanding(service, migrations, &applied)? {
        session
            .command(&dialect::migration(step.sql))
            .await
            .map_err(|fault| named(fault, service, step))?;
        let record = [
            service.into(),
            step.version.into(),
            step.name.into(),
            step.fingerprint().into(),
        ];
        session
            .read(
                "INSERT INTO schema_migrations (service, version, name, fingerprint) VALUES ($1, $2, $3, $4)",
                &record,
            )
            .await?;
    }
    session.command("COMMIT").await
}

fn named(fault: Fault, service: &str, step: &Migration) -> Fault {
    let doing = format!(
        "migrating the schema of {service} ({} {})",
        step.version, step.name
    );
    let error = match fault.error {
        DbError::Unavailable(text) => DbError::Unavailable(format!("{doing}: {text}")),
        other => DbError::Other(format!("{doing}: {other}")),
    };
    Fault { error, ..fault }
}
