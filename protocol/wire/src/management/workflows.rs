//! Bodies of the workflow engine (specification: internal workflows; reference section 7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A workflow: what to do, step by step, with what input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Names the workflow.
    #[serde(default)]
    pub name: String,
    /// For humans.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A higher version replaces a lower one.
    pub version: i64,
    /// Version of the form of this document. Real clients write `schemaVersion`.
    #[serde(default, alias = "schemaVersion")]
    pub schemaversion: i64,
    /// Which workers run it. There is one sort of workers here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub topic: String,
    /// Jobs leave no record unless they fail.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ephemeral: bool,
    /// The steps, done one after the other.
    pub tasks: Vec<Task>,
    /// Parameters that a job must be started with.
    #[serde(
        default,
        rename = "inputParameters",
        deserialize_with = "null_is_default"
    )]
    pub input_parameters: Vec<String>,
    /// Parameters that a job may be started with; any other may be given as well.
    #[serde(
        default,
        rename = "optionalParameters",
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub optional_parameters: Vec<String>,
}

/// One step of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Names it within the workflow; later steps refer to its result by it.
    pub name: String,
    /// `http`, `cli`, `nats` or `smtp`; the member of that name says what to do.
    #[serde(rename = "type")]
    pub kind: String,
    /// Attempts after the first one.
    #[serde(default)]
    pub retries: u8,
    /// Wait before each of them.
    #[serde(default, rename = "retryDelaySeconds")]
    pub retry_delay_seconds: u8,
    /// The step is skipped when one of these expands to nothing.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub requires: Vec<String>,
    /// Of `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTask>,
    /// Of `cli`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cli: Option<CliTask>,
    /// Of `nats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsTask>,
    /// Of `smtp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpTask>,
}

/// A request to send.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpTask {
    /// Where to.
    pub uri: String,
    /// How.
    pub method: String,
    /// Of the body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// The body as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The body as a form.
    #[serde(
        rename = "formdata",
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub form_data: BTreeMap<String, String>,
    /// The body as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// Further headers.
    #[serde(deserialize_with = "null_is_default")]
    pub headers: BTreeMap<String, String>,
    /// Statuses that are a success; any below 400 when empty.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub status_codes: Vec<u16>,
    /// Seconds to wait for the connection.
    #[serde(rename = "connectionTimeOut")]
    pub connection_time_out: u64,
    /// Seconds to wait for the answer.
    #[serde(rename = "readTimeOut")]
    pub read_time_out: u64,
}

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CliTask {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Seconds that it may take.
    #[serde(rename = "executionTimeOut")]
    pub execution_time_out: i64,
}

/// A message to publish.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NatsTask {
    /// Where to.
    pub subject: String,
    /// What, sent as JSON.
    pub data: Value,
}

/// A mail to send. An address may be a list with commas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SmtpTask {
    /// Sender; the server's own address when it expands to nothing.
    pub from: String,
    /// Recipients.
    #[serde(deserialize_with = "null_is_default")]
    pub to: Vec<String>,
    /// Recipients of a copy.
    #[serde(deserialize_with = "null_is_default")]
    pub cc: Vec<String>,
    /// Hidden recipients.
    #[serde(deserialize_with = "null_is_default")]
    pub bcc: Vec<String>,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// The same in HTML.
    pub html: String,
}

/// A parameter of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputParameter {
    /// Its name.
    pub name: String,
    /// Its value as text.
    pub value: String,
}

/// What "Start Workflow" answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Id of the job.
    pub id: String,
    /// Name of the workflow.
    pub name: String,
}

/// What "Workflow Status" answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Id of the job.
    pub id: String,
    /// Name of the workflow.
    #[serde(rename = "workflowName")]
    pub workflow_name: String,
    /// What it was started with.
    #[serde(rename = "inputParameters")]
    pub input_parameters: Vec<InputParameter>,
    /// `pending`, `processing`, `done` or `failed`.
    pub status: String,
    /// Of the steps done so far.
    pub results: Vec<TaskResult>,
    /// When it was started, RFC 3339.
    pub insert_time: String,
    /// Version of the workflow.
    pub version: String,
}

/// How a step ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Name of the step.
    #[serde(default)]
    pub name: String,
    /// Its type.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Whether it did what it should.
    pub success: bool,
    /// Whether it was left out.
    #[serde(default)]
    pub skipped: bool,
    /// How often it was tried; 0 when it was left out.
    #[serde(default)]
    pub attempts: u32,
    /// Why there is no answer or no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of `cli`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cli: Option<CliResult>,
    /// Of `http`: status and body of the answer. The specification names the pair the wrong way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<HttpAnswer>,
    /// Of `http`: what was sent. The specification names the pair the wrong way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<HttpSent>,
    /// Of `http`, as real clients read it: what was sent.
    #[serde(
        default,
        rename = "httpRequest",
        skip_serializing_if = "Option::is_none"
    )]
    pub http_request: Option<HttpSent>,
    /// Of `http`, as real clients read it: what was answered.
    #[serde(
        default,
        rename = "httpResponse",
        skip_serializing_if = "Option::is_none"
    )]
    pub http_response: Option<HttpAnswer>,
    /// Of `nats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsResult>,
    /// Of `smtp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpResult>,
}

/// What a command printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CliResult {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub error: String,
    /// -1 when it was ended by a signal, by the time limit or was not started.
    #[serde(rename = "exitCode")]
    pub exit_code: i32,
}

/// A request as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSent {
    /// Where to.
    pub uri: String,
    /// How.
    pub method: String,
    /// `Name: value`.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    /// Status.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// Body.
    pub body: String,
}

/// How a publication ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatsResult {
    /// Empty on success.
    pub error: String,
}

/// A mail as it was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmtpResult {
    /// From.
    pub sender: String,
    /// All recipients.
    pub recipients: Vec<String>,
    /// Subject line.
    pub subject: String,
    /// Empty on success.
    pub error: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Go programs write an empty list or map as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
