//! The update flow on real hardware; started by `cargo xtask hil`.

use std::process::ExitCode;
use std::time::Duration;

use ambidex_test_boards::hardware::{self, Plan};

const USAGE: &str = "\
usage: cargo xtask hil --server URL --email E --password-file FILE --device ID --good ARTIFACT
                       [--bad ARTIFACT] [--root-certificate PEM] [--limit SECONDS]

  --device           id of the device on the server; it must be accepted already
  --good             an artifact that must install and commit
  --bad              an artifact that must be rolled back by the device
  --root-certificate certificates to trust besides the public ones
  --limit            for each wait, default 1800";

#[tokio::main]
async fn main() -> ExitCode {
    let plan = match parse(std::env::args().skip(1)) {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("hil: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match hardware::run(&plan).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hil: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Plan>, String> {
    let (mut server, mut email, mut password_file, mut device, mut good) =
        (None, None, None, None, None);
    let (mut bad, mut root_certificate, mut limit) = (None, None, 1800);
    while let Some(option) = arguments.next() {
        if option == "--help" || option == "-h" {
            return Ok(None);
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--server" => server = Some(value),
            "--email" => email = Some(value),
            "--password-file" => password_file = Some(value.into()),
            "--device" => device = Some(value),
            "--good" => good = Some(value.into()),
            "--bad" => bad = Some(value.into()),
            "--root-certificate" => root_certificate = Some(value.into()),
            "--limit" => {
                limit = value
                    .parse()
                    .map_err(|_| format!("--limit takes seconds, not {value}"))?
            }
            _ => return Err(format!("unknown option {option}")),
        }
    }
    let missing = |name: &str| format!("{name} is missing");
    Ok(Some(Plan {
        server: server.ok_or_else(|| missing("--server"))?,
        email: email.ok_or_else(|| missing("--email"))?,
        password_file: password_file.ok_or_else(|| missing("--password-file"))?,
        root_certificate,
        device: device.ok_or_else(|| missing("--device"))?,
        good: good.ok_or_else(|| missing("--good"))?,
        bad,
        limit: Duration::from_secs(limit),
    }))
}
