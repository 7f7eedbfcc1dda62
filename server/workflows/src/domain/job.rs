//! Starting jobs and telling how they are doing.

use std::collections::BTreeMap;
use std::time::Duration;

use ambidex_db::{DbError, Statement};
use ambidex_kit::{current_request_id, new_id, rfc3339};
use ambidex_wire::management::workflows::{Definition, InputParameter, JobStatus, Started};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Inner;
use crate::error::WorkflowsError;
use crate::store::job::{self as rows, JobRow, Status};

use super::definition;
use super::template::{self, Input};

/// Kind of durable job that runs workflows.
pub(crate) const KIND: &str = "workflow";
/// Jobs that one request may start.
pub(crate) const BATCH_MAX: usize = 1_000;

/// What the durable job is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) workflow: String,
    pub(crate) version: Option<i64>,
    pub(crate) input: Vec<Input>,
    /// No record unless it fails, whatever the definition says.
    #[serde(default)]
    pub(crate) ephemeral: bool,
    /// When a step has used up its retries, the job begins anew from that step after a while.
    #[serde(default)]
    pub(crate) persistent: bool,
    /// Of the request that started it.
    #[serde(default)]
    pub(crate) request_id: String,
}

/// The parameters that a request names: an object, as real clients send it, or a list of `{name, value}`, as the
/// specification has it.
pub(crate) fn parameters(body: Value) -> Result<Vec<Input>, WorkflowsError> {
    let invalid = |text: &str| {
        WorkflowsError::Invalid(format!("Unable to parse the input parameters: {text}"))
    };
    let members: BTreeMap<String, Value> = match body {
        Value::Object(members) => members.into_iter().collect(),
        Value::Array(list) => {
            let mut members = BTreeMap::new();
            for item in list {
                let Value::Object(mut item) = item else {
                    return Err(invalid("expected a list of objects with name and value"));
                };
                let Some(Value::String(name)) = item.remove("name") else {
                    return Err(invalid("a parameter has no name"));
                };
                let value = item
                    .remove("value")
                    .ok_or_else(|| invalid(&format!("parameter {name:?} has no value")))?;
                members.insert(name, value);
            }
            members
        }
        _ => return Err(invalid("expected an object")),
    };
    Ok(template::inputs(members))
}

/// What starts a job, ready to be applied.
pub(crate) struct Prepared {
    pub(crate) statements: Vec<Statement>,
    pub(crate) started: Started,
}

/// The workflow of this name that is new enough.
pub(crate) async fn workflow(
    inner: &Inner,
    name: &str,
    version_min: Option<i64>,
) -> Result<Definition, WorkflowsError> {
    definition::newest(inner, name)
        .await?
        .filter(|found| version_min.is_none_or(|wanted| found.version >= wanted))
        .ok_or(WorkflowsError::NoWorkflow)
}

/// Checks the parameters against the definition and prepares a job with a record.
pub(crate) fn prepare(
    inner: &Inner,
    definition: &Definition,
    input: Vec<Input>,
) -> Result<Prepared, WorkflowsError> {
    let missing: Vec<&str> = definition
        .input_parameters
        .iter()
        .map(String::as_str)
        .filter(|wanted| input.iter().all(|given| given.name != *wanted))
        .collect();
    if !missing.is_empty() {
        return Err(WorkflowsError::Invalid(format!(
            "Missing input parameters: [{}]",
            missing.join(",")
        )));
    }
    let now_ms = inner.clock.now_ms();
    let tenant = tenant_of(&input);
    let row = JobRow {
        tenant: tenant.clone(),
        id: job_id(),
        workflow: definition.name.clone(),
        version: definition.version,
        ephemeral: definition.ephemeral,
        status: Status::Pending,
        input,
        results: Vec::new(),
        attempts: 0,
        created_ms: now_ms,
    };
    let order = Order {
        workflow: row.workflow.clone(),
        version: Some(row.version),
        input: row.input.clone(),
        ephemeral: row.ephemeral,
        persistent: false,
        request_id: current_request_id(),
    };
    let mut statements = vec![order_statement(inner, &tenant, &row.id, &order)];
    if !row.ephemeral {
        statements.push(rows::put(&row, 0));
    }
    Ok(Prepared {
        statements,
        started: Started {
            id: row.id,
            name: row.workflow,
        },
    })
}

/// A job that another service starts in the batch of its own change: it leaves no record unless it fails, and it
/// does not give up at the first failing step. Returns the statement and the job's id.
pub(crate) fn within_batch(
    inner: &Inner,
    tenant: &str,
    workflow: &str,
    input: Map<String, Value>,
) -> (Statement, String) {
    let order = Order {
        workflow: workflow.to_owned(),
        version: None,
        input: template::inputs(input.into_iter().collect()),
        ephemeral: true,
        persistent: true,
        request_id: current_request_id(),
    };
    let id = job_id();
    (order_statement(inner, tenant, &id, &order), id)
}

fn order_statement(inner: &Inner, tenant: &str, id: &str, order: &Order) -> Statement {
    // A plain structure always serialises.
    let payload = serde_json::to_value(order).unwrap_or_default();
    inner.jobs.enqueue_with_id(KIND, tenant, id, &payload)
}

fn tenant_of(input: &[Input]) -> String {
    let given = input.iter().find(|input| input.name == "tenant_id");
    given.map_or_else(String::new, |input| input.value.clone())
}

/// 24 hexadecimal digits, as clients know them.
fn job_id() -> String {
    let mut id = new_id().simple().to_string();
    id.truncate(24);
    id
}

/// How a job is doing. Jobs of ephemeral workflows are shown only when they have failed.
pub(crate) async fn status(
    inner: &Inner,
    workflow: Option<&str>,
    id: &str,
) -> Result<JobStatus, WorkflowsError> {
    let row = rows::by_id(&inner.db, id)
        .await?
        .filter(|row| workflow.is_none_or(|name| name == row.workflow))
        .filter(|row| !row.ephemeral || row.status == Status::Failed)
        .ok_or(WorkflowsError::NoJob)?;
    Ok(JobStatus {
        id: row.id,
        workflow_name: row.workflow,
        input_parameters: row
            .input
            .into_iter()
            .map(|input| InputParameter {
                name: input.name,
                value: input.value,
            })
            .collect(),
        status: row.status.as_str().to_owned(),
        results: row.results,
        insert_time: rfc3339(row.created_ms),
        version: row.version.to_string(),
    })
}

/// Removes the records of jobs that ended long ago.
pub(crate) async fn prune(inner: &Inner) -> Result<(), DbError> {
    let now_ms = inner.clock.now_ms();
    let before_ms = |kept: Duration| {
        now_ms.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX / 2))
    };
    let batch = vec![
        rows::prune(Status::Done, before_ms(inner.settings.done_kept)),
        rows::prune(Status::Failed, before_ms(inner.settings.failed_kept)),
    ];
    inner.db.apply(batch).await.map(drop)
}
