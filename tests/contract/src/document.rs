//! The served document, as a list of operations with checks of their answers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

/// Where an operation is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listener {
    Public,
    Internal,
}

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Everybody who reaches the listener.
    Open,
    User,
    Device,
    /// Basic authentication: the login.
    Password,
}

/// One method of one path.
#[derive(Debug, Clone)]
pub struct Operation {
    pub name: String,
    /// Its number in the specification, if it stands there.
    pub number: Option<String>,
    pub method: String,
    pub path: String,
    pub listener: Listener,
    pub guard: Guard,
    /// The statuses that are documented one by one.
    pub statuses: BTreeSet<u16>,
    source: Value,
}

/// Both listeners' documents.
#[derive(Debug)]
pub struct Document {
    operations: BTreeMap<String, Operation>,
    public: Value,
    internal: Value,
}

impl Operation {
    /// Whether it takes this query parameter.
    pub fn takes(&self, parameter: &str) -> bool {
        let shared = format!("#/components/parameters/{parameter}");
        let list = self.source["parameters"].as_array();
        list.is_some_and(|list| {
            list.iter()
                .any(|one| one["name"] == parameter || one["$ref"] == *shared)
        })
    }

    /// Whether its body is JSON and nothing else.
    pub fn takes_json_only(&self) -> bool {
        let content = self.source["requestBody"]["content"].as_object();
        content.is_some_and(|content| content.keys().all(|media| media == "application/json"))
    }

    /// The schema of its JSON body, by name.
    pub fn body_schema(&self) -> Option<&str> {
        let schema = &self.source["requestBody"]["content"]["application/json"]["schema"];
        schema["$ref"].as_str()?.rsplit('/').next()
    }
}

impl Document {
    /// Takes the documents that the two listeners serve.
    ///
    /// # Errors
    /// When one of them lacks what a document must have.
    pub fn new(public: Value, internal: Value) -> Result<Document> {
        let mut operations = BTreeMap::new();
        for (listener, document) in [(Listener::Public, &public), (Listener::Internal, &internal)] {
            let paths = document["paths"].as_object().context("no paths")?;
            for (path, item) in paths {
                for (method, source) in item.as_object().context("a path is not an object")? {
                    let operation = operation(listener, path, method, source)
                        .with_context(|| format!("{method} {path}"))?;
                    operations.insert(operation.name.clone(), operation);
                }
            }
        }
        Ok(Document {
            operations,
            public,
            internal,
        })
    }

    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values()
    }

    /// The operation with this `operationId`.
    ///
    /// # Errors
    /// When there is none.
    pub fn operation(&self, name: &str) -> Result<&Operation> {
        self.operations
            .get(name)
            .ok_or_else(|| anyhow!("the document has no operation {name}"))
    }

    /// Whether an answer is one that the document promises.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(
        &self,
        operation: &Operation,
        status: u16,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<()> {
        if status >= 500 {
            bail!("{status} means that the server failed: {}", text(body));
        }
        let document = match operation.listener {
            Listener::Public => &self.public,
            Listener::Internal => &self.internal,
        };
        let responses = &operation.source["responses"];
        // What any operation may answer (a malformed body, a limit, a missing right) is told by `default`.
        let general = (400..500).contains(&status).then(|| &responses["default"]);
        let Some(response) = responses.get(status.to_string()).or(general) else {
            bail!("the status {status} is not documented: {}", text(body));
        };
        let response = resolve(document, response)?;
        let Some(content) = response["content"].as_object() else {
            if !body.is_empty() {
                bail!("{status} is documented without a body: {}", text(body));
            }
            return Ok(());
        };
        let media = content_type.unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        // The reference answers a few 404 without a body.
        if body.is_empty() && (status == 404 || status == 401) {
            return Ok(());
        }
        let described = content
            .get(media)
            .with_context(|| format!("{status} has the content type {media:?}: {}", text(body)))?;
        if media != "application/json" {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(body)
            .with_context(|| format!("{status} is not JSON: {}", text(body)))?;
        validate(document, &described["schema"], &value)
            .with_context(|| format!("{status}: {}", text(body)))
    }
}

fn operation(listener: Listener, path: &str, method: &str, source: &Value) -> Result<Operation> {
    let guard = match source.get("security") {
        None => Guard::Open,
        Some(list) => match list.get(0).and_then(Value::as_object) {
            None => Guard::Open,
            Some(scheme) if scheme.contains_key("user") => Guard::User,
            Some(scheme) if scheme.contains_key("device") => Guard::Device,
            Some(scheme) if scheme.contains_key("password") => Guard::Password,
            Some(other) => bail!("unknown security scheme {other:?}"),
        },
    };
    let responses = source["responses"].as_object().context("no responses")?;
    Ok(Operation {
        name: source["operationId"]
            .as_str()
            .context("no operationId")?
            .to_owned(),
        number: source["x-operation"].as_str().map(str::to_owned),
        method: method.to_uppercase(),
        path: path.to_owned(),
        listener,
        guard,
        statuses: responses
            .keys()
            .filter_map(|status| status.parse().ok())
            .collect(),
        source: source.clone(),
    })
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> Result<&'a Value> {
    match value["$ref"].as_str() {
        None => Ok(value),
        Some(target) => document
            .pointer(target.trim_start_matches('#'))
            .with_context(|| format!("{target} is not defined")),
    }
}

fn validate(document: &Value, schema: &Value, value: &Value) -> Result<()> {
    let mut root = schema.clone();
    if let Some(object) = root.as_object_mut() {
        object.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        object.insert("components".to_owned(), document["components"].clone());
    }
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&root)
        .map_err(|error| anyhow!("the schema cannot be used: {error}"))?;
    match validator.validate(value) {
        Ok(()) => Ok(()),
        Err(error) => bail!("at {}: {error}", error.instance_path()),
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(600)]).into_owned()
}
