//! Figures at scale. Run by hand: `cargo test -p ambidex-inventory --test service -- --ignored --nocapture scale`.

use std::sync::Arc;
use std::time::Instant;

use ambidex_access::TenantId;
use ambidex_inventory::FleetDevice;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::rig::{DEVICES, FILTERS, GROUPS, Rig, list};

fn spread(number: u128) -> String {
    Uuid::from_u128(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_string()
}

/// What an ordinary device tells about itself.
fn report(number: u128) -> Value {
    let mut values = json!({
        "device_type": "qemux86-64", "artifact_name": format!("release-{}", number % 7), "kernel": "Linux version 6.1.0 (gcc 12.2.0)",
        "mem_total_kB": 506_000 + number % 100, "cpu_model": "ARMv7 Processor rev 4 (v7l)", "hostname": format!("device-{number}"),
        "ipv4_eth0": format!("10.{}.{}.{}/16", number >> 16 & 255, number >> 8 & 255, number & 255),
        "mac_eth0": format!("52:54:00:{:02x}:{:02x}:{:02x}", number >> 16 & 255, number >> 8 & 255, number & 255),
    });
    for n in 0..12 {
        values[format!("rootfs-image.component-{n}.version")] = json!("1.2.3");
    }
    list(values)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and prints figures"]
async fn scale_of_listings_and_searches() {
    let devices: u128 = std::env::var("DEVICES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100_000);
    let rig = Arc::new(Rig::new());
    let tenant = TenantId::default();
    let started = Instant::now();
    for first in (0..devices).step_by(2000) {
        let batch: Vec<FleetDevice> = (first..(first + 2000).min(devices))
            .map(|number| FleetDevice {
                id: spread(number),
                identity: json!({ "mac": format!("m{number}") })
                    .as_object()
                    .unwrap()
                    .clone(),
                status: "accepted".into(),
                revision: 1,
            })
            .collect();
        rig.inventory
            .put_fleet_devices(&tenant, &batch)
            .await
            .unwrap();
        rig.clock.advance(1);
    }
    println!("{devices} devices put in {:.1?}", started.elapsed());
    let started = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let rig = rig.clone();
            tokio::spawn(async move {
                for number in (task..devices).step_by(64) {
                    let attributes =
                        ambidex_inventory::domain::attribute::read_attributes(&report(number))
                            .unwrap();
                    rig.inventory
                        .replace_attributes(&TenantId::default(), &spread(number), attributes)
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = devices as f64 / started.elapsed().as_secs_f64();
    println!(
        "20 attributes each: {:.1?}, {rate:.0} updates/s",
        started.elapsed()
    );
    for group in 0..10 {
        let ids: Vec<String> = (group * 1000..(group + 1) * 1000).map(spread).collect();
        rig.user(
            Method::PATCH,
            &format!("{GROUPS}/g{group}/devices"),
            Some(json!(ids)),
        )
        .await
        .ok(200);
    }
    for path in [
        DEVICES.to_owned(),
        format!("{DEVICES}?identity/status=accepted&page=100&per_page=500"),
        format!("{DEVICES}?group=g5"),
        GROUPS.to_owned(),
        format!("{GROUPS}?status=accepted"),
        format!("{GROUPS}/g5/devices?per_page=500"),
        format!("{FILTERS}/attributes"),
        format!("{DEVICES}/{}", spread(5)),
    ] {
        let started = Instant::now();
        rig.get(&path).await.ok(200);
        println!("GET {path}: {:.1?}", started.elapsed());
    }
    let term = |attribute: &str, operator: &str, value: Value| json!({"scope": "inventory", "attribute": attribute, "type": operator, "value": value});
    for body in [
        json!({"filters": [{"scope": "identity", "attribute": "status", "type": "$eq", "value": "accepted"}]}),
        json!({"filters": [term("hostname", "$eq", json!("device-77"))]}),
        json!({"filters": [term("mem_total_kB", "$gt", json!(506_050))]}),
        json!({"filters": [term("hostname", "$regex", json!("/DEVICE-7.*3/i"))]}),
        json!({"sort": [{"scope": "inventory", "attribute": "hostname", "order": "desc"}]}),
        json!({"sort": [{"scope": "system", "attribute": "created_ts", "order": "desc"}]}),
    ] {
        let started = Instant::now();
        let answer = rig.search(body.clone()).await.ok(200);
        println!(
            "search {body}: {} found, {:.1?}",
            answer.total(),
            started.elapsed()
        );
    }
    let started = Instant::now();
    let count = rig.inventory.accepted_devices(&tenant).await.unwrap().len();
    println!("accepted_devices: {count} in {:.1?}", started.elapsed());
    let started = Instant::now();
    let count = rig
        .inventory
        .devices_in_group(&tenant, "g5")
        .await
        .unwrap()
        .len();
    println!("devices_in_group: {count} in {:.1?}", started.elapsed());
}
