//! What a device tells about itself arrives, and what it no longer tells vanishes.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ambidex_harness::{scratch::flow, wait_for};
use ambidex_test_scenario::{LIMIT, Options, Rig};

#[test]
fn i3_an_attribute_that_a_device_no_longer_tells_vanishes() {
    flow("inventory", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let script = rig.device.path("data/inventory/mender-inventory-more");
        fs::write(
            &script,
            "#!/bin/sh\necho zone=north\necho list=1\necho list=2\n",
        )?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let found = wait_for("the new attributes", LIMIT, async || {
            let found = rig.api.inventory(&rig.id).await?;
            Ok(found.contains_key("zone").then_some(found))
        })
        .await?;
        assert_eq!(found["zone"], "north");
        assert_eq!(found["list"], serde_json::json!(["1", "2"]));

        fs::remove_file(&script)?;
        let found = wait_for("the attributes to vanish", LIMIT, async || {
            let found = rig.api.inventory(&rig.id).await?;
            Ok((!found.contains_key("zone")).then_some(found))
        })
        .await?;
        assert!(!found.contains_key("list") && found.contains_key("kernel"));
        rig.device.stop().await
    });
}
