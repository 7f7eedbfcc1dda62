//! The one way to answer with an error.

use ambidex_db::DbError;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::request_id::current_request_id;

/// An answer other than success: `{"error": message, "request_id": id}`, or an empty body where the
/// reference answers so.
#[derive(Debug)]
pub struct ApiError {
    /// The status of the answer.
    pub status: StatusCode,
    /// The text for the client; never a cause from inside the server.
    pub message: String,
    body: bool,
    headers: Box<HeaderMap>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    request_id: &'a str,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $status:ident;)*) => {
        $($(#[$doc])*
        pub fn $name(message: impl Into<String>) -> ApiError {
            ApiError::new(StatusCode::$status, message)
        })*
    };
}

impl ApiError {
    /// An error with the usual body.
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
            body: true,
            headers: Box::default(),
        }
    }

    /// An error without a body (the reference answers some 401 and 404 so).
    pub fn empty(status: StatusCode) -> ApiError {
        ApiError {
            body: false,
            ..ApiError::new(status, "")
        }
    }

    constructors! {
        /// 400
        bad_request => BAD_REQUEST;
        /// 401
        unauthorized => UNAUTHORIZED;
        /// 403
        forbidden => FORBIDDEN;
        /// 404
        not_found => NOT_FOUND;
        /// 405
        method_not_allowed => METHOD_NOT_ALLOWED;
        /// 409
        conflict => CONFLICT;
        /// 413
        too_large => PAYLOAD_TOO_LARGE;
        /// 422
        unprocessable => UNPROCESSABLE_ENTITY;
        /// 429
        too_many_requests => TOO_MANY_REQUESTS;
        /// 503: a dependency does not work at the moment.
        unavailable => SERVICE_UNAVAILABLE;
    }

    /// 429 with `Retry-After`.
    pub fn slow_down(retry_after_s: u64) -> ApiError {
        ApiError::too_many_requests("too many requests")
            .header(RETRY_AFTER, HeaderValue::from(retry_after_s))
    }

    /// 500 with the text `internal error`. The cause and its chain go to the log, here and only here.
    /// Two things that a database says are no mistake of this program: a value that it cannot store is 400,
    /// and 503 while it cannot be reached or has no space, so that clients try again later. An error of a
    /// service must name the [`DbError`] as its source for that: one that is `transparent` hides it.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ApiError {
        let cause = cause.into();
        let (mut chain, mut last, mut away) = (String::new(), String::new(), false);
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&*cause);
        while let Some(error) = next {
            match error.downcast_ref() {
                Some(DbError::Refused(text)) => return ApiError::bad_request(*text),
                Some(DbError::Unavailable(_) | DbError::Closed) => away = true,
                _ => {}
            }
            let text = error.to_string();
            if text != last {
                let separator = if chain.is_empty() { "" } else { ": " };
                chain.push_str(separator);
                chain.push_str(&text);
            }
            last = text;
            next = error.source();
        }
        tracing::error!(request_id = %current_request_id(), "internal error: {chain}");
        if away {
            return ApiError::unavailable(
                "the database cannot serve at the moment, try again later",
            );
        }
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> ApiError {
        self.headers.append(name, value);
        self
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> ApiError {
        ApiError::internal(error)
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = if self.body {
            let body = serde_json::to_vec(&Body {
                error: &self.message,
                request_id: &current_request_id(),
            })
            .unwrap_or_default();
            (
                self.status,
                [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                body,
            )
                .into_response()
        } else {
            self.status.into_response()
        };
        response.headers_mut().extend(*self.headers);
        response
    }
}
