//! Reads an artifact to its end and prints what that took.
//!
//! `cargo run --release -p ambidex-artifact --example read_artifact -- FILE [--key PUBLIC.pem]`
//!
//! Prints one line of JSON: name, bytes of the artifact and of the payload, CPU seconds, wall
//! seconds, and the peak of the resident memory in KiB as Linux counts it.

use std::fs::{self, File};
use std::process::ExitCode;
use std::time::Instant;

use ambidex_artifact::{ReadOptions, Reader, Verification, VerifyKey};

fn main() -> ExitCode {
    match run() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("read_artifact: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("usage: read_artifact FILE [--key PUBLIC.pem]")?;
    let verify = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--key"), Some(key)) => {
            Verification::Require(vec![VerifyKey::from_pem(&fs::read_to_string(key)?)?])
        }
        (None, _) => Verification::Ignore,
        _ => return Err("usage: read_artifact FILE [--key PUBLIC.pem]".into()),
    };
    let begun = Instant::now();
    let mut reader = Reader::open(File::open(path)?, &ReadOptions::device(verify))?;
    let name = reader.header().name.clone();
    let mut payload_bytes = 0_u64;
    while let Some(mut file) = reader.next_file()? {
        while let Some(chunk) = file.chunk()? {
            payload_bytes += chunk.len() as u64;
        }
    }
    let summary = reader.finish()?;
    Ok(serde_json::json!({
        "name": name,
        "artifact_bytes": summary.bytes_read,
        "payload_bytes": payload_bytes,
        "compression": summary.compression.to_string(),
        "wall_s": begun.elapsed().as_secs_f64(),
        "cpu_s": cpu_s()?,
        "peak_rss_kib": peak_rss_kib()?,
    })
    .to_string())
}

/// CPU time of this process in seconds, user and system.
fn cpu_s() -> Result<f64, Box<dyn std::error::Error>> {
    // First number: nanoseconds on a CPU.
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds: f64 = text
        .split_whitespace()
        .next()
        .ok_or("no schedstat")?
        .parse()?;
    Ok(nanoseconds / 1e9)
}

fn peak_rss_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
