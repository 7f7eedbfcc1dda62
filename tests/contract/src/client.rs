//! One call of one documented operation.

use reqwest::header::HeaderMap;
use serde_json::Value;

/// What is sent.
#[derive(Debug)]
pub enum Body {
    None,
    Json(Value),
    Raw(&'static str, Vec<u8>),
    Form(reqwest::multipart::Form),
}

/// A call, built step by step: `Call::new("devauth_get_device").at("id", id).by(&token)`.
#[derive(Debug)]
pub struct Call {
    pub(crate) operation: String,
    pub(crate) path: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) token: Option<String>,
    pub(crate) basic: Option<(String, String)>,
    pub(crate) body: Body,
}

impl Call {
    /// Of the operation with this `operationId`.
    pub fn new(operation: &str) -> Call {
        Call {
            operation: operation.to_owned(),
            path: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            token: None,
            basic: None,
            body: Body::None,
        }
    }

    /// A segment of the path.
    #[must_use]
    pub fn at(mut self, name: &str, value: impl ToString) -> Call {
        self.path.push((name.to_owned(), value.to_string()));
        self
    }

    /// A query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl ToString) -> Call {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    /// A header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Call {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// With this bearer token.
    #[must_use]
    pub fn by(mut self, token: &str) -> Call {
        self.token = Some(token.to_owned());
        self
    }

    /// With name and password.
    #[must_use]
    pub fn basic(mut self, name: &str, password: &str) -> Call {
        self.basic = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(mut self, body: Value) -> Call {
        self.body = Body::Json(body);
        self
    }

    /// With these bytes.
    #[must_use]
    pub fn raw(mut self, content_type: &'static str, body: impl Into<Vec<u8>>) -> Call {
        self.body = Body::Raw(content_type, body.into());
        self
    }

    /// With a multipart form.
    #[must_use]
    pub fn form(mut self, form: reqwest::multipart::Form) -> Call {
        self.body = Body::Form(form);
        self
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The last segment of the `Location` header.
    pub fn created(&self) -> String {
        let location = self.headers.get("location");
        let location = location.and_then(|value| value.to_str().ok());
        let location = location.unwrap_or_default();
        location.rsplit('/').next().unwrap_or_default().to_owned()
    }
}
