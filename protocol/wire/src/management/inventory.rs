//! Bodies of the inventory management API (`/api/management/{v1,v2}/inventory`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inventory::AttributeValue;

/// One attribute of a device, with the scope that says who owns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScopedAttribute {
    pub name: String,
    /// `inventory`, `identity`, `system`, `tags` or `monitor`.
    pub scope: String,
    pub value: AttributeValue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When a tag was last set: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
}

/// A device with its attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceInventory {
    pub id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<ScopedAttribute>,
    /// The most recent attribute update: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_ts: Option<String>,
}

/// Body of `PUT` and `GET /devices/{id}/group`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub group: Option<String>,
}

/// Answer of `PATCH` and `DELETE /groups/{name}/devices`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupUpdate {
    /// Devices that changed group.
    pub updated_count: u64,
    /// Devices of the list that exist.
    pub matched_count: u64,
}

/// One attribute name that occurs in the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterAttribute {
    pub scope: String,
    pub name: String,
    /// Devices that have it.
    pub count: u64,
}

/// One condition of a search; all conditions of a search hold together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterPredicate {
    #[serde(default)]
    pub scope: String,
    #[serde(default)]
    pub attribute: String,
    /// `$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`, `$in`, `$nin`, `$exists` or `$regex`.
    #[serde(rename = "type", default)]
    pub operator: String,
    #[serde(default)]
    pub value: Value,
}

/// One sort key of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortCriteria {
    #[serde(default)]
    pub scope: String,
    #[serde(default)]
    pub attribute: String,
    /// `asc` or `desc`.
    #[serde(default)]
    pub order: String,
}

/// Names one attribute, to return only this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectAttribute {
    #[serde(default)]
    pub scope: String,
    #[serde(default)]
    pub attribute: String,
}

/// Body of `POST /filters/search`; an empty object lists every device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_page: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<FilterPredicate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Vec<SortCriteria>>,
    /// Return only these attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<SelectAttribute>>,
    /// Search only among these devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ids: Option<Vec<String>>,
    /// Words that must all occur in the device's id or attributes, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Answer of `GET /statistics` (version 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    pub devices_by_status: DevicesByStatus,
}

/// Devices that take part, and those that want to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesByStatus {
    pub accepted: DevicesByTier,
    pub pending: DevicesByTier,
}

/// Devices by their tier: the identity attribute `tier`, `standard` unless a device says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesByTier {
    pub standard: u64,
    pub micro: u64,
    pub system: u64,
}

/// A search that is kept under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub terms: Vec<FilterPredicate>,
}

/// Body of `POST /filters`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NewFilter {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub terms: Option<Vec<FilterPredicate>>,
}

/// One device of the internal status update; without a revision the status is set in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRevision {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}
