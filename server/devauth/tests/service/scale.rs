//! Figures at scale. Run by hand: `cargo test -p ambidex-devauth --test service -- --ignored --nocapture scale`.

use std::time::Instant;

use ambidex_access::{DeviceIdentity, TenantId};
use ambidex_db::{params, statement};
use uuid::Uuid;

use crate::rig::{DEVICES, Rig};

const DEVICE: &str = "INSERT INTO devauth_devices VALUES ('', $1, 'accepted', 2, $2, $2, 0, $1, '{\"mac\":\"00:11:22:33:44:55\"}')";
const SET: &str = "INSERT INTO devauth_auth_sets VALUES ('', $1, $2, 'accepted', 0, $1, $3)";
const TOKEN: &str = "INSERT INTO devauth_tokens VALUES ('', $1, $2, 9000000000000)";

fn ids(number: u64) -> (Uuid, Uuid) {
    // Spread like random ids, but repeatable.
    let spread = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (Uuid::from_u128(spread), Uuid::from_u128(!spread))
}

#[tokio::test]
#[ignore = "takes a minute and prints figures"]
async fn scale_of_token_checks() {
    let devices: u64 = std::env::var("DEVICES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100_000);
    let rig = Rig::new();
    let started = Instant::now();
    for first in (0..devices).step_by(1000) {
        let batch = (first..(first + 1000).min(devices)).flat_map(|number| {
            let (device, set) = ids(number);
            let (device, set) = (device.to_string(), set.to_string());
            [
                statement(DEVICE, params![&device, number]),
                statement(SET, params![&set, &device, "k".repeat(450)]),
                statement(TOKEN, params![&set, &device]),
            ]
        });
        rig.db.apply(batch.collect()).await.unwrap();
    }
    println!("{devices} devices written in {:.1?}", started.elapsed());
    let checks = 100_000;
    let started = Instant::now();
    for number in 0..checks {
        let (device, set) = ids(number * 7919 % devices);
        let identity = DeviceIdentity {
            device_id: device.to_string(),
            tenant: TenantId::default(),
            jti: set,
            plan: "enterprise".into(),
            addons: ambidex_access::OpenAddons::all(),
        };
        rig.devauth.check_device_token(&identity).await.unwrap();
    }
    let each = started.elapsed() / u32::try_from(checks).unwrap();
    println!(
        "check of a token: {each:.1?}, {:.0}/s on one thread",
        1.0 / each.as_secs_f64()
    );
    let started = Instant::now();
    let written = rig.devauth.record_check_ins().await.unwrap();
    println!("{written} check-ins written in {:.1?}", started.elapsed());
    for path in [
        "?status=accepted",
        "?status=accepted&page=100&per_page=500",
        "/count",
    ] {
        let started = Instant::now();
        rig.get(&format!("{DEVICES}{path}")).await.ok(200);
        println!("GET {path}: {:.1?}", started.elapsed());
    }
}
