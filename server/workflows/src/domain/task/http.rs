//! Steps that send a request.
//!
//! Requests to the server's own services never leave the process: they go to the router behind
//! [`crate::ports::Services`]. All others go out over the network. Who may register a workflow decides where to: the
//! interface that takes definitions is the internal one, without credentials, and an input cannot change a host
//! unless a definition puts it into one, which no stock workflow does. Redirects are not followed, so the host that a
//! definition names is the only one that is asked.

use std::sync::Arc;
use std::time::Duration;

use ambidex_wire::management::workflows::{HttpAnswer, HttpSent, HttpTask, TaskResult};
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use reqwest::Client;

use crate::Inner;
use crate::error::WorkflowsError;

use super::super::template::Scope;
use super::{KEPT_BYTES_MAX, Outcome, kept};

/// Limit of an attempt whose definition names none.
const TIME_OUT_DEFAULT: Duration = Duration::from_secs(8);
/// Definitions of the reference system name 8000 where they mean eight seconds; no step holds a worker for longer than
/// this.
const TIME_OUT_MAX: Duration = Duration::from_secs(300);
/// Longest answer that is waited for, in bytes; more is cut off.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-men-requestid");

/// The way to other hosts.
pub(crate) struct Outside(Client);

impl Outside {
    pub(crate) fn new() -> Result<Outside, WorkflowsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| WorkflowsError::Client(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(TIME_OUT_DEFAULT)
            .user_agent(concat!("ambidex-server/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Outside)
            .map_err(|error| WorkflowsError::Client(error.to_string()))
    }
}

/// A request ready to be sent.
struct Prepared {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// As the record shows them.
    shown: Vec<String>,
    body: String,
}

pub(super) async fn perform(
    inner: &Inner,
    task: &HttpTask,
    scope: &Scope<'_>,
    request_id: &str,
) -> Outcome {
    let prepared = match prepare(task, scope, request_id) {
        Ok(prepared) => prepared,
        Err(error) => return Outcome::refused(error),
    };
    let sent = HttpSent {
        uri: prepared.uri.to_string(),
        method: prepared.method.to_string(),
        headers: prepared.shown.clone(),
        body: prepared.body.chars().take(KEPT_BYTES_MAX).collect(),
    };
    let limit = time_out(task.read_time_out);
    let own = prepared
        .uri
        .host()
        .is_some_and(|host| inner.settings.own_hosts.iter().any(|own| own == host));
    let answer = async {
        if own {
            within(inner, prepared).await
        } else {
            outside(&inner.outside, prepared).await
        }
    };
    let answer = tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs())));
    let mut result = TaskResult {
        response: Some(sent.clone()),
        http_request: Some(sent),
        ..TaskResult::default()
    };
    match answer {
        Ok((status, body)) => {
            result.success = if task.status_codes.is_empty() {
                status.as_u16() < 400
            } else {
                task.status_codes.contains(&status.as_u16())
            };
            let answer = HttpAnswer {
                status_code: status.as_u16(),
                body: kept(&body),
            };
            result.request = Some(answer.clone());
            result.http_response = Some(answer);
        }
        Err(error) => result.error = Some(error),
    }
    Outcome::of(result)
}

fn time_out(seconds: u64) -> Duration {
    if seconds == 0 {
        TIME_OUT_DEFAULT
    } else {
        Duration::from_secs(seconds).min(TIME_OUT_MAX)
    }
}

fn prepare(task: &HttpTask, scope: &Scope<'_>, request_id: &str) -> Result<Prepared, String> {
    let uri = scope.text(&task.uri);
    let uri: Uri = uri
        .parse()
        .map_err(|error| format!("{uri:?} is no URI: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(format!("{uri} is neither http://HOST nor https://HOST"));
    }
    let method = if task.method.is_empty() {
        Method::GET
    } else {
        Method::from_bytes(task.method.to_ascii_uppercase().as_bytes())
            .map_err(|_| format!("{:?} is no method", task.method))?
    };
    let mut headers = HeaderMap::new();
    let mut shown = Vec::new();
    for (name, value) in &task.headers {
        let value = scope.text(value);
        let invalid = || format!("{name:?} and its value are no header");
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let secret = header == AUTHORIZATION;
        shown.push(format!("{name}: {}", if secret { "…" } else { &value }));
        headers.insert(
            header,
            HeaderValue::from_str(&value).map_err(|_| invalid())?,
        );
    }
    if !headers.contains_key(REQUEST_ID)
        && let Ok(id) = HeaderValue::from_str(request_id)
        && !id.is_empty()
    {
        headers.insert(REQUEST_ID, id);
    }
    let (body, content_type) = body(task, scope);
    let content_type = if task.content_type.is_empty() {
        content_type.to_owned()
    } else {
        scope.text(&task.content_type)
    };
    if !content_type.is_empty() {
        let value = HeaderValue::from_str(&content_type)
            .map_err(|_| format!("{content_type:?} is no content type"))?;
        headers.entry(CONTENT_TYPE).or_insert(value);
    }
    Ok(Prepared {
        method,
        uri,
        headers,
        shown,
        body,
    })
}

/// The body and its type unless the definition names one: a form before JSON before plain text.
fn body(task: &HttpTask, scope: &Scope<'_>) -> (String, &'static str) {
    if !task.form_data.is_empty() {
        let pairs: Vec<(String, String)> = task
            .form_data
            .iter()
            .map(|(key, value)| (scope.text(key), scope.text(value)))
            .collect();
        // Pairs of texts always serialise.
        let form = serde_urlencoded::to_string(pairs).unwrap_or_default();
        return (form, "application/x-www-form-urlencoded");
    }
    match &task.json {
        Some(json) => (scope.value_of(json).to_string(), "application/json"),
        None => (scope.text(&task.body), ""),
    }
}

/// To a service of this server.
async fn within(inner: &Inner, prepared: Prepared) -> Result<(StatusCode, Bytes), String> {
    let path = prepared
        .uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::new(Bytes::from(prepared.body));
    *request.method_mut() = prepared.method;
    *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is no path"))?;
    *request.headers_mut() = prepared.headers;
    request.headers_mut().insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("ambidex-workflows/", env!("CARGO_PKG_VERSION"))),
    );
    let answer = inner.services.call(request).await?;
    let (parts, body) = answer.into_parts();
    Ok((parts.status, body))
}

/// To any other host.
async fn outside(client: &Outside, prepared: Prepared) -> Result<(StatusCode, Bytes), String> {
    // The text of an error must not show what a URI may hold in its query.
    let plain = |error: reqwest::Error| chain(&error.without_url());
    let mut answer = client
        .0
        .request(prepared.method, prepared.uri.to_string())
        .headers(prepared.headers)
        .body(prepared.body)
        .send()
        .await
        .map_err(plain)?;
    let mut body = BytesMut::new();
    while let Some(part) = answer.chunk().await.map_err(plain)? {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&part[..part.len().min(room)]);
        if body.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok((answer.status(), body.freeze()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
