//! Devices in deployments.

use std::fmt::Write as _;

use ambidex_access::TenantId;
use ambidex_db::{Db, DbError, Row, Statement, Tx, Value, params, statement};
use ambidex_kit::Clock;
use ambidex_wire::deployments::DeviceStatus;

use crate::domain::deployment::CONFIGURATION;
use crate::domain::device::{Standing, State};
use crate::error::Error;

/// A row if a poll has anything to look at: most polls do not, and this costs a fraction of looking.
pub const ANY_OPEN: &str = "SELECT 1 WHERE EXISTS (SELECT 1 FROM deployment_devices \
     WHERE tenant_id = $1 AND device_id = $2 AND state < 2) \
     OR EXISTS (SELECT 1 FROM deployments WHERE tenant_id = $1 AND dynamic = 1 AND active = 1)";

/// The deployment that a device is to be served next: an unfinished one that it has already asked for,
/// else the first in order after the last one it has finished. A poll that finds nothing is one search
/// in `deployment_devices_device`.
///
/// `CROSS JOIN` fixes the order of the loops: the device's few rows first.
pub const NEXT_OPEN: &str = "SELECT dd.deployment_number, dd.state, dd.status, dd.offered, \
     dd.device_type, dd.artifact_id, d.id, d.place, d.artifact_name, d.force_installation, d.phased, \
     dd.attempts, d.dynamic, d.kind, d.control_map \
     FROM deployment_devices dd CROSS JOIN deployments d \
     WHERE dd.tenant_id = $1 AND dd.device_id = $2 AND dd.state IN (0, 1) \
     AND d.tenant_id = dd.tenant_id AND d.number = dd.deployment_number \
     AND d.published = 1 AND d.aborted = 0 \
     AND (dd.state = 1 OR (d.active = 1 AND d.starts_ms <= $3 AND d.place > COALESCE(\
     (SELECT MAX(w.place) FROM deployment_devices w \
     WHERE w.tenant_id = $1 AND w.device_id = $2 AND w.state = 2), 0))) \
     ORDER BY dd.state DESC, d.place LIMIT 1";

pub const FIND: &str = "SELECT dd.deployment_number, dd.state, dd.status, dd.offered, dd.attempts, \
     d.retries, d.aborted, dd.substate \
     FROM deployments d JOIN deployment_devices dd \
     ON dd.tenant_id = d.tenant_id AND dd.deployment_number = d.number \
     WHERE d.tenant_id = $1 AND d.id = $2 AND d.published = 1 AND dd.device_id = $3";

pub const OPEN_OF_DEVICE: &str = "SELECT dd.deployment_number, dd.state, dd.status \
     FROM deployment_devices dd CROSS JOIN deployments d \
     WHERE dd.tenant_id = $1 AND dd.device_id = $2 AND dd.state IN (0, 1) \
     AND d.tenant_id = dd.tenant_id AND d.number = dd.deployment_number \
     AND d.aborted = 0 AND (dd.state = 1 OR d.active = 1) LIMIT 100";

const TAKE_UP: &str = "UPDATE deployment_devices SET state = $4, status = $5, place = $6, \
     offered = $7, device_type = $8, artifact_id = $9, artifact_size_bytes = $10, finished_ms = $11 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3 AND state = 0";

const OFFER_AGAIN: &str = "UPDATE deployment_devices SET offered = 1, device_type = $4, \
     artifact_id = $5, artifact_size_bytes = $6 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3 AND state = 1 \
     AND status = $7";

const REPORT: &str = "UPDATE deployment_devices SET state = $6, status = $5, attempts = $7, \
     offered = $8, substate = COALESCE($9, substate), started_ms = COALESCE(started_ms, $10), \
     finished_ms = $11 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3 AND status = $4 \
     AND state IN (1, 2)";

const DECOMMISSION: &str = "UPDATE deployment_devices SET state = 2, status = 'decommissioned', \
     place = (SELECT d.place FROM deployments d WHERE d.tenant_id = $1 AND d.number = $2), \
     finished_ms = $6 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id = $3 AND state = $4 \
     AND status = $5";

macro_rules! shown_columns {
    () => {
        "dd.device_id, CASE WHEN dd.state = 1 AND d.aborted = 1 THEN 'aborted' ELSE dd.status END, \
         dd.has_log, d.created_ms, dd.started_ms, dd.finished_ms, dd.device_type, dd.substate, \
         dd.attempts, d.retries, dd.artifact_id, dd.artifact_size_bytes, dd.deleted_ms"
    };
}
pub(super) use shown_columns;

const LIST: &str = concat!(
    "SELECT ",
    shown_columns!(),
    " FROM deployments d JOIN deployment_devices dd \
      ON dd.tenant_id = d.tenant_id AND dd.deployment_number = d.number \
      WHERE d.tenant_id = $1 AND d.number = $2 AND dd.state IN (1, 2, 4) AND dd.device_id > $3 \
      ORDER BY dd.device_id LIMIT $4"
);

const TARGETS: &str = "SELECT device_id FROM deployment_devices \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id > $3 \
     ORDER BY device_id LIMIT $4";

/// The last id of a stretch of rows after `$3`.
const STRETCH: &str = "SELECT MAX(device_id), COUNT(*) FROM (SELECT device_id FROM deployment_devices \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id > $3 \
     ORDER BY device_id LIMIT $4) AS stretch";

const CLOSE_STRETCH: &str = "UPDATE deployment_devices SET state = 3 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id > $3 AND device_id <= $4 \
     AND state = 0";

const ABORT_STRETCH: &str = "UPDATE deployment_devices SET state = 2, status = 'aborted', \
     finished_ms = $5 \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id > $3 AND device_id <= $4 \
     AND state = 1";

const DELETE_STRETCH: &str = "DELETE FROM deployment_devices \
     WHERE tenant_id = $1 AND deployment_number = $2 AND device_id > $3 AND device_id <= $4";

/// Rows written or changed by one batch when a whole deployment is worked through: a batch takes a few
/// milliseconds of the writer, and the batches of others go between.
pub const STRETCH_ROWS: usize = 500;

/// What a poll has to decide about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub number: i64,
    pub state: State,
    pub status: DeviceStatus,
    pub offered: bool,
    pub device_type: Option<String>,
    pub artifact_id: Option<String>,
    pub deployment_id: String,
    pub place: i64,
    pub artifact_name: String,
    pub force_installation: bool,
    pub phased: bool,
    /// Attempts that have ended.
    pub attempts: u32,
    /// Whether the device has no row yet.
    pub dynamic: bool,
    /// Whether a configuration is deployed, and no artifact of the store.
    pub configuration: bool,
    /// Where the device is to pause, as JSON.
    pub control_map: Option<String>,
}

/// What a report is judged against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub number: i64,
    pub standing: Standing,
}

/// A device of a deployment as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub device_id: String,
    pub status: DeviceStatus,
    pub has_log: bool,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
    pub device_type: Option<String>,
    pub substate: Option<String>,
    pub attempts: u32,
    pub retries: u32,
    pub artifact_id: Option<String>,
    pub artifact_size_bytes: Option<u64>,
    pub deleted_ms: Option<i64>,
}

fn state(code: i64) -> Result<State, Error> {
    State::from_code(code)
        .ok_or_else(|| DbError::Corrupt(format!("deployment_devices.state is {code}")).into())
}

pub(super) fn status(word: &str) -> Result<DeviceStatus, Error> {
    word.parse()
        .map_err(|_| DbError::Corrupt(format!("deployment_devices.status is '{word}'")).into())
}

/// Whether the device has something to do, or might join a deployment.
pub async fn any_open(db: &Db, tenant: &TenantId, device_id: &str) -> Result<bool, Error> {
    let row = db
        .point(ANY_OPEN, &params![tenant.as_str(), device_id])
        .await?;
    Ok(row.is_some())
}

/// See [`NEXT_OPEN`].
pub async fn next_open(
    db: &Db,
    tenant: &TenantId,
    device_id: &str,
    now_ms: i64,
) -> Result<Option<Open>, Error> {
    let params = params![tenant.as_str(), device_id, now_ms];
    let Some(row) = db.point(NEXT_OPEN, &params).await? else {
        return Ok(None);
    };
    Ok(Some(Open {
        number: row.get(0)?,
        state: state(row.get(1)?)?,
        status: status(row.text(2)?)?,
        offered: row.get(3)?,
        device_type: row.get(4)?,
        artifact_id: row.get(5)?,
        deployment_id: row.get(6)?,
        place: row.get(7)?,
        artifact_name: row.get(8)?,
        force_installation: row.get(9)?,
        phased: row.get(10)?,
        attempts: row.get(11)?,
        dynamic: row.get(12)?,
        configuration: row.text(13)? == CONFIGURATION,
        control_map: row.get(14)?,
    }))
}

/// Where a device stands in a deployment; `None` when it is no target.
pub async fn find(
    db: &Db,
    tenant: &TenantId,
    deployment_id: &str,
    device_id: &str,
) -> Result<Option<Found>, Error> {
    let params = params![tenant.as_str(), deployment_id, device_id];
    let Some(row) = db.point(FIND, &params).await? else {
        return Ok(None);
    };
    Ok(Some(Found {
        number: row.get(0)?,
        standing: Standing {
            state: state(row.get(1)?)?,
            status: status(row.text(2)?)?,
            offered: row.get(3)?,
            attempts: row.get(4)?,
            retries: row.get(5)?,
            aborted: row.get(6)?,
        },
    }))
}

/// The first 100 deployments in which a device is still to do something.
pub async fn open_of_device(
    db: &Db,
    tenant: &TenantId,
    device_id: &str,
) -> Result<Vec<(i64, State, DeviceStatus)>, Error> {
    db.points(OPEN_OF_DEVICE, &params![tenant.as_str(), device_id])
        .await?
        .iter()
        .map(|row| Ok((row.get(0)?, state(row.get(1)?)?, status(row.text(2)?)?)))
        .collect()
}

/// What a device's first poll leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUp<'a> {
    pub status: DeviceStatus,
    pub place: i64,
    pub device_type: &'a str,
    /// The assigned artifact and its size in bytes.
    pub artifact: Option<(&'a str, u64)>,
    pub now_ms: i64,
}

/// Writes a device's first poll; the batch fails when it is not waiting any more.
pub fn take_up(tenant: &TenantId, number: i64, device_id: &str, taken: &TakenUp<'_>) -> Statement {
    let state = State::of(taken.status);
    statement(
        TAKE_UP,
        params![
            tenant.as_str(),
            number,
            device_id,
            state.code(),
            taken.status.as_str(),
            taken.place,
            state == State::Active,
            taken.device_type,
            taken.artifact.map(|(id, _)| id),
            taken.artifact.map(|(_, size_bytes)| size_bytes),
            taken.status.is_final().then_some(taken.now_ms),
        ],
    )
    .expect_one()
}

/// Writes that an unfinished device gets this artifact; the batch fails when its status is another one.
pub fn offer_again(
    tenant: &TenantId,
    number: i64,
    device_id: &str,
    device_type: &str,
    artifact: Option<(&str, u64)>,
    status: DeviceStatus,
) -> Statement {
    statement(
        OFFER_AGAIN,
        params![
            tenant.as_str(),
            number,
            device_id,
            device_type,
            artifact.map(|(id, _)| id),
            artifact.map(|(_, size_bytes)| size_bytes),
            status.as_str(),
        ],
    )
    .expect_one()
}

/// What a report changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported<'a> {
    pub from: DeviceStatus,
    pub to: DeviceStatus,
    pub attempts: u32,
    pub offered: bool,
    /// `None` keeps the old one.
    pub substate: Option<&'a str>,
    pub now_ms: i64,
}

/// Writes a report; the batch fails when the status is not the one the decision was made from.
pub fn report(
    tenant: &TenantId,
    number: i64,
    device_id: &str,
    reported: &Reported<'_>,
) -> Statement {
    statement(
        REPORT,
        params![
            tenant.as_str(),
            number,
            device_id,
            reported.from.as_str(),
            reported.to.as_str(),
            State::of(reported.to).code(),
            reported.attempts,
            reported.offered,
            reported.substate,
            reported.now_ms,
            reported.to.is_final().then_some(reported.now_ms),
        ],
    )
    .expect_one()
}

/// Ends a device's part because the device is gone.
pub fn decommission(
    tenant: &TenantId,
    number: i64,
    device_id: &str,
    from: (State, DeviceStatus),
    now_ms: i64,
) -> Statement {
    let (state, status) = from;
    statement(
        DECOMMISSION,
        params![
            tenant.as_str(),
            number,
            device_id,
            state.code(),
            status.as_str(),
            now_ms
        ],
    )
    .expect_one()
}

pub(super) fn shown(row: &Row) -> Result<Shown, Error> {
    Ok(Shown {
        device_id: row.get(0)?,
        status: status(row.text(1)?)?,
        has_log: row.get(2)?,
        created_ms: row.get(3)?,
        started_ms: row.get(4)?,
        finished_ms: row.get(5)?,
        device_type: row.get(6)?,
        substate: row.get(7)?,
        attempts: row.get(8)?,
        retries: row.get(9)?,
        artifact_id: row.get(10)?,
        artifact_size_bytes: row.get(11)?,
        deleted_ms: row.get(12)?,
    })
}

/// Devices of a deployment that have asked, in the order of their ids, those after `after`.
pub async fn list(
    db: &Db,
    tenant: &TenantId,
    number: i64,
    after: &str,
    limit: usize,
) -> Result<Vec<Shown>, Error> {
    db.query(LIST, params![tenant.as_str(), number, after, limit])
        .await?
        .iter()
        .map(shown)
        .collect()
}

/// Ids of targets of a deployment in their order, those after `after`.
pub async fn targets(
    db: &Db,
    tenant: &TenantId,
    number: i64,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, Error> {
    db.query(TARGETS, params![tenant.as_str(), number, after, limit])
        .await?
        .iter()
        .map(|row| Ok(row.get(0)?))
        .collect()
}

/// One statement for up to [`STRETCH_ROWS`] waiting devices.
fn insert_waiting(tenant: &TenantId, number: i64, device_ids: &[String]) -> (String, Vec<Value>) {
    let mut sql =
        "INSERT INTO deployment_devices (tenant_id, deployment_number, device_id, state, \
         place, status, offered, attempts, has_log) VALUES "
            .to_owned();
    let mut values = params![tenant.as_str(), number];
    for (index, device_id) in device_ids.iter().enumerate() {
        values.push(device_id.into());
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(
            sql,
            "{comma}($1, $2, ${}, 0, 0, 'pending', 0, 0, 0)",
            values.len()
        );
    }
    (sql, values)
}

/// Writes waiting devices inside a transaction.
pub fn insert_waiting_within(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    number: i64,
    device_ids: &[String],
) -> Result<(), Error> {
    if !device_ids.is_empty() {
        let (sql, params) = insert_waiting(tenant, number, device_ids);
        tx.execute(&sql, &params)?;
    }
    Ok(())
}

/// Writes waiting devices as a batch of its own; fails when the deployment was given up meanwhile.
pub async fn insert_waiting_stretch(
    db: &Db,
    tenant: &TenantId,
    number: i64,
    device_ids: &[String],
    now_ms: i64,
) -> Result<(), Error> {
    let (sql, params) = insert_waiting(tenant, number, device_ids);
    db.apply(vec![
        super::deployment::touch(tenant, number, now_ms),
        statement(sql, params),
    ])
    .await?;
    Ok(())
}

/// What is done to every device of a deployment, stretch by stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Bring to their end: waiting devices will not be served, active ones are aborted.
    Abort {
        at_ms: i64,
    },
    Delete,
}

/// Works through all devices of a deployment in short batches. Whoever cleans gives signs of life.
pub async fn sweep(
    db: &Db,
    clock: &Clock,
    tenant: &TenantId,
    number: i64,
    what: Sweep,
) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let rows = db
            .query(
                STRETCH,
                params![tenant.as_str(), number, &after, STRETCH_ROWS],
            )
            .await?;
        let Some(until) = rows
            .first()
            .map(|row| row.get::<Option<String>>(0))
            .transpose()?
            .flatten()
        else {
            return Ok(());
        };
        let range = params![tenant.as_str(), number, &after, &until];
        let batch = match what {
            Sweep::Abort { at_ms } => {
                let mut abort = range.clone();
                abort.push(at_ms.into());
                vec![
                    statement(CLOSE_STRETCH, range),
                    statement(ABORT_STRETCH, abort),
                    super::deployment::beat(tenant, number, clock.now_ms()),
                ]
            }
            Sweep::Delete => vec![statement(DELETE_STRETCH, range)],
        };
        db.apply(batch).await?;
        after = until;
    }
}

/// Which devices of a deployment a paged list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusFilter(Vec<DeviceStatus>);

impl StatusFilter {
    /// Reads a status word or one of the collective words `pause`, `active` and `finished`; `None`
    /// is everything.
    ///
    /// # Errors
    /// 400 for any other word.
    pub fn parse(word: Option<&str>) -> Result<Self, Error> {
        let all = DeviceStatus::ALL.into_iter();
        let statuses: Vec<DeviceStatus> = match word {
            None => return Ok(Self(Vec::new())),
            Some("pause") => all
                .filter(|status| status.as_str().starts_with("pause_"))
                .collect(),
            Some("active") => all.filter(|status| !status.is_final()).collect(),
            Some("finished") => all.filter(|status| status.is_final()).collect(),
            Some(word) => all.filter(|status| status.as_str() == word).collect(),
        };
        if statuses.is_empty() {
            let word: String = word.unwrap_or_default().chars().take(64).collect();
            return Err(Error::invalid(format!("unknown status {word}")));
        }
        Ok(Self(statuses))
    }
}

impl StatusFilter {
    /// Adds the condition to a `WHERE` in which devices are called `dd`.
    pub(super) fn restrict(&self, conditions: &mut String, params: &mut Vec<Value>) {
        if self.0.is_empty() {
            return;
        }
        let numbers: Vec<String> = self
            .0
            .iter()
            .map(|status| {
                params.push(status.as_str().into());
                format!("${}", params.len())
            })
            .collect();
        let _ = write!(conditions, " AND dd.status IN ({})", numbers.join(", "));
    }
}

/// A page of the devices of a deployment that have asked, and how many there are in all.
pub async fn page(
    db: &Db,
    tenant: &TenantId,
    number: i64,
    filter: &StatusFilter,
    limit: u64,
    offset: u64,
) -> Result<(Vec<Shown>, u64), Error> {
    let mut params = params![tenant.as_str(), number];
    let mut conditions = "d.tenant_id = $1 AND d.number = $2 AND dd.state IN (1, 2, 4)".to_owned();
    filter.restrict(&mut conditions, &mut params);
    const FROM: &str = "FROM deployments d JOIN deployment_devices dd \
         ON dd.tenant_id = d.tenant_id AND dd.deployment_number = d.number";
    let total = db
        .query(
            format!("SELECT COUNT(*) {FROM} WHERE {conditions}"),
            params.clone(),
        )
        .await?
        .first()
        .map(|row| row.get(0))
        .transpose()?
        .unwrap_or(0);
    params.push(limit.into());
    params.push(offset.into());
    let sql = format!(
        concat!(
            "SELECT ",
            shown_columns!(),
            " {} WHERE {} ORDER BY dd.device_id LIMIT ${} OFFSET ${}"
        ),
        FROM,
        conditions,
        params.len() - 1,
        params.len()
    );
    let shown = db
        .query(sql, params)
        .await?
        .iter()
        .map(shown)
        .collect::<Result<_, _>>()?;
    Ok((shown, total))
}
