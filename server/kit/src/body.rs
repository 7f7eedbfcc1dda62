//! Reading bodies and query strings.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserializer, Serialize};

use crate::ApiError;

/// Bodies of ordinary requests, in bytes (reference: common conventions). Uploads stream instead.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The whole body as received, at most [`BODY_BYTES_MAX`]; 413 beyond. Any content type.
#[derive(Debug, Clone)]
pub struct RawBody(pub Bytes, Media);

/// What a body claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    /// JSON, or nothing: many clients name no type.
    Json,
    /// A type that is no JSON.
    Other,
    /// Nothing that is a type at all.
    Malformed,
}

impl Media {
    /// Parameters, as `charset=utf-8`, do not matter; `application/merge-patch+json` is JSON too.
    fn of(headers: &HeaderMap) -> Media {
        let Some(value) = headers.get(CONTENT_TYPE) else {
            return Media::Json;
        };
        let Ok(value) = value.to_str() else {
            return Media::Malformed;
        };
        let media = value.split(';').next().unwrap_or_default().trim();
        match media.split_once('/') {
            _ if media.is_empty() => Media::Json,
            None | Some(("", _) | (_, "")) => Media::Malformed,
            Some((kind, form)) => {
                let form = form.to_ascii_lowercase();
                let json = form == "json" || form.ends_with("+json");
                if kind.eq_ignore_ascii_case("application") && json {
                    Media::Json
                } else {
                    Media::Other
                }
            }
        }
    }
}

impl RawBody {
    /// Parses the body; 400 `<prefix>: <reason>` when it is not what `T` wants, 415 when it claims to be
    /// something else than JSON.
    ///
    /// # Errors
    /// As [`decode_json`] and [`RawBody::expect_json`].
    pub fn json<T: DeserializeOwned>(&self, prefix: &str) -> Result<T, ApiError> {
        self.expect_json()?;
        decode_json(&self.0, prefix)
    }

    /// Refuses a body that says it is no JSON (reference: common conventions, C11). An empty one may be
    /// called anything.
    ///
    /// # Errors
    /// [`ApiError`] 415, or 400 when the header is no content type.
    pub fn expect_json(&self) -> Result<(), ApiError> {
        match self.1 {
            _ if self.0.is_empty() => Ok(()),
            Media::Json => Ok(()),
            Media::Other => Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Bad Content-Type, expected 'application/json'",
            )),
            Media::Malformed => Err(ApiError::bad_request("malformed Content-Type header")),
        }
    }
}

impl<S: Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<RawBody, ApiError> {
        let too_large = || {
            ApiError::too_large(format!(
                "request body is larger than {BODY_BYTES_MAX} bytes"
            ))
        };
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let media = Media::of(request.headers());
        match Limited::new(request.into_body(), BODY_BYTES_MAX)
            .collect()
            .await
        {
            Ok(body) => Ok(RawBody(body.to_bytes(), media)),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => Err(ApiError::bad_request(format!(
                "failed to read request body: {error}"
            ))),
        }
    }
}

/// Parses JSON; 400 `<prefix>: <reason>` on failure.
///
/// # Errors
/// [`ApiError`] 400.
pub fn decode_json<T: DeserializeOwned>(bytes: &[u8], prefix: &str) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    T::deserialize(Named(&mut deserializer))
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|e| ApiError::bad_request(format!("{prefix}: {e}")))
}

/// Takes a structure from an object only: left alone, a body `["a", "b"]` would fill the fields by their
/// position.
struct Named<D>(D);

macro_rules! pass_on {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($argument,)* visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Named<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    pass_on! {
        deserialize_any();
        deserialize_option();
        deserialize_newtype_struct(name: &'static str);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// A JSON body, in both directions. As an extractor it answers 400 `failed to decode request body: …`; use
/// [`RawBody::json`] where the reference has another text.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>, ApiError> {
        RawBody::from_request(request, state)
            .await?
            .json("failed to decode request body")
            .map(Json)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => (
                [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                body,
            )
                .into_response(),
            Err(error) => ApiError::internal(error).into_response(),
        }
    }
}

/// The query string as decoded pairs in their order, keys possibly repeated.
#[derive(Debug, Clone, Default)]
pub struct QueryPairs(pub Vec<(String, String)>);

impl QueryPairs {
    /// The first value of `key`.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// All values of `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

impl<S: Sync> FromRequestParts<S> for QueryPairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<QueryPairs, ApiError> {
        query_pairs(&parts.uri)
    }
}

pub(crate) fn query_pairs(uri: &http::Uri) -> Result<QueryPairs, ApiError> {
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|query| QueryPairs(query.0))
        .map_err(|_| ApiError::bad_request("invalid query string"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Thing {
        #[serde(default)]
        a: String,
        #[serde(default)]
        b: Option<u32>,
    }

    #[test]
    fn bodies_that_claim_to_be_something_else_are_refused() {
        let status = |content_type: Option<&[u8]>, body: &'static str| {
            let mut headers = HeaderMap::new();
            if let Some(value) = content_type {
                headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(value).unwrap());
            }
            let body = RawBody(Bytes::from_static(body.as_bytes()), Media::of(&headers));
            let result = body.json::<serde_json::Value>("x");
            result.map_or_else(|error| error.status.as_u16(), |_| 200)
        };
        for (content_type, expected) in [
            ("application/json", 200),
            ("Application/JSON; charset=utf-8", 200),
            ("application/merge-patch+json", 200),
            ("", 200),
            ("text/plain", 415),
            ("text/json", 415),
            ("application/x-www-form-urlencoded", 415),
            ("application/jsonx", 415),
            ("json", 400),
            ("/json", 400),
            ("application/", 400),
        ] {
            let got = status(Some(content_type.as_bytes()), "{}");
            assert_eq!(got, expected, "{content_type}");
        }
        assert_eq!(status(None, "{}"), 200, "many clients name no type");
        assert_eq!(status(Some(b"\xff"), "{}"), 400);
        assert_eq!(
            status(Some(b"text/plain"), ""),
            400,
            "empty, whatever it is called"
        );
    }

    #[test]
    fn structures_come_from_objects_only() {
        let thing = |a: &str, b| Some(Thing { a: a.to_owned(), b });
        for (text, wanted) in [
            (r#"{"a":"x","b":1}"#, thing("x", Some(1))),
            (" {} ", thing("", None)),
            (r#"{"a":"x","c":[]}"#, thing("x", None)),
            (r#"["x",1]"#, None),
            ("[]", None),
            ("{} {}", None),
            ("", None),
            ("null", None),
        ] {
            assert_eq!(
                decode_json::<Thing>(text.as_bytes(), "x").ok(),
                wanted,
                "{text}"
            );
        }
        let many = decode_json::<Vec<Thing>>(b"[{},{\"b\":2}]", "x").unwrap_or_default();
        assert_eq!(many.len(), 2);
        let any = decode_json::<serde_json::Value>(b"[1,{\"a\":null}]", "x").ok();
        assert_eq!(any, Some(serde_json::json!([1, {"a": null}])));
        let text = decode_json::<Thing>(b"{\"b\":-1}", "bad body")
            .unwrap_err()
            .message;
        assert!(text.starts_with("bad body: invalid value"), "{text}");
        assert_eq!(decode_json::<Option<Thing>>(b"null", "x").ok(), Some(None));
    }
}
