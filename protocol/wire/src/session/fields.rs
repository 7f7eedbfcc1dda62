//! Reading and writing structured bodies: maps of named fields.

use super::{SessionError, Value};

/// The fields of a body.
pub(super) struct Fields(Value);

impl Fields {
    pub(super) fn read(body: &[u8]) -> Result<Fields, SessionError> {
        match Value::decode(body)? {
            map @ Value::Map(_) => Ok(Fields(map)),
            _ => Err(SessionError::Malformed("a body that is no map")),
        }
    }

    /// A missing field and nil are the same.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| **value != Value::Nil)
    }

    /// An optional field, which must be of the right kind if it is there.
    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, SessionError> {
        self.get(name)
            .map(|value| read(value).ok_or(SessionError::Field(name)))
            .transpose()
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, SessionError> {
        self.optional(name, |value| value.as_text().map(str::to_owned))
    }

    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, SessionError> {
        self.optional(name, |value| {
            value.as_u64().and_then(|n| T::try_from(n).ok())
        })
    }

    pub(super) fn numbers<T: TryFrom<u64>>(
        &self,
        name: &'static str,
    ) -> Result<Option<Vec<T>>, SessionError> {
        self.optional(name, |value| match value {
            Value::List(list) => list
                .iter()
                .map(|n| n.as_u64().and_then(|n| T::try_from(n).ok()))
                .collect(),
            _ => None,
        })
    }
}

/// Collects the fields that are there and writes them.
#[derive(Default)]
pub(super) struct Body(Vec<(String, Value)>);

impl Body {
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Body {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Body {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        Value::Map(self.0).encode()
    }
}

pub(super) fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::List(items.into_iter().map(Into::into).collect())
}
