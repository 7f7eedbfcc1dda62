//! Measurements.

use std::fs;

use ambidex_harness::{Scratch, flow};
use ambidex_test_compat::Manner;
use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::desk::{Desk, content};
use crate::forward::{echo_server, echoed, forwarding};

/// Prints how fast a file of 512 MiB and a forwarded connection are. Only release builds of all sides
/// say anything: `cargo nextest run --release --run-ignored only -p ambidex-test-compat measured`
#[test]
#[ignore = "a measurement"]
fn speeds_are_measured() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-speeds", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            measure(&format!("{manner:?}, simulated"), &desk, &scratch).await
        });
    }
    flow("cli-speeds-agent", async |scratch| {
        let desk = Desk::with_agent(&scratch).await?;
        measure("our agent", &desk, &scratch).await
    });
}

async fn measure<D>(device: &str, desk: &Desk<D>, scratch: &Scratch) -> Result<()> {
    const BYTES: usize = 512 << 20;
    fs::write(desk.home.join("local.bin"), content(BYTES))?;
    let there = desk.there(&scratch.join("there.bin"));
    let print = |what: &str, seconds: f64| {
        let rate = BYTES as f64 / f64::from(1 << 20) / seconds;
        eprintln!("{device} {what}: {rate:.0} MiB/s");
    };
    for (what, from, to) in [("up", "local.bin", &*there), ("down", &*there, "back.bin")] {
        let told = desk.must(&["cp", "--output", "json", from, to]).await?;
        let told: Value = serde_json::from_str(&told)?;
        print(what, told["seconds"].as_f64().context("seconds")?);
    }
    let tcp = echo_server().await?;
    let (_child, places) = forwarding(desk, &[format!("0:{tcp}")]).await?;
    let started = std::time::Instant::now();
    echoed(&places[0], BYTES / 16).await?;
    print("echo", started.elapsed().as_secs_f64() * 16.0);
    Ok(())
}
