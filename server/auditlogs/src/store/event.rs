use ambidex_db::{Db, DbError, Row, Statement, Value, params, statement};
use ambidex_wire::management::auditlogs::Event;

use crate::domain::{Filter, Recorded, Sort};

const INSERT: &str = "INSERT INTO auditlogs_events
    (tenant_id, id, time_ms, actor_id, actor_type, actor_email, object_id, object_type, deployment_name, event)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT DO NOTHING";

const LAST_EMAIL: &str = "SELECT actor_email FROM auditlogs_events
    WHERE tenant_id = $1 AND actor_id = $2 AND actor_email IS NOT NULL
    ORDER BY time_ms DESC LIMIT 1";

const SWEEP: &str = "DELETE FROM auditlogs_events WHERE (tenant_id, id) IN
    (SELECT tenant_id, id FROM auditlogs_events WHERE time_ms < $1 ORDER BY time_ms LIMIT $2)";

/// Where a page of a walk through the log starts: after this event.
pub(crate) type Cursor = (i64, String);

/// Writes an event; one with the same id is left as it is.
pub(crate) fn insert(
    tenant: &str,
    id: &str,
    time_ms: i64,
    event: &Event,
) -> Result<Statement, serde_json::Error> {
    let name = event.object.deployment.as_ref().map(|d| d.name.clone());
    Ok(statement(
        INSERT,
        params![
            tenant,
            id,
            time_ms,
            event.actor.id.as_str(),
            event.actor.kind.as_str(),
            event.actor.email.clone(),
            event.object.id.as_str(),
            event.object.kind.as_str(),
            name,
            serde_json::to_string(event)?,
        ],
    ))
}

/// The last login name under which this user is on record.
pub(crate) async fn last_email(
    db: &Db,
    tenant: &str,
    actor: &str,
) -> Result<Option<String>, DbError> {
    let row = db.query(LAST_EMAIL, params![tenant, actor]).await?;
    row.first().map(|row| row.get(0)).transpose()
}

/// Deletes up to `limit` events older than `before_ms`, the oldest first.
pub(crate) fn sweep(before_ms: i64, limit: u64) -> Statement {
    statement(SWEEP, params![before_ms, limit])
}

/// The conditions of a filter, with their parameters after the tenant.
fn conditions(tenant: &str, filter: &Filter) -> (String, Vec<Value>) {
    let mut sql = String::from(" FROM auditlogs_events WHERE tenant_id = $1");
    let mut values = params![tenant];
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&format!(" AND {condition} ${}", values.len()));
    };
    if let Some(ms) = filter.from_ms {
        add("time_ms >=", ms.into());
    }
    if let Some(ms) = filter.until_ms {
        add("time_ms <=", ms.into());
    }
    for (column, wanted) in [
        ("actor_id =", &filter.actor_id),
        ("actor_type =", &filter.actor_type),
        ("actor_email =", &filter.actor_email),
        ("object_id =", &filter.object_id),
        ("object_type =", &filter.object_type),
        ("deployment_name =", &filter.deployment_name),
    ] {
        if let Some(wanted) = wanted {
            add(column, wanted.as_str().into());
        }
    }
    (sql, values)
}

fn order(sort: Sort) -> &'static str {
    match sort {
        Sort::Ascending => " ORDER BY time_ms ASC, id ASC",
        Sort::Descending => " ORDER BY time_ms DESC, id DESC",
    }
}

fn recorded(row: &Row) -> Result<Recorded, DbError> {
    Ok(Recorded {
        id: row.get(0)?,
        time_ms: row.get(1)?,
        event: serde_json::from_str(row.text(2)?)
            .map_err(|error| DbError::Corrupt(format!("an audit event: {error}")))?,
    })
}

/// A page of the log.
pub(crate) async fn page(
    db: &Db,
    tenant: &str,
    filter: &Filter,
    limit: u64,
    offset: u64,
) -> Result<Vec<Recorded>, DbError> {
    let (conditions, mut values) = conditions(tenant, filter);
    values.push(limit.into());
    values.push(offset.into());
    let sql = format!(
        "SELECT id, time_ms, event{conditions}{} LIMIT ${} OFFSET ${}",
        order(filter.sort),
        values.len() - 1,
        values.len()
    );
    db.query(sql, values).await?.iter().map(recorded).collect()
}

/// The next `limit` events behind `after`, or the first ones.
pub(crate) async fn walk(
    db: &Db,
    tenant: &str,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: u64,
) -> Result<Vec<Recorded>, DbError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some((time_ms, id)) = after {
        values.push((*time_ms).into());
        values.push(id.as_str().into());
        let (time, id) = (values.len() - 1, values.len());
        let beyond = match filter.sort {
            Sort::Ascending => '>',
            Sort::Descending => '<',
        };
        conditions.push_str(&format!(
            " AND (time_ms {beyond} ${time} OR (time_ms = ${time} AND id {beyond} ${id}))"
        ));
    }
    values.push(limit.into());
    let sql = format!(
        "SELECT id, time_ms, event{conditions}{} LIMIT ${}",
        order(filter.sort),
        values.len()
    );
    db.query(sql, values).await?.iter().map(recorded).collect()
}

/// How many events a filter admits.
pub(crate) async fn count(db: &Db, tenant: &str, filter: &Filter) -> Result<u64, DbError> {
    let (conditions, values) = conditions(tenant, filter);
    let rows = db
        .query(format!("SELECT COUNT(*){conditions}"), values)
        .await?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn the_sweep_and_the_last_email_search_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        db.migrate("auditlogs", crate::store::MIGRATIONS).unwrap();
        for sql in [SWEEP, LAST_EMAIL] {
            ambidex_testdb::assert_searches(&db, sql);
        }
    }
}
