//! The workflows that come with the server.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ambidex_wire::management::workflows::Definition;

const TEXTS: [&str; 8] = [
    include_str!("stock/decommission_device.json"),
    include_str!("stock/deploy_device_configuration.json"),
    include_str!("stock/emit_auditlog.json"),
    include_str!("stock/generate_artifact.json"),
    include_str!("stock/provision_device.json"),
    include_str!("stock/send_mail.json"),
    include_str!("stock/update_device_inventory.json"),
    include_str!("stock/update_device_status.json"),
];

static ALL: LazyLock<BTreeMap<String, Definition>> = LazyLock::new(|| {
    TEXTS
        .iter()
        // Every text is read by a test.
        .filter_map(|text| serde_json::from_str::<Definition>(text).ok())
        .map(|definition| (definition.name.clone(), definition))
        .collect()
});

/// The newest version of each, by name.
pub(crate) fn all() -> &'static BTreeMap<String, Definition> {
    &ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_a_definition() {
        for text in TEXTS {
            let read = serde_json::from_str::<Definition>(text);
            assert!(read.is_ok(), "{text}: {read:?}");
        }
        assert_eq!(all().len(), TEXTS.len());
    }
}
