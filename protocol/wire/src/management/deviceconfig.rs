//! Bodies of device configuration (reference section 10).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Settings of a device by name.
pub type Configuration = BTreeMap<String, String>;

/// What a device should be set to and what it said it is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceConfiguration {
    /// Id of the device.
    pub id: String,
    /// What operators want.
    pub configured: Configuration,
    /// What the device reported last.
    pub reported: Configuration,
    /// The latest deployment of a configuration to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// When the wanted configuration changed last, RFC 3339.
    pub updated_ts: String,
    /// When the device reported last, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_ts: Option<String>,
}

/// How to deploy the wanted configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NewConfigurationDeployment {
    /// Attempts after the first one.
    #[serde(default)]
    pub retries: u32,
    /// Where the update waits for somebody to continue it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_control_map: Option<Map<String, Value>>,
}

/// The deployment that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationDeployment {
    /// Its id.
    pub deployment_id: String,
}

/// A device to be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDevice {
    /// Its id.
    #[serde(default)]
    pub device_id: String,
}
