//! Attributes: their values, and the strict reading of what devices and services send.
//!
//! Rules: reference section 3.1. Values are text, numbers, or lists of only one of the two.

use ambidex_wire::inventory::AttributeValue;
use serde_json::{Number, Value};

use super::scope::Scope;

/// Longest name, in bytes (reference section 3.1).
pub const NAME_BYTES_MAX: usize = 1024;
/// Longest description, in bytes: a sentence for people, shown in lists.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;
/// Attributes that a device may have in scope `inventory`: deployed inventory scripts send some tens; one message is
/// bounded by its size, the sum of many messages by this.
pub const INVENTORY_ATTRIBUTES_MAX: usize = 1000;
/// Tags that a device may have (reference section 3.1).
pub const TAGS_MAX: usize = 20;

/// An attribute as it arrives: its scope is decided by the operation.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAttribute {
    pub name: String,
    pub value: AttributeValue,
    pub description: Option<String>,
    /// The scope named in the body, if any.
    pub scope: Option<String>,
}

/// Why an attribute is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AttributeError {
    #[error("attributes must be a JSON array")]
    NotAList,
    #[error("an attribute must be a JSON object")]
    NotAnObject,
    #[error("name: cannot be blank.")]
    NameBlank,
    #[error("name: the length must be between 1 and {NAME_BYTES_MAX}.")]
    NameTooLong,
    #[error("{0}: must be a string.")]
    NotText(&'static str),
    #[error("description: the length must be no more than {DESCRIPTION_BYTES_MAX}.")]
    DescriptionTooLong,
    #[error("value: supported types are string, float64, and arrays thereof.")]
    ValueType,
    #[error("array values must be either string or float64, not: {0}")]
    ElementType(&'static str),
    #[error("array values must be of consistent type: string or float64")]
    MixedElements,
    #[error("scope: must be one of system, identity, inventory, monitor, tags.")]
    Scope,
}

/// Reads a list of attributes.
pub fn read_attributes(body: &Value) -> Result<Vec<NewAttribute>, AttributeError> {
    body.as_array()
        .ok_or(AttributeError::NotAList)?
        .iter()
        .map(read_attribute)
        .collect()
}

fn read_attribute(item: &Value) -> Result<NewAttribute, AttributeError> {
    let object = item.as_object().ok_or(AttributeError::NotAnObject)?;
    let text = |name: &'static str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(AttributeError::NotText(name)),
    };
    let name = text("name")?
        .filter(|name| !name.is_empty())
        .ok_or(AttributeError::NameBlank)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(AttributeError::NameTooLong);
    }
    let description = text("description")?.filter(|description| !description.is_empty());
    if description
        .as_ref()
        .is_some_and(|description| description.len() > DESCRIPTION_BYTES_MAX)
    {
        return Err(AttributeError::DescriptionTooLong);
    }
    let scope = text("scope")?.filter(|scope| !scope.is_empty());
    let value = read_value(object.get("value").unwrap_or(&Value::Null))?;
    Ok(NewAttribute {
        name,
        value,
        description,
        scope,
    })
}

/// Reads one value.
pub fn read_value(value: &Value) -> Result<AttributeValue, AttributeError> {
    match value {
        Value::String(text) => Ok(AttributeValue::Text(text.clone())),
        Value::Number(number) => Ok(AttributeValue::Number(plain(number))),
        Value::Array(items) => read_list(items),
        Value::Null | Value::Bool(_) | Value::Object(_) => Err(AttributeError::ValueType),
    }
}

fn read_list(items: &[Value]) -> Result<AttributeValue, AttributeError> {
    let mut texts = Vec::new();
    let mut numbers = Vec::new();
    for item in items {
        match item {
            Value::String(text) => texts.push(text.clone()),
            Value::Number(number) => numbers.push(plain(number)),
            Value::Null => return Err(AttributeError::ElementType("null")),
            Value::Bool(_) => return Err(AttributeError::ElementType("bool")),
            Value::Array(_) => return Err(AttributeError::ElementType("array")),
            Value::Object(_) => return Err(AttributeError::ElementType("object")),
        }
    }
    match (texts.is_empty(), numbers.is_empty()) {
        (false, false) => Err(AttributeError::MixedElements),
        (true, false) => Ok(AttributeValue::Numbers(numbers)),
        _ => Ok(AttributeValue::Texts(texts)),
    }
}

/// Whole numbers lose their fraction of zero (`5.0` is shown as `5`), as long as that loses no digit.
fn plain(number: &Number) -> Number {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT_MAX => {
            Number::from(float as i64)
        }
        _ => number.clone(),
    }
}

/// Identity data may hold any JSON; what is no attribute value is shown as its text. `None` for null.
pub fn identity_value(value: &Value) -> Option<AttributeValue> {
    match value {
        Value::Null => None,
        value => {
            Some(read_value(value).unwrap_or_else(|_| AttributeValue::Text(value.to_string())))
        }
    }
}

/// The scope of an attribute where the body may name it: `inventory` unless told.
pub fn named_scope(attribute: &NewAttribute) -> Result<Scope, AttributeError> {
    match &attribute.scope {
        None => Ok(Scope::Inventory),
        Some(text) => Scope::parse(text).ok_or(AttributeError::Scope),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_four_kinds_of_values_are_read() {
        assert_eq!(
            read_value(&json!("a")).unwrap(),
            AttributeValue::Text("a".into())
        );
        assert_eq!(
            read_value(&json!(5.0)).unwrap(),
            AttributeValue::Number(5.into())
        );
        assert_eq!(
            read_value(&json!(["a", ""])).unwrap(),
            AttributeValue::Texts(vec!["a".into(), String::new()])
        );
        assert_eq!(
            read_value(&json!([1, 2])).unwrap(),
            AttributeValue::Numbers(vec![1.into(), 2.into()])
        );
        assert_eq!(
            read_value(&json!([])).unwrap(),
            AttributeValue::Texts(vec![])
        );
        assert_eq!(
            serde_json::to_string(&read_value(&json!(1.5)).unwrap()).unwrap(),
            "1.5"
        );
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        for (value, error) in [
            (json!(true), AttributeError::ValueType),
            (json!(null), AttributeError::ValueType),
            (json!({}), AttributeError::ValueType),
            (json!(["a", 1]), AttributeError::MixedElements),
            (json!([true]), AttributeError::ElementType("bool")),
            (json!([["a"]]), AttributeError::ElementType("array")),
        ] {
            assert_eq!(read_value(&value), Err(error), "{value}");
        }
    }

    #[test]
    fn attributes_need_a_name_and_a_value() {
        let check = |value: Value, error: AttributeError| {
            assert_eq!(read_attributes(&value), Err(error), "{value}")
        };
        check(json!({}), AttributeError::NotAList);
        check(json!(["a"]), AttributeError::NotAnObject);
        check(json!([{"value": 1}]), AttributeError::NameBlank);
        check(json!([{"name": "", "value": 1}]), AttributeError::NameBlank);
        check(
            json!([{"name": 5, "value": 1}]),
            AttributeError::NotText("name"),
        );
        check(json!([{"name": "a"}]), AttributeError::ValueType);
        check(
            json!([{"name": "a".repeat(NAME_BYTES_MAX + 1), "value": 1}]),
            AttributeError::NameTooLong,
        );
        assert!(
            read_attributes(&json!([{"name": "a".repeat(NAME_BYTES_MAX), "value": 1}])).is_ok()
        );
        check(
            json!([{"name": "a", "value": 1, "description": "d".repeat(DESCRIPTION_BYTES_MAX + 1)}]),
            AttributeError::DescriptionTooLong,
        );
    }

    #[test]
    fn identity_data_of_any_kind_can_be_shown() {
        assert_eq!(identity_value(&json!(null)), None);
        assert_eq!(
            identity_value(&json!(true)),
            Some(AttributeValue::Text("true".into()))
        );
        assert_eq!(
            identity_value(&json!({"a": 1})),
            Some(AttributeValue::Text("{\"a\":1}".into()))
        );
    }
}
