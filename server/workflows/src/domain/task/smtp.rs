//! Steps that send a mail.

use ambidex_mail::Mail;
use ambidex_wire::management::workflows::{SmtpResult, SmtpTask, TaskResult};

use crate::Inner;

use super::super::template::Scope;
use super::Outcome;

pub(super) async fn perform(inner: &Inner, task: &SmtpTask, scope: &Scope<'_>) -> Outcome {
    let addresses = |list: &[String]| -> Vec<String> {
        let expanded = list.iter().map(|entry| scope.text(entry));
        expanded
            .flat_map(|entry| {
                let parts = entry.split(',').map(|part| part.trim().to_owned());
                parts.collect::<Vec<_>>()
            })
            .filter(|address| !address.is_empty())
            .collect()
    };
    let given = |text: &str| Some(scope.text(text)).filter(|text| !text.is_empty());
    let mail = Mail {
        from: given(&task.from),
        to: addresses(&task.to),
        cc: addresses(&task.cc),
        bcc: addresses(&task.bcc),
        subject: scope.text(&task.subject),
        text: scope.text(&task.body),
        html: given(&task.html),
    };
    let mut result = SmtpResult {
        sender: mail.from.clone().unwrap_or_default(),
        recipients: [&mail.to[..], &mail.cc, &mail.bcc].concat(),
        subject: mail.subject.clone(),
        error: String::new(),
    };
    let (error, permanent) = match inner.mailer.send(mail).await {
        Ok(()) => (None, false),
        Err(error) => (Some(error.to_string()), !error.is_temporary()),
    };
    result.error = error.clone().unwrap_or_default();
    Outcome {
        result: TaskResult {
            success: error.is_none(),
            error,
            smtp: Some(result),
            ..TaskResult::default()
        },
        permanent,
    }
}
