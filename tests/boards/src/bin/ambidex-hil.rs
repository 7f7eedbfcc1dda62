//! Campaigns on boards; started by `cargo xtask hil`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ambidex_harness::board::Kind;
use ambidex_test_boards::campaign::{self, Choice};
use ambidex_test_boards::dut::HardwareFile;
use ambidex_test_boards::flows::{self, Plan};
use ambidex_test_boards::{Target, hardware, results};
use anyhow::{Context as _, Result, bail};
use futures_util::future::join_all;

const USAGE: &str = "\
usage: cargo xtask hil [--board NAME|all] [--flow NAME] [--cuts N] [--seed S] [--control]
       cargo xtask hil --hardware FILE [--flow NAME]
       cargo xtask hil --write-table
       cargo xtask hil --server URL --email E --password-file FILE --device ID --good ARTIFACT
                       [--bad ARTIFACT] [--root-certificate PEM] [--limit SECONDS]

Runs every flow on every board, then random power cuts on a disk that loses what was not
flushed. Results go to target/hil/results.json; the exit code is 0 when all passed.

  --board        an emulated board of qemu/boards, or all (default)
  --flow         only this one; power-cuts is one as well
  --cuts         random power cuts a board, default 20; 0 for none
  --seed         what decides where they fall and what they lose, default 1
  --control      only the control: an agent whose flushes do nothing must be caught by the cuts
  --hardware     a board on the desk, described by a file (qemu/README.md)
  --write-table  runs nothing: puts the results into the table of qemu/README.md
  --yes          install missing Debian packages without asking

A device that is accepted on a running server already:

  --device           its id on the server
  --good             an artifact that must install and commit
  --bad              an artifact that must be rolled back by the device
  --root-certificate certificates to trust besides the public ones
  --limit            for each wait, default 1800

Flows:";

/// What the command line asks for.
enum Order {
    Help,
    Campaign(Vec<Target>, Choice),
    Table,
    Device(Box<hardware::Plan>),
}

#[tokio::main]
async fn main() -> ExitCode {
    let order = match parse(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(error) => {
            eprintln!("hil: {error:#}\n\n{USAGE} cargo xtask hil --help");
            return ExitCode::from(2);
        }
    };
    // dropping the work anywhere stops what it has started: boards and servers are killed on drop
    let result = tokio::select! {
        result = carry_out(order) => result,
        signal = interrupted() => signal,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hil: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {},
        _ = terminate.recv() => {},
    }
    bail!("interrupted; boards and servers are stopped")
}

async fn carry_out(order: Order) -> Result<()> {
    let target_dir = std::env::var_os("AMBIDEX_HIL_TARGET_DIR").unwrap_or_else(|| "target".into());
    let file = campaign::results_file(Path::new(&target_dir));
    match order {
        Order::Help => {
            println!("{USAGE}");
            for flow in flows::all() {
                println!("  {:<18} {}", flow.name, flow.about);
            }
            println!("  {:<18} random power cuts", campaign::POWER_CUTS);
            Ok(())
        }
        Order::Table => results::write_table(Path::new("qemu/README.md"), &results::read(&file)?),
        Order::Device(plan) => hardware::run(&plan).await,
        Order::Campaign(targets, choice) => {
            // as many at a time as the machine takes; the harness counts
            let ran = join_all(
                targets
                    .iter()
                    .map(|target| campaign::run(target, &choice, &file)),
            )
            .await;
            let (mut records, mut errors) = (Vec::new(), Vec::new());
            for result in ran {
                match result {
                    Ok(found) => records.extend(found),
                    Err(error) => errors.push(error),
                }
            }
            println!();
            for record in &records {
                println!("{} {record}", record.board);
            }
            println!("results: {}", file.display());
            let failed = records
                .iter()
                .filter(|record| record.verdict == results::Verdict::Failed)
                .count();
            if let Some(error) = errors.pop() {
                return Err(error);
            }
            if failed > 0 {
                bail!("{failed} of {} failed", records.len());
            }
            Ok(())
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Order> {
    let (mut server, mut email, mut password_file, mut device, mut good) =
        (None, None, None, None, None);
    let (mut bad, mut root_certificate, mut limit) = (None, None, 1800);
    let (mut board, mut hardware_file) = ("all".to_owned(), None);
    let mut choice = Choice {
        flow: None,
        cuts: Plan {
            cuts: 20,
            seed: 1,
            at_most: None,
        },
        control: false,
    };
    while let Some(option) = arguments.next() {
        match option.as_str() {
            "--help" | "-h" => return Ok(Order::Help),
            "--write-table" => return Ok(Order::Table),
            "--control" => {
                choice.control = true;
                continue;
            }
            _ => {}
        }
        let value = arguments
            .next()
            .with_context(|| format!("{option} needs a value"))?;
        let number = || {
            let number: Result<u64, _> = value.parse();
            number.with_context(|| format!("{option} takes a number, not {value}"))
        };
        match option.as_str() {
            "--board" => board = value,
            "--flow" => choice.flow = Some(value),
            "--cuts" => choice.cuts.cuts = number()?,
            "--seed" => choice.cuts.seed = number()?,
            "--hardware" => hardware_file = Some(PathBuf::from(value)),
            "--server" => server = Some(value),
            "--email" => email = Some(value),
            "--password-file" => password_file = Some(value.into()),
            "--device" => device = Some(value),
            "--good" => good = Some(value.into()),
            "--bad" => bad = Some(value.into()),
            "--root-certificate" => root_certificate = Some(value.into()),
            "--limit" => limit = number()?,
            _ => bail!("unknown option {option}"),
        }
    }
    if let Some(server) = server {
        let missing = |name: &str| format!("{name} is missing");
        return Ok(Order::Device(Box::new(hardware::Plan {
            server,
            email: email.with_context(|| missing("--email"))?,
            password_file: password_file.with_context(|| missing("--password-file"))?,
            root_certificate,
            device: device.with_context(|| missing("--device"))?,
            good: good.with_context(|| missing("--good"))?,
            bad,
            limit: Duration::from_secs(limit),
        })));
    }
    choice.check()?;
    let targets = match (hardware_file, board.as_str()) {
        (Some(path), _) => vec![Target::Hardware(Box::new(HardwareFile::read(&path)?))],
        (None, "all") => Kind::ALL
            .map(|kind| Target::Emulated(kind, choice.cuts.seed))
            .into(),
        (None, name) => {
            let kind = Kind::named(name).with_context(|| {
                format!(
                    "there is no board {name}; known are {}",
                    Kind::ALL.map(Kind::name).join(", ")
                )
            })?;
            vec![Target::Emulated(kind, choice.cuts.seed)]
        }
    };
    Ok(Order::Campaign(targets, choice))
}
