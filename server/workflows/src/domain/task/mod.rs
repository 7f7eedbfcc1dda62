//! The four sorts of steps.

mod cli;
mod http;
mod nats;
mod smtp;

use ambidex_wire::management::workflows::{Task, TaskResult};

use crate::Inner;

use super::template::Scope;

pub(crate) use self::http::Outside;

/// What of an answer or an output is kept in a job's record, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// How an attempt ended.
pub(crate) struct Outcome {
    pub(crate) result: TaskResult,
    /// Another attempt would end the same way.
    pub(crate) permanent: bool,
}

impl Outcome {
    fn of(result: TaskResult) -> Outcome {
        Outcome {
            result,
            permanent: false,
        }
    }

    /// Nothing was done, for a reason that stays.
    fn refused(error: impl Into<String>) -> Outcome {
        Outcome {
            result: TaskResult {
                error: Some(error.into()),
                ..TaskResult::default()
            },
            permanent: true,
        }
    }

    pub(crate) fn skipped() -> Outcome {
        Outcome::of(TaskResult {
            success: true,
            skipped: true,
            ..TaskResult::default()
        })
    }
}

/// One attempt of a step.
pub(crate) async fn perform(
    inner: &Inner,
    task: &Task,
    scope: &Scope<'_>,
    request_id: &str,
) -> Outcome {
    match (
        task.kind.as_str(),
        &task.http,
        &task.cli,
        &task.nats,
        &task.smtp,
    ) {
        ("http", Some(http), ..) => http::perform(inner, http, scope, request_id).await,
        ("cli", _, Some(cli), ..) => cli::perform(inner, cli, scope).await,
        ("nats", _, _, Some(nats), _) => nats::perform(inner, nats, scope).await,
        ("smtp", _, _, _, Some(smtp)) => smtp::perform(inner, smtp, scope).await,
        (kind, ..) => {
            Outcome::refused(format!("the definition does not describe a task of {kind}"))
        }
    }
}

/// The beginning of an answer or an output, as text.
fn kept(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_BYTES_MAX)]).into_owned()
}
