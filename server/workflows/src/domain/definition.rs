//! What a definition may say, and which one counts.

use std::collections::BTreeMap;

use ambidex_db::DbError;
use ambidex_wire::management::workflows::{Definition, Task};

use crate::error::WorkflowsError;
use crate::store::definition as rows;
use crate::{Inner, stock};

/// Longest name, in bytes: it is part of a path.
const NAME_BYTES_MAX: usize = 128;
/// Steps of one workflow. The longest stock workflow has four; more than this is a mistake.
const TASKS_MAX: usize = 100;

/// Why a definition is not taken; `None` when it is.
fn objection(definition: &Definition) -> Option<String> {
    if definition.name.is_empty() {
        return Some("Workflow missing name".to_owned());
    }
    if definition.name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "the name of a workflow has at most {NAME_BYTES_MAX} bytes"
        ));
    }
    if definition.tasks.len() > TASKS_MAX {
        return Some(format!("a workflow has at most {TASKS_MAX} tasks"));
    }
    definition.tasks.iter().find_map(|task| {
        let problem = task_objection(task)?;
        Some(format!("task {:?}: {problem}", task.name))
    })
}

fn task_objection(task: &Task) -> Option<String> {
    let described = match task.kind.as_str() {
        "http" => task.http.is_some(),
        "cli" => task.cli.is_some(),
        "nats" => task.nats.is_some(),
        "smtp" => task.smtp.is_some(),
        other => {
            return Some(format!(
                "unknown type {other:?}, it is http, cli, nats or smtp"
            ));
        }
    };
    if task.name.is_empty() {
        return Some("a task needs a name".to_owned());
    }
    if !described {
        return Some(format!(
            "the member {:?} that describes it is missing",
            task.kind
        ));
    }
    if let Some(http) = &task.http
        && http.uri.is_empty()
    {
        return Some("http.uri is missing".to_owned());
    }
    if let Some(cli) = &task.cli
        && cli.command.is_empty()
    {
        return Some("cli.command is missing".to_owned());
    }
    None
}

/// Takes a new workflow or a higher version of one.
pub(crate) async fn register(inner: &Inner, definition: &Definition) -> Result<(), WorkflowsError> {
    if let Some(text) = objection(definition) {
        return Err(WorkflowsError::Invalid(text));
    }
    if let Some(known) = newest(inner, &definition.name).await?
        && known.version >= definition.version
    {
        return Err(WorkflowsError::Exists);
    }
    let text = serde_json::to_string(definition).map_err(|e| DbError::Other(e.to_string()))?;
    let row = rows::insert(definition, text, inner.clock.now_ms());
    match inner.db.apply(vec![row]).await {
        Ok(_) => Ok(()),
        Err(DbError::UniqueViolation { .. }) => Err(WorkflowsError::Exists),
        Err(error) => Err(error.into()),
    }
}

/// The version of a workflow that jobs are started with.
pub(crate) async fn newest(inner: &Inner, name: &str) -> Result<Option<Definition>, DbError> {
    let registered = rows::newest(&inner.db, name).await?;
    let stock = stock::all().get(name);
    Ok(match (registered, stock) {
        (Some(own), Some(stock)) if own.version < stock.version => Some(stock.clone()),
        (Some(own), _) => Some(own),
        (None, stock) => stock.cloned(),
    })
}

/// The version that a job began with, or the newest if that one is gone.
pub(crate) async fn of_version(
    inner: &Inner,
    name: &str,
    version: i64,
) -> Result<Option<Definition>, DbError> {
    if let Some(stock) = stock::all().get(name)
        && stock.version == version
    {
        return Ok(Some(stock.clone()));
    }
    match rows::of_version(&inner.db, name, version).await? {
        Some(definition) => Ok(Some(definition)),
        None => newest(inner, name).await,
    }
}

/// All workflows that can be started, by name.
pub(crate) async fn list(inner: &Inner) -> Result<Vec<Definition>, DbError> {
    let mut found: BTreeMap<String, Definition> = stock::all().clone();
    for definition in rows::all(&inner.db).await? {
        let newer = found
            .get(&definition.name)
            .is_none_or(|stock| stock.version <= definition.version);
        if newer {
            found.insert(definition.name.clone(), definition);
        }
    }
    Ok(found.into_values().collect())
}
