//! What every request passes on its way in and every answer on its way out.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue,
    ORIGIN, PRAGMA, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use tower::Service;
use tower::layer::layer_fn;

use crate::leftover::Leftover;
use crate::request_id::{self, CONTEXT, Context, REQUEST_ID_HEADER};
use crate::{ApiError, Peer, metrics};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Allow, Content-Type, Origin, Authorization, Accept-Encoding, If-Match, X-MEN-RequestID, X-MEN-Signature",
);
const EXPOSED_HEADERS: HeaderValue =
    HeaderValue::from_static("Location, Link, X-Total-Count, ETag, X-MEN-RequestID");
const RBAC_PREFIX: &str = "x-men-rbac-";
/// Longest text that is taken over from a framework's rejection into an error body, in bytes.
const REJECTION_BYTES_MAX: usize = 4096;

/// Dresses the routes of one listener: request ids, panics and foreign errors turned into the usual
/// error body, 404 and 405 texts, `OPTIONS`, CORS and security headers. The routers that are merged
/// into `routes` must not bring a fallback of their own.
pub fn front(routes: Router) -> Router {
    let routes = routes
        .layer(layer_fn(NoteRoute))
        .fallback(|| async { ApiError::not_found("not found") });
    // Around the router, not inside of it: the router adds the list of allowed methods on its way out.
    Router::new().fallback_service(routes).layer(from_fn(pass))
}

/// Remembers which route a request took, for its log line and the metrics.
#[derive(Clone)]
struct NoteRoute<S>(S);

impl<S: Service<Request>> Service<Request> for NoteRoute<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        if let Some(route) = request.extensions().get::<MatchedPath>() {
            let _ = CONTEXT.try_with(|context| context.route.set(route.clone()));
        }
        self.0.call(request)
    }
}

/// Whether requests are logged for everybody to see, or at debug level only.
static ACCESS_LOG: AtomicBool = AtomicBool::new(false);

/// Logs one line a request at level info (`true`) or debug (`false`, the default).
pub fn access_log(on: bool) {
    ACCESS_LOG.store(on, Ordering::Relaxed);
}

async fn pass(mut request: Request, next: Next) -> Response {
    let in_flight = metrics::IN_FLIGHT.up();
    let id = request_id::choose(request.headers());
    // These headers carry verdicts between services; a client has no business sending them.
    let forged: Vec<HeaderName> = request
        .headers()
        .keys()
        .filter(|name| name.as_str().starts_with(RBAC_PREFIX))
        .cloned()
        .collect();
    for name in forged {
        request.headers_mut().remove(name);
    }
    let method = request.method().clone();
    let uri = request.uri().clone();
    let preflight = request
        .headers()
        .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let origin = request.headers().get(ORIGIN).cloned();
    let tls = request.extensions().get::<Peer>().is_some_and(|p| p.tls);
    let started = Instant::now();
    let leftover = Leftover::watch(&mut request);

    let (mut response, route, tenant) = CONTEXT
        .scope(Context::new(id.clone()), async {
            let answer = async {
                // No name or id has one, and no engine can look for it.
                if uri.path().contains("%00") {
                    let refused = ApiError::bad_request("the path contains a NUL character");
                    return refused.into_response();
                }
                next.run(request).await
            };
            let response = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(response) if method == Method::OPTIONS => options(response),
                Ok(response) => as_api_error(response).await,
                Err(panic) => {
                    let text = panic
                        .downcast_ref::<&str>()
                        .map(|s| (*s).to_owned())
                        .or_else(|| panic.downcast_ref::<String>().cloned())
                        .unwrap_or_default();
                    ApiError::internal(format!(
                        "handler of {method} {} panicked: {text}",
                        uri.path()
                    ))
                    .into_response()
                }
            };
            let (route, tenant) = CONTEXT.with(|context| {
                let tenant = context.tenant.get().cloned();
                (context.route.get().cloned(), tenant)
            });
            (response, route, tenant)
        })
        .await;
    if let Some(leftover) = leftover {
        leftover.drain().await;
    }
    drop(in_flight);

    let took = started.elapsed();
    let status = response.status().as_u16();
    let route = route.as_ref().map(MatchedPath::as_str);
    metrics::answered(route, &method, status, took);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    // The query stays out of the log: it may hold a signature or a search for something private.
    if ACCESS_LOG.load(Ordering::Relaxed) {
        tracing::info!(request_id = %id, tenant, status, micros, "{method} {}", uri.path());
    } else {
        tracing::debug!(request_id = %id, tenant, status, micros, "{method} {}", uri.path());
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID_HEADER, value);
    }
    security(headers, tls);
    if let Some(origin) = origin {
        cors(headers, origin, method == Method::OPTIONS && preflight);
    }
    response
}

/// Every route answers `OPTIONS` with the methods it knows, one `Allow` header each.
fn options(response: Response) -> Response {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let mut answer = StatusCode::OK.into_response();
    let known: Vec<String> = response
        .headers()
        .get_all(ALLOW)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|method| method.trim().to_owned())
        .filter(|method| !method.is_empty())
        .chain(["OPTIONS".to_owned()])
        .collect();
    for method in known {
        if let Ok(value) = HeaderValue::from_str(&method) {
            answer.headers_mut().append(ALLOW, value);
        }
    }
    answer
}

/// Errors that the framework made itself (wrong method, unreadable path or query) get the usual body.
async fn as_api_error(response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let content_type = response.headers().get(CONTENT_TYPE);
    if status == StatusCode::METHOD_NOT_ALLOWED && content_type.is_none() {
        let mut answer = ApiError::method_not_allowed("method not allowed").into_response();
        if let Some(allow) = response.headers().get(ALLOW) {
            answer.headers_mut().insert(ALLOW, allow.clone());
        }
        return answer;
    }
    if !content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/plain")) {
        return response;
    }
    let text = Limited::new(response.into_body(), REJECTION_BYTES_MAX)
        .collect()
        .await
        .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
        .unwrap_or_default();
    ApiError::new(status, text).into_response()
}

fn security(headers: &mut HeaderMap<HeaderValue>, tls: bool) {
    if tls {
        headers.insert(
            STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=63072000"),
        );
    }
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_XSS_PROTECTION, HeaderValue::from_static("1; mode=block"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static("no-cache, no-store"),
        );
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    }
}

/// Any origin may call with a token in a header. Cookies of another origin are refused where tokens are
/// read, so echoing the origin gives a foreign page nothing.
fn cors(headers: &mut HeaderMap<HeaderValue>, origin: HeaderValue, preflight: bool) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if preflight {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("60"));
    } else {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use crate::Json;
    use axum::body::Body;
    use axum::extract::Path;
    use axum::routing::get;
    use tower::ServiceExt as _;

    fn app() -> Router {
        front(
            Router::new()
                .route("/ok", get(|| async { Json(1) }).put(|| async {}))
                .route(
                    "/empty",
                    get(|| async { ApiError::empty(StatusCode::NOT_FOUND) }),
                )
                .route(
                    "/panic",
                    get(|| async {
                        if true {
                            panic!("secret")
                        }
                    }),
                )
                .route(
                    "/n/{n}",
                    get(|Path(n): Path<u32>| async move { n.to_string() }),
                ),
        )
    }

    async fn call(request: http::request::Builder) -> (StatusCode, HeaderMap, String) {
        let response = app()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            parts.status,
            parts.headers,
            String::from_utf8(bytes.to_vec()).unwrap(),
        )
    }

    fn request(method: &str, path: &str) -> http::request::Builder {
        http::Request::builder()
            .method(method)
            .uri(path)
            .header("x-men-requestid", "abc")
    }

    #[tokio::test]
    async fn errors_have_the_usual_body() {
        for (method, path, status, body) in [
            (
                "GET",
                "/nowhere",
                404,
                r#"{"error":"not found","request_id":"abc"}"#,
            ),
            (
                "POST",
                "/ok",
                405,
                r#"{"error":"method not allowed","request_id":"abc"}"#,
            ),
            (
                "GET",
                "/panic",
                500,
                r#"{"error":"internal error","request_id":"abc"}"#,
            ),
            ("GET", "/empty", 404, ""),
        ] {
            let (got, headers, text) = call(request(method, path)).await;
            assert_eq!(
                (got.as_u16(), text.as_str()),
                (status, body),
                "{method} {path}"
            );
            assert_eq!(headers["x-men-requestid"], "abc");
        }
        let (status, headers, text) = call(request("GET", "/n/x")).await;
        assert_eq!(status, 400);
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert!(text.starts_with(r#"{"error":"Invalid URL"#), "{text}");
    }

    #[tokio::test]
    async fn request_ids_are_made_when_missing_or_unfit() {
        for id in ["", "with space", &"x".repeat(129)] {
            let request = http::Request::get("/ok").header("x-men-requestid", id);
            let (_, headers, _) = call(request).await;
            let made = headers["x-men-requestid"].to_str().unwrap();
            assert!(uuid::Uuid::parse_str(made).is_ok(), "{made}");
        }
    }

    #[tokio::test]
    async fn options_head_and_headers() {
        let preflight = request("OPTIONS", "/ok")
            .header("origin", "https://ui.example")
            .header("access-control-request-method", "PATCH");
        let (status, headers, _) = call(preflight).await;
        assert_eq!(status, 200);
        let allow: Vec<_> = headers.get_all(ALLOW).iter().collect();
        assert_eq!(allow, ["GET", "HEAD", "PUT", "OPTIONS"]);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://ui.example");
        assert!(
            headers[ACCESS_CONTROL_ALLOW_METHODS]
                .to_str()
                .unwrap()
                .contains("PATCH")
        );

        let (status, headers, text) = call(request("HEAD", "/ok")).await;
        assert_eq!((status.as_u16(), text.as_str()), (200, ""));
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[CACHE_CONTROL], "no-cache, no-store");
        assert!(
            !headers.contains_key(STRICT_TRANSPORT_SECURITY),
            "plain http"
        );
        assert_eq!(call(request("OPTIONS", "/nowhere")).await.0, 404);
    }
}
