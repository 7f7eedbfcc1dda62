//! Device swarm: measures a real server process under the load of many devices.
//!
//! Owns: enrolling devices over the public API and the measured loops. Does not own: starting
//! binaries for tests (the harness does) or judging the figures (the benchmark table does).

mod connection;
mod enrol;
mod measure;
mod server;

use std::path::PathBuf;

use anyhow::{Context, bail};

const HELP: &str = "\
Measure a server process with a swarm of devices.

usage: ambidex-load idle-polls --server-bin FILE [options]

Starts the server on an empty data directory, enrols the devices through the public API
(preauthorise, then a signed authentication request), and polls for deployments over
keep-alive connections, each poll with the token of another device. Prints one JSON object.

options:
  --server-bin FILE   the ambidex-server executable to measure
  --devices N         devices to enrol                          [default: 100000]
  --connections N     concurrent keep-alive connections         [default: 64]
  --seconds N         length of the measured part               [default: 20]
  --rate N            polls per second to offer; 0 is unlimited [default: 0]
  -h, --help          print this text
";

/// What the command line asks for.
struct Options {
    server_bin: PathBuf,
    devices: usize,
    connections: usize,
    seconds: u64,
    rate: u64,
}

fn parse_options() -> anyhow::Result<Option<Options>> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut options = Options {
        server_bin: PathBuf::new(),
        devices: 100_000,
        connections: 64,
        seconds: 20,
        rate: 0,
    };
    let mut verb = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            Long("server-bin") => options.server_bin = parser.value()?.into(),
            Long("devices") => options.devices = parser.value()?.parse()?,
            Long("connections") => options.connections = parser.value()?.parse()?,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            Long("rate") => options.rate = parser.value()?.parse()?,
            Value(word) if verb.is_none() => verb = Some(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match verb.as_deref() {
        Some("idle-polls") => {}
        Some(other) => bail!("unknown measurement '{other}'; see --help"),
        None => bail!("no measurement named; see --help"),
    }
    if options.server_bin.as_os_str().is_empty() {
        bail!("--server-bin is missing: name the ambidex-server executable to measure");
    }
    if options.devices == 0 || options.connections == 0 || options.seconds == 0 {
        bail!("--devices, --connections and --seconds must be at least 1");
    }
    Ok(Some(options))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Some(options) = parse_options()? else { return Ok(()) };
    let server = server::Server::start(&options.server_bin).await?;
    let started = std::time::Instant::now();
    let tokens = enrol::enrol(&server, options.devices, options.connections.min(32))
        .await
        .context("enrol the devices")?;
    let enrol_seconds = started.elapsed().as_secs_f64();
    eprintln!("{} devices enrolled in {enrol_seconds:.1} s", tokens.len());

    let figures = measure::idle_polls(&server, tokens, &options).await?;
    let report = serde_json::json!({
        "measurement": "idle-polls",
        "devices": options.devices,
        "connections": options.connections,
        "seconds": options.seconds,
        "enrolled_per_second": (options.devices as f64 / enrol_seconds).round(),
        "polls_per_second": figures.per_second.round(),
        "p50_ms": figures.p50_ms,
        "p99_ms": figures.p99_ms,
        "max_ms": figures.max_ms,
        "server_rss_mib": server.rss_mib()?,
        "server_cpu_us_per_poll": figures.server_cpu_us_per_poll,
    });
    println!("{report}");
    Ok(())
}
