//! Inventory attributes as devices send them.

use serde::{Deserialize, Serialize};

/// One attribute of `PUT`/`PATCH /api/devices/v1/inventory/device/attributes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: String,
    pub value: AttributeValue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Text, number, or a list of only texts or only numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    Text(String),
    Number(serde_json::Number),
    Texts(Vec<String>),
    Numbers(Vec<serde_json::Number>),
}
