//! What this device tells about itself.
//!
//! Owns: the collection (scripts first, built-in facts where no script speaks), the merge, and the
//! rule that an unchanged inventory is not sent again. Does not own when it is sent (`daemon`).
//!
//! Source: reference agent, section 8. Difference: the stock scripts' facts are collected without
//! starting processes; a script of the same key replaces them.

mod network;
mod scripts;
mod stock;

use std::collections::BTreeMap;

use ambidex_wire::inventory::{Attribute, AttributeValue};
use sha2::{Digest as _, Sha256};

use crate::{
    api::{Link, LinkError},
    config::Config,
};

/// Every key with its values in the order in which they were found.
pub(crate) type Values = BTreeMap<String, Vec<String>>;

/// What the device has installed, as the caller knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub device_type: Option<String>,
    /// All provides, with `artifact_name`.
    pub provides: BTreeMap<String, String>,
}

/// Remembers what the server has, so that the same is not sent twice.
#[derive(Debug, Default)]
pub struct Inventory {
    accepted: Option<Accepted>,
}

#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    digest: [u8; 32],
    /// The login it was sent under: after a new one everything is sent anew.
    login: u64,
}

impl Inventory {
    /// Collects and sends. True: it was sent; false: the server has it already.
    ///
    /// # Errors
    /// What the server answered, or why it was not reached.
    pub async fn send(
        &mut self,
        link: &Link,
        config: &Config,
        facts: &Facts,
    ) -> Result<bool, LinkError> {
        let attributes = collect(config, facts).await;
        let body = serde_json::to_vec(&attributes).expect("invariant: attributes are always JSON");
        let digest: [u8; 32] = Sha256::digest(&body).into();
        let known = self
            .accepted
            .as_ref()
            .is_some_and(|a| a.digest == digest && a.login == link.logins());
        if known && link.is_authorized() {
            return Ok(false);
        }
        link.put_inventory(&attributes).await?;
        self.accepted = Some(Accepted {
            digest,
            login: link.logins(),
        });
        Ok(true)
    }
}

/// All attributes, sorted by name.
pub async fn collect(config: &Config, facts: &Facts) -> Vec<Attribute> {
    let mut values = scripts::collect(&config.roots.data.join("inventory")).await;
    for (key, found) in stock::collect(config, facts) {
        values.entry(key).or_insert(found);
    }
    // the agent's own, whatever a script says
    values.insert(
        "mender_client_version".to_owned(),
        vec![crate::VERSION.to_owned()],
    );
    values.insert(
        "mender_client_version_provider".to_owned(),
        vec!["internal".to_owned()],
    );
    values.into_iter().filter_map(attribute).collect()
}

fn attribute((name, mut values): (String, Vec<String>)) -> Option<Attribute> {
    let value = match values.len() {
        0 => return None,
        1 => AttributeValue::Text(values.remove(0)),
        _ => AttributeValue::Texts(values),
    };
    Some(Attribute {
        name,
        value,
        description: None,
    })
}
