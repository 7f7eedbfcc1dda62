use crate::DbError;

/// A parameter or a column of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// Integers and booleans (0 and 1).
    Int(i64),
    /// Floating point.
    Real(f64),
    /// Text: strings, ids, JSON.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Int(_) => "integer",
            Value::Real(_) => "real",
            Value::Text(_) => "text",
            Value::Blob(_) => "bytes",
        }
    }
}

/// Builds the parameters of a statement: `params![tenant, id, now_ms]`.
#[macro_export]
macro_rules! params {
    () => { ::std::vec::Vec::<$crate::Value>::new() };
    ($($value:expr),+ $(,)?) => { ::std::vec![$($crate::Value::from($value)),+] };
}

macro_rules! value_from {
    ($($from:ty => |$v:ident| $make:expr;)*) => {
        $(impl From<$from> for Value { fn from($v: $from) -> Value { $make } })*
    };
}

value_from! {
    &str => |v| Value::Text(v.to_owned());
    String => |v| Value::Text(v);
    &String => |v| Value::Text(v.clone());
    std::borrow::Cow<'_, str> => |v| Value::Text(v.into_owned());
    i64 => |v| Value::Int(v);
    i32 => |v| Value::Int(i64::from(v));
    u32 => |v| Value::Int(i64::from(v));
    u16 => |v| Value::Int(i64::from(v));
    u8 => |v| Value::Int(i64::from(v));
    bool => |v| Value::Int(i64::from(v));
    f64 => |v| Value::Real(v);
    Vec<u8> => |v| Value::Blob(v);
    &[u8] => |v| Value::Blob(v.to_vec());
}

/// Both engines store signed 64-bit integers: larger numbers become the largest one.
impl From<u64> for Value {
    fn from(v: u64) -> Value {
        Value::Int(i64::try_from(v).unwrap_or(i64::MAX))
    }
}

/// Both engines store signed 64-bit integers: larger numbers become the largest one.
impl From<usize> for Value {
    fn from(v: usize) -> Value {
        Value::Int(i64::try_from(v).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Value {
        v.map_or(Value::Null, Into::into)
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(v) => ValueRef::Integer(*v),
            Value::Real(v) => ValueRef::Real(*v),
            Value::Text(v) => ValueRef::Text(v.as_bytes()),
            Value::Blob(v) => ValueRef::Blob(v),
        }))
    }
}

/// PostgreSQL cannot store a NUL character in text, so neither engine takes one.
pub(crate) fn check_text(params: &[Value]) -> Result<(), DbError> {
    let refused = params
        .iter()
        .any(|value| matches!(value, Value::Text(text) if text.as_bytes().contains(&0)));
    if refused {
        return Err(DbError::Refused("a text contains a NUL character"));
    }
    Ok(())
}

/// A type that a column can be read as.
pub trait FromValue: Sized {
    /// What the type wants, for error texts.
    const WANTED: &'static str;
    /// `None` when the value is of another kind.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($to:ty, $wanted:literal, $($pattern:pat => $make:expr),+;)*) => {
        $(impl FromValue for $to {
            const WANTED: &'static str = $wanted;
            fn from_value(value: &Value) -> Option<Self> {
                match value { $($pattern => $make,)+ _ => None }
            }
        })*
    };
}

from_value! {
    i64, "integer", Value::Int(v) => Some(*v);
    u64, "integer of at least 0", Value::Int(v) => u64::try_from(*v).ok();
    u32, "integer from 0 to 4294967295", Value::Int(v) => u32::try_from(*v).ok();
    i32, "integer of 32 bits", Value::Int(v) => i32::try_from(*v).ok();
    bool, "integer 0 or 1", Value::Int(0) => Some(false), Value::Int(1) => Some(true);
    f64, "real", Value::Real(v) => Some(*v), Value::Int(v) => Some(*v as f64);
    String, "text", Value::Text(v) => Some(v.clone());
    Vec<u8>, "bytes", Value::Blob(v) => Some(v.clone());
}

impl FromValue for Value {
    const WANTED: &'static str = "anything";
    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const WANTED: &'static str = T::WANTED;
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// One row of a result, owned.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// Reads column `index` (from 0).
    ///
    /// # Errors
    /// [`DbError::Other`] when there is no such column or it is of another kind.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T, DbError> {
        let value = self.0.get(index).ok_or_else(|| {
            DbError::Other(format!(
                "column {index} of a row of {} columns",
                self.0.len()
            ))
        })?;
        T::from_value(value).ok_or_else(|| {
            DbError::Other(format!(
                "column {index} is {}, wanted {}",
                value.kind(),
                T::WANTED
            ))
        })
    }

    /// Borrows a text column without copying it.
    ///
    /// # Errors
    /// As [`Row::get`].
    pub fn text(&self, index: usize) -> Result<&str, DbError> {
        match self.0.get(index) {
            Some(Value::Text(text)) => Ok(text),
            Some(other) => Err(DbError::Other(format!(
                "column {index} is {}, wanted text",
                other.kind()
            ))),
            None => Err(DbError::Other(format!(
                "column {index} of a row of {} columns",
                self.0.len()
            ))),
        }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the row has no column.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
