//! Benchmarks of real processes: the server under a device swarm, the agent beside its peers.
//!
//! Owns: enrolling devices over the public API, the stage of the install benchmark, the measured loops. Does not own: starting
//! binaries for tests (the harness does) or judging the figures (the benchmark table does).

mod agent;
mod connection;
mod enrol;
mod fleet;
mod install;
mod measure;
mod server;
mod sessions;
mod socket;

use std::path::PathBuf;

use anyhow::{Context, bail};

const HELP: &str = "\
Measure real processes. Each verb prints one JSON object; progress goes to standard error.

usage: ambidex-load idle-polls --server-bin FILE [options]
       ambidex-load idle-sockets --server-bin FILE [--devices N]
       ambidex-load echo --server-bin FILE [--devices N] [--keystrokes N]
       ambidex-load fleet --server-bin FILE [options]
       ambidex-load idle-agent --agent-bin FILE --server-bin FILE [--seconds N]
       ambidex-load install --agent-bin FILE --cli-bin FILE --work-dir DIR [options]

idle-polls starts the server on an empty data directory, enrols the devices through the public
API (preauthorise, then a signed authentication request), and polls for deployments over
keep-alive connections, each poll with the token of another device.

idle-sockets connects the devices' websockets and reads the memory of the server. Many sockets need
many open files: run it as root or with a high ulimit -n.

echo measures a keystroke's way from a user's websocket to a device's and back, with the other
devices connected.
fleet puts --devices devices into the embedded database, --active of them enrolled as above and the rest
copied from them while the server is stopped, and measures polls, inventory updates, auth requests,
status reports, the start of the server, and polls beside a deployment to all devices.

idle-agent lets the agent's daemon be accepted by a server and open its websocket, then reads its memory
and counts for --seconds how often it wakes between two polls; then how long it takes from the start of
the process to its first request.

install brings a 512 MiB root filesystem into slot B, which holds the previous release, with the
agent, with the peers that Debian packages and with plain dd and pipes; all of them in every round.
It needs root (loop devices, chroot) and mmdebstrap, mender-client, rauc, swupdate, u-boot-tools.

options of idle-polls:
  --devices N         devices to enrol                          [default: 100000]
  --connections N     concurrent keep-alive connections         [default: 64]
  --seconds N         length of the measured part               [default: 20]
  --rate N            polls per second to offer; 0 is unlimited [default: 0]

options of idle-sockets and echo:
  --devices N         devices that are connected      [default: 100000]
  --keystrokes N      keystrokes to measure           [default: 10000]
options of fleet: --connections and --seconds as above, and
  --devices N         devices in the database                   [default: 1000000]
  --active N          of them, those that call                  [default: 20000]

options of install:
  --rounds N          rounds of all contenders                  [default: 4]
  --only TEXT         only contenders whose name contains TEXT

  -h, --help          print this text
";

enum Verb {
    IdlePolls(measure::Options),
    Fleet(fleet::Options),
    IdleAgent(agent::Options),
    Install(install::Options),
    IdleSockets(sessions::Options),
    Echo(sessions::Options),
}

fn parse_options() -> anyhow::Result<Option<Verb>> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut polls = measure::Options::default();
    let mut install = install::Options {
        work_dir: PathBuf::new(),
        agent_bin: PathBuf::new(),
        cli_bin: PathBuf::new(),
        rounds: 4,
        only: None,
    };
    let mut keystrokes = 10_000;
    let mut verb = None;
    let mut devices = None;
    let mut active = 20_000;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            Long("server-bin") => polls.server_bin = parser.value()?.into(),
            Long("devices") => devices = Some(parser.value()?.parse()?),
            Long("active") => active = parser.value()?.parse()?,
            Long("connections") => polls.connections = parser.value()?.parse()?,
            Long("seconds") => polls.seconds = parser.value()?.parse()?,
            Long("rate") => polls.rate = parser.value()?.parse()?,
            Long("keystrokes") => keystrokes = parser.value()?.parse()?,
            Long("work-dir") => install.work_dir = parser.value()?.into(),
            Long("agent-bin") => install.agent_bin = parser.value()?.into(),
            Long("cli-bin") => install.cli_bin = parser.value()?.into(),
            Long("rounds") => install.rounds = parser.value()?.parse()?,
            Long("only") => install.only = Some(parser.value()?.string()?),
            Value(word) if verb.is_none() => verb = Some(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let required = |path: &PathBuf, name: &str| {
        if path.as_os_str().is_empty() {
            bail!("--{name} is missing; see --help")
        } else {
            Ok(())
        }
    };
    match verb.as_deref() {
        Some("idle-polls") => {
            required(&polls.server_bin, "server-bin")?;
            polls.devices = devices.unwrap_or(polls.devices);
            if polls.devices == 0 || polls.connections == 0 || polls.seconds == 0 {
                bail!("--devices, --connections and --seconds must be at least 1");
            }
            Ok(Some(Verb::IdlePolls(polls)))
        }
        Some(measurement @ ("idle-sockets" | "echo")) => {
            required(&polls.server_bin, "server-bin")?;
            polls.devices = devices.unwrap_or(polls.devices);
            if polls.devices == 0 || keystrokes == 0 {
                bail!("--devices and --keystrokes must be at least 1");
            }
            let options = sessions::Options {
                server_bin: polls.server_bin,
                devices: polls.devices,
                keystrokes,
            };
            Ok(Some(match measurement {
                "echo" => Verb::Echo(options),
                _ => Verb::IdleSockets(options),
            }))
        }
        Some("fleet") => {
            required(&polls.server_bin, "server-bin")?;
            let devices = devices.unwrap_or(1_000_000);
            if active == 0 || devices < active || polls.connections == 0 || polls.seconds == 0 {
                bail!(
                    "--active, --connections and --seconds must be at least 1, --devices at least --active"
                );
            }
            Ok(Some(Verb::Fleet(fleet::Options {
                server_bin: polls.server_bin,
                devices,
                active,
                connections: polls.connections,
                seconds: polls.seconds,
            })))
        }
        Some("idle-agent") => {
            required(&install.agent_bin, "agent-bin")?;
            required(&polls.server_bin, "server-bin")?;
            if polls.seconds == 0 {
                bail!("--seconds must be at least 1");
            }
            Ok(Some(Verb::IdleAgent(agent::Options {
                agent_bin: install.agent_bin,
                server_bin: polls.server_bin,
                seconds: polls.seconds,
            })))
        }
        Some("install") => {
            required(&install.work_dir, "work-dir")?;
            required(&install.agent_bin, "agent-bin")?;
            required(&install.cli_bin, "cli-bin")?;
            if install.rounds == 0 {
                bail!("--rounds must be at least 1");
            }
            Ok(Some(Verb::Install(install)))
        }
        Some(other) => bail!("unknown measurement '{other}'; see --help"),
        None => bail!("no measurement named; see --help"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let report = match parse_options()? {
        None => return Ok(()),
        Some(Verb::Install(options)) => install::run(&options)?,
        Some(Verb::IdleAgent(options)) => agent::idle(&options).await?,
        Some(Verb::IdlePolls(options)) => idle_polls(&options).await?,
        Some(Verb::IdleSockets(options)) => sessions::idle_sockets(&options).await?,
        Some(Verb::Echo(options)) => sessions::echo(&options).await?,
        Some(Verb::Fleet(options)) => fleet::run(&options).await?,
    };
    println!("{report}");
    Ok(())
}

async fn idle_polls(options: &measure::Options) -> anyhow::Result<serde_json::Value> {
    let server = server::Server::start(&options.server_bin).await?;
    let started = std::time::Instant::now();
    let tokens = enrol::enrol(&server, options.devices, options.connections.min(32))
        .await
        .context("enrol the devices")?;
    let enrol_seconds = started.elapsed().as_secs_f64();
    eprintln!("{} devices enrolled in {enrol_seconds:.1} s", tokens.len());
    server.settle().await?;
    let figures = measure::idle_polls(&server, tokens, options).await?;
    Ok(serde_json::json!({
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
    }))
}
