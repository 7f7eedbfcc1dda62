//! Steps that publish a message to other programs.

use ambidex_bus::BusError;
use ambidex_wire::management::workflows::{NatsResult, NatsTask, TaskResult};
use bytes::Bytes;

use crate::Inner;

use super::super::template::Scope;
use super::Outcome;

pub(super) async fn perform(inner: &Inner, task: &NatsTask, scope: &Scope<'_>) -> Outcome {
    let subject = scope.text(&task.subject);
    let data = scope.value_of(&task.data).to_string();
    let sent = inner
        .bus
        .publish_external(&subject, Bytes::from(data))
        .await;
    let (error, permanent) = match sent {
        Ok(()) => (String::new(), false),
        Err(error @ BusError::Unavailable(_)) => (error.to_string(), false),
        Err(error) => (error.to_string(), true),
    };
    Outcome {
        result: TaskResult {
            success: error.is_empty(),
            error: (!error.is_empty()).then(|| error.clone()),
            nats: Some(NatsResult { error }),
            ..TaskResult::default()
        },
        permanent,
    }
}
