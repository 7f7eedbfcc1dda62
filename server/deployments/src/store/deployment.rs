//! Deployments.

use std::fmt::Write as _;

use ambidex_access::TenantId;
use ambidex_db::{Db, DbError, Row, Statement, Tx, Value, params, statement};

use crate::domain::deployment::{Counts, Deployment, Filter, Status, Visible};
use crate::error::Error;

/// `counts!("")` lists the counter columns in the order of `DeviceStatus::ALL`.
macro_rules! counts {
    () => {
        "count_pending, count_downloading, count_pause_before_installing, count_installing, \
         count_pause_before_rebooting, count_rebooting, count_pause_before_committing, \
         count_success, count_failure, count_noartifact, count_already_installed, count_aborted, \
         count_decommissioned"
    };
}

macro_rules! columns {
    () => {
        concat!(
            "id, number, name, artifact_name, kind, created_ms, starts_ms, active, status, \
             finished_ms, device_count, max_devices, target_count, dynamic, filter, group_name, \
             phased, retries, force_installation, total_size_bytes, control_map, configuration, ",
            counts!()
        )
    };
}

/// Number of columns before the counters.
const COUNTS_AT: usize = 22;

/// Devices that have finished.
macro_rules! finals {
    () => {
        "(count_success + count_failure + count_noartifact + count_already_installed \
         + count_aborted + count_decommissioned)"
    };
}

/// Devices that have reported anything, or were found to need nothing.
macro_rules! acted {
    () => {
        "(count_downloading + count_pause_before_installing + count_installing \
         + count_pause_before_rebooting + count_rebooting + count_pause_before_committing \
         + count_success + count_failure + count_noartifact + count_already_installed \
         + count_aborted)"
    };
}

pub const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM deployments WHERE tenant_id = $1 AND id = $2 AND published = 1"
);

pub const EXISTS: &str =
    "SELECT number FROM deployments WHERE tenant_id = $1 AND id = $2 AND published = 1";

pub const ARTIFACTS: &str = "SELECT artifact_id FROM deployment_artifacts \
     WHERE tenant_id = $1 AND deployment_number = $2 ORDER BY artifact_id";

const NEXT_NUMBER: &str =
    "SELECT COALESCE(MAX(number), 0) + 1 FROM deployments WHERE tenant_id = $1";

const LAST_PLACE: &str =
    "SELECT COALESCE(MAX(place), 0) FROM deployments WHERE tenant_id = $1 AND later = 0";

const INSERT: &str = concat!(
    "INSERT INTO deployments (tenant_id, id, number, name, artifact_name, search_text, kind, \
     created_ms, starts_ms, later, place, published, cleaning, active, aborted, status, \
     finished_ms, device_count, max_devices, target_count, dynamic, filter, group_name, phased, \
     retries, force_installation, total_size_bytes, control_map, configuration, touched_ms, ",
    counts!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, 0, 0, 0, 1, 0, 'pending', NULL, 0, $8, $9, $10, \
     $11, $12, $13, $14, $15, 0, $17, $18, $19, $16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
);

const JOIN_ARTIFACTS: &str = "INSERT INTO deployment_artifacts (tenant_id, deployment_number, artifact_id) \
     SELECT a.tenant_id, $2, a.id FROM artifacts a WHERE a.tenant_id = $1 AND a.name = $3";

const PUBLISH: &str = "UPDATE deployments SET published = 1, created_ms = $3, starts_ms = $4, \
     later = $5, place = $6 WHERE tenant_id = $1 AND number = $2 AND published = 0";

const SHIFT: &str = "UPDATE deployments SET \
     count_pending = count_pending + $3, \
     count_downloading = count_downloading + $4, \
     count_pause_before_installing = count_pause_before_installing + $5, \
     count_installing = count_installing + $6, \
     count_pause_before_rebooting = count_pause_before_rebooting + $7, \
     count_rebooting = count_rebooting + $8, \
     count_pause_before_committing = count_pause_before_committing + $9, \
     count_success = count_success + $10, \
     count_failure = count_failure + $11, \
     count_noartifact = count_noartifact + $12, \
     count_already_installed = count_already_installed + $13, \
     count_aborted = count_aborted + $14, \
     count_decommissioned = count_decommissioned + $15, \
     device_count = device_count + $16, \
     total_size_bytes = total_size_bytes + $17 \
     WHERE tenant_id = $1 AND number = $2 AND active >= $18 AND aborted <= $19 \
     AND (dynamic = 0 OR max_devices = 0 OR $16 <= 0 OR device_count < max_devices)";

const SETTLE: &str = concat!(
    "UPDATE deployments SET \
     status = CASE WHEN max_devices > 0 AND ",
    finals!(),
    " >= max_devices THEN 'finished' \
         WHEN ",
    acted!(),
    " > 0 THEN 'inprogress' ELSE status END, \
     active = CASE WHEN max_devices > 0 AND ",
    finals!(),
    " >= max_devices THEN 0 ELSE 1 END, \
     finished_ms = CASE WHEN max_devices > 0 AND ",
    finals!(),
    " >= max_devices THEN $3 END \
     WHERE tenant_id = $1 AND number = $2 AND active = 1"
);

/// Whoever has asked and not finished becomes aborted; whoever has not asked leaves the count.
const ABORT: &str = "UPDATE deployments SET \
     count_aborted = device_count - count_success - count_failure - count_noartifact \
         - count_already_installed - count_decommissioned, \
     count_pending = 0, count_downloading = 0, count_pause_before_installing = 0, \
     count_installing = 0, count_pause_before_rebooting = 0, count_rebooting = 0, \
     count_pause_before_committing = 0, \
     status = 'finished', active = 0, aborted = 1, cleaning = 1, finished_ms = $3, \
     touched_ms = $3 \
     WHERE tenant_id = $1 AND id = $2 AND published = 1 AND active = 1";

const CLEANED: &str = "UPDATE deployments SET cleaning = 0 WHERE tenant_id = $1 AND number = $2";

const UNCLEAN: &str = "SELECT tenant_id, number FROM deployments \
     WHERE cleaning = 1 AND touched_ms <= $1 ORDER BY tenant_id, number";

const UNPUBLISHED: &str = "SELECT tenant_id, number FROM deployments \
     WHERE published = 0 AND touched_ms <= $1 \
     UNION ALL SELECT tenant_id, number FROM deployments WHERE published = -1";

const TOUCH: &str = "UPDATE deployments SET touched_ms = $3 \
     WHERE tenant_id = $1 AND number = $2 AND (published = 0 OR cleaning = 1)";

/// From here on whoever still fills the deployment cannot go on.
const GIVE_UP: &str = "UPDATE deployments SET published = -1 \
     WHERE tenant_id = $1 AND number = $2 AND published <= 0";

const SET_CONTROL_MAP: &str = "UPDATE deployments SET control_map = $3 \
     WHERE tenant_id = $1 AND id = $2 AND published = 1 AND active = 1";

const USING_ARTIFACTS: &str = "SELECT d.id FROM deployments d \
     WHERE d.tenant_id = $1 AND d.artifact_name = $2 AND d.active = 1 AND d.kind = 'software' \
     ORDER BY d.id";

const DELETE_ARTIFACTS: &str =
    "DELETE FROM deployment_artifacts WHERE tenant_id = $1 AND deployment_number = $2";

const DELETE_UNPUBLISHED: &str =
    "DELETE FROM deployments WHERE tenant_id = $1 AND number = $2 AND published = -1";

fn from_row(row: &Row) -> Result<Deployment, Error> {
    let status: String = row.get(8)?;
    let mut counts = Counts::default();
    for (index, count) in counts.0.iter_mut().enumerate() {
        *count = row.get(COUNTS_AT + index)?;
    }
    Ok(Deployment {
        id: row.get(0)?,
        number: row.get(1)?,
        name: row.get(2)?,
        artifact_name: row.get(3)?,
        kind: row.get(4)?,
        created_ms: row.get(5)?,
        starts_ms: row.get(6)?,
        active: row.get(7)?,
        status: Status::parse(&status)
            .ok_or_else(|| DbError::Corrupt(format!("deployments.status is '{status}'")))?,
        finished_ms: row.get(9)?,
        device_count: row.get(10)?,
        max_devices: row.get(11)?,
        target_count: row.get(12)?,
        dynamic: row.get(13)?,
        filter: row.get(14)?,
        group: row.get(15)?,
        phased: row.get(16)?,
        retries: row.get(17)?,
        force_installation: row.get(18)?,
        total_size_bytes: row.get(19)?,
        control_map: row.get(20)?,
        configuration: row.get(21)?,
        counts,
    })
}

/// One deployment.
pub async fn find(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<Deployment>, Error> {
    db.point(FIND, &params![tenant.as_str(), id])
        .await?
        .as_ref()
        .map(from_row)
        .transpose()
}

/// The number of a deployment.
pub async fn number(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<i64>, Error> {
    Ok(db
        .point(EXISTS, &params![tenant.as_str(), id])
        .await?
        .map(|row| row.get(0))
        .transpose()?)
}

/// Ids of the artifacts of a deployment.
pub async fn artifacts(db: &Db, tenant: &TenantId, number: i64) -> Result<Vec<String>, Error> {
    db.points(ARTIFACTS, &params![tenant.as_str(), number])
        .await?
        .iter()
        .map(|row| Ok(row.get(0)?))
        .collect()
}

/// The conditions of a list and their parameters, the tenant first.
fn conditions(tenant: &TenantId, filter: &Filter, now_ms: i64) -> (String, Vec<Value>) {
    let mut text = "tenant_id = $1 AND published = 1".to_owned();
    let mut params = params![tenant.as_str()];
    let bind = |params: &mut Vec<Value>, value: Value| {
        params.push(value);
        params.len()
    };
    match filter.status {
        None => {}
        Some(Status::Scheduled) => {
            let n = bind(&mut params, now_ms.into());
            let _ = write!(text, " AND status = 'pending' AND starts_ms > ${n}");
        }
        Some(Status::Pending) => {
            let n = bind(&mut params, now_ms.into());
            let _ = write!(text, " AND status = 'pending' AND starts_ms <= ${n}");
        }
        Some(status) => {
            let n = bind(&mut params, status.as_str().into());
            let _ = write!(text, " AND status = ${n}");
        }
    }
    if let Some(search) = &filter.search {
        let n = bind(&mut params, like_pattern(search).into());
        let _ = write!(text, " AND search_text LIKE ${n} ESCAPE '!'");
    }
    if let Some(before_s) = filter.created_before_s {
        // The whole second counts.
        let n = bind(
            &mut params,
            before_s.saturating_mul(1000).saturating_add(999).into(),
        );
        let _ = write!(text, " AND created_ms <= ${n}");
    }
    if let Some(after_s) = filter.created_after_s {
        let n = bind(&mut params, after_s.saturating_mul(1000).into());
        let _ = write!(text, " AND created_ms >= ${n}");
    }
    if let Some(kind) = &filter.kind {
        let n = bind(&mut params, kind.into());
        let _ = write!(text, " AND kind = ${n}");
    }
    if let Some(groups) = &filter.groups {
        text.push_str(&super::group::visible(&mut params, groups));
    }
    for (column, values) in [("name", &filter.names), ("id", &filter.ids)] {
        if !values.is_empty() {
            let numbers: Vec<String> = values
                .iter()
                .map(|value| format!("${}", bind(&mut params, value.into())))
                .collect();
            let _ = write!(text, " AND {column} IN ({})", numbers.join(", "));
        }
    }
    (text, params)
}

/// A pattern that finds `search` anywhere, in any case.
fn like_pattern(search: &str) -> String {
    let mut pattern = "%".to_owned();
    for c in search.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// What [`like_pattern`] is matched against.
fn search_text(name: &str, artifact_name: &str) -> String {
    format!("{name}\n{artifact_name}").to_lowercase()
}

/// A page of deployments.
pub async fn list(
    db: &Db,
    tenant: &TenantId,
    filter: &Filter,
    limit: u64,
    offset: u64,
    now_ms: i64,
) -> Result<Vec<Deployment>, Error> {
    let (conditions, mut params) = conditions(tenant, filter, now_ms);
    let order = if filter.ascending { "ASC" } else { "DESC" };
    params.push(limit.into());
    params.push(offset.into());
    let sql = format!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM deployments WHERE {} ORDER BY created_ms {}, number {} LIMIT ${} OFFSET ${}"
        ),
        conditions,
        order,
        order,
        params.len() - 1,
        params.len()
    );
    db.query(sql, params).await?.iter().map(from_row).collect()
}

/// Whether a user sees a deployment whose roles are limited.
pub async fn is_visible(
    db: &Db,
    tenant: &TenantId,
    id: &str,
    visible: Visible,
) -> Result<bool, Error> {
    let filter = Filter {
        ids: vec![id.to_owned()],
        groups: Some(visible),
        ..Filter::default()
    };
    Ok(count(db, tenant, &filter, 0).await? > 0)
}

/// How many deployments a list has in all.
pub async fn count(db: &Db, tenant: &TenantId, filter: &Filter, now_ms: i64) -> Result<u64, Error> {
    let (conditions, params) = conditions(tenant, filter, now_ms);
    let sql = format!("SELECT COUNT(*) FROM deployments WHERE {conditions}");
    let rows = db.query(sql, params).await?;
    Ok(rows.first().map(|row| row.get(0)).transpose()?.unwrap_or(0))
}

/// Writes an unpublished deployment and links the artifacts of its name; returns its number, or
/// `None` when there is no such artifact. The caller undoes the transaction then.
pub fn insert(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    deployment: &Deployment,
    now_ms: i64,
) -> Result<Option<i64>, Error> {
    let number: i64 = tx
        .query(NEXT_NUMBER, &params![tenant.as_str()])?
        .first()
        .map(|row| row.get(0))
        .transpose()?
        .unwrap_or(1);
    tx.execute(
        INSERT,
        &params![
            tenant.as_str(),
            &deployment.id,
            number,
            &deployment.name,
            &deployment.artifact_name,
            search_text(&deployment.name, &deployment.artifact_name),
            &deployment.kind,
            deployment.max_devices,
            deployment.target_count,
            deployment.dynamic,
            deployment.filter.as_ref(),
            deployment.group.as_ref(),
            deployment.phased,
            deployment.retries,
            deployment.force_installation,
            if deployment.dynamic {
                0
            } else {
                deployment.target_count
            },
            deployment.control_map.as_ref(),
            deployment.configuration.as_ref(),
            now_ms,
        ],
    )?;
    if deployment.configuration.is_some() {
        return Ok(Some(number));
    }
    let artifacts = tx.execute(
        JOIN_ARTIFACTS,
        &params![tenant.as_str(), number, &deployment.artifact_name],
    )?;
    Ok((artifacts > 0).then_some(number))
}

/// Bits of a place below the millisecond.
const PLACE_BITS: u32 = 20;

/// Makes a deployment visible and gives it its place in the order of deployments: creation order, but
/// one that starts later takes its place at its start, so it does not hold up others until then.
pub fn publish(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    number: i64,
    now_ms: i64,
    starts_ms: i64,
) -> Result<(), Error> {
    let later = starts_ms > now_ms;
    let at_ms = starts_ms.clamp(now_ms, i64::MAX >> PLACE_BITS);
    // The number keeps two that are created in the same moment, perhaps by two processes, apart.
    let wanted = (at_ms << PLACE_BITS) | (number & ((1 << PLACE_BITS) - 1));
    let place = if later {
        wanted
    } else {
        let last: i64 = tx
            .query(LAST_PLACE, &params![tenant.as_str()])?
            .first()
            .map(|row| row.get(0))
            .transpose()?
            .unwrap_or(0);
        wanted.max(last.saturating_add(1))
    };
    let touched = tx.execute(
        PUBLISH,
        &params![tenant.as_str(), number, now_ms, starts_ms, later, place],
    )?;
    if touched == 1 {
        Ok(())
    } else {
        Err(DbError::Conflict { index: 0 }.into())
    }
}

/// What the deployment must still be for its counters to move; the batch fails otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Not finished: a device joins.
    Active,
    /// Not aborted: an unfinished device moves.
    NotAborted,
    /// Anything: a finished device corrects itself.
    None,
}

/// Adds to the counters.
pub fn shift(tenant: &TenantId, number: i64, shift: Shift, guard: Guard) -> Statement {
    let (active_min, aborted_max) = match guard {
        Guard::Active => (1_i64, 0_i64),
        Guard::NotAborted => (0, 0),
        Guard::None => (0, 1),
    };
    let mut params = params![tenant.as_str(), number];
    params.extend(shift.counts.0.into_iter().map(Value::from));
    params.extend(params![
        shift.device_count,
        shift.size_bytes,
        active_min,
        aborted_max
    ]);
    statement(SHIFT, params).expect_one()
}

/// What is added to the counters of a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shift {
    pub counts: Counts,
    pub device_count: i64,
    pub size_bytes: u64,
}

/// Brings the status in line with the counters.
pub fn settle(tenant: &TenantId, number: i64, now_ms: i64) -> Statement {
    statement(SETTLE, params![tenant.as_str(), number, now_ms])
}

/// Aborts a deployment; the batch fails when it is not active.
pub fn abort(tenant: &TenantId, id: &str, now_ms: i64) -> Statement {
    statement(ABORT, params![tenant.as_str(), id, now_ms]).expect_one()
}

/// Notes that no device of an aborted deployment is left to be brought to its end.
pub fn cleaned(tenant: &TenantId, number: i64) -> Statement {
    statement(CLEANED, params![tenant.as_str(), number])
}

/// Aborted deployments whose devices are still to be brought to their end, without a sign of life since.
pub async fn unclean(db: &Db, before_ms: i64) -> Result<Vec<(TenantId, i64)>, Error> {
    keys(db, UNCLEAN, before_ms).await
}

/// Deployments whose creation was cut off, without a sign of life since.
pub async fn unpublished(db: &Db, before_ms: i64) -> Result<Vec<(TenantId, i64)>, Error> {
    keys(db, UNPUBLISHED, before_ms).await
}

async fn keys(db: &Db, sql: &'static str, before_ms: i64) -> Result<Vec<(TenantId, i64)>, Error> {
    db.query(sql, params![before_ms])
        .await?
        .iter()
        .map(|row| Ok((TenantId::new(row.get::<String>(0)?), row.get(1)?)))
        .collect()
}

/// A sign of life of whoever fills or cleans a deployment; the batch fails when it was given up.
pub fn touch(tenant: &TenantId, number: i64, now_ms: i64) -> Statement {
    beat(tenant, number, now_ms).expect_one()
}

/// As [`touch`], whether it was given up or not.
pub fn beat(tenant: &TenantId, number: i64, now_ms: i64) -> Statement {
    statement(TOUCH, params![tenant.as_str(), number, now_ms])
}

/// Marks a deployment that will never be published; the batch fails when it has been.
pub fn give_up(tenant: &TenantId, number: i64) -> Statement {
    statement(GIVE_UP, params![tenant.as_str(), number]).expect_one()
}

/// Writes where devices are to pause; the batch fails when the deployment has finished.
pub fn set_control_map(tenant: &TenantId, id: &str, map: Option<&str>) -> Statement {
    statement(SET_CONTROL_MAP, params![tenant.as_str(), id, map]).expect_one()
}

/// Ids of the unfinished deployments of a release.
pub async fn using(db: &Db, tenant: &TenantId, release: &str) -> Result<Vec<String>, Error> {
    db.query(USING_ARTIFACTS, params![tenant.as_str(), release])
        .await?
        .iter()
        .map(|row| Ok(row.get(0)?))
        .collect()
}

/// Forgets a deployment that was given up.
pub fn delete_unpublished(tenant: &TenantId, number: i64) -> [Statement; 3] {
    [
        super::group::delete(tenant, number),
        statement(DELETE_ARTIFACTS, params![tenant.as_str(), number]),
        statement(DELETE_UNPUBLISHED, params![tenant.as_str(), number]).expect_one(),
    ]
}

/// Unfinished deployments of all tenants by status.
pub async fn active_by_status(db: &Db) -> Result<Vec<(String, u64)>, DbError> {
    const ACTIVE: &str = "SELECT status, COUNT(*) FROM deployments \
         WHERE published = 1 AND status <> 'finished' GROUP BY status ORDER BY status";
    let rows = db.query(ACTIVE, params![]).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambidex_wire::deployments::DeviceStatus;

    #[test]
    fn counter_columns_follow_the_order_of_the_statuses() {
        let columns: Vec<&str> = counts!().split(',').map(str::trim).collect();
        let expected: Vec<String> = DeviceStatus::ALL
            .into_iter()
            .map(|status| format!("count_{}", status.as_str().replace('-', "_")))
            .collect();
        assert_eq!(columns, expected);
    }

    #[test]
    fn wildcards_in_a_search_are_plain_characters() {
        assert_eq!(like_pattern("A%b_c!"), "%a!%b!_c!!%");
    }
}
