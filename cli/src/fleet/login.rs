//! `ambidex login`

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::connection::Connection;
use super::profile::Profile;
use crate::exit::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
The token is kept in the configuration directory of the user, readable by nobody else. The password
is not kept. Pipelines may set AMBIDEX_SERVER and AMBIDEX_TOKEN instead.

Examples:
    ambidex login --server https://updates.example.com --email me@example.com
    ambidex login --server https://localhost:8443 --server-cert server.crt --email me@example.com --password-file pw
    ambidex login --forget")]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// Who logs in; asked for when not given.
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,
    /// File with the password on its first line; asked for when not given.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Code of the second factor, where it is switched on.
    #[arg(long = "token2fa", value_name = "CODE")]
    second_factor: Option<String>,
    /// Forget the login of this profile.
    #[arg(long)]
    forget: bool,
}

impl Arguments {
    pub async fn run(self) -> Result<(), Failure> {
        let connection = &self.connection;
        if self.forget {
            let was_there = Profile::remove(&connection.profile)?;
            eprintln!(
                "{}",
                if was_there {
                    "The login is forgotten."
                } else {
                    "There was no login."
                }
            );
            return Ok(());
        }
        let (api, base) = connection.anonymous()?;
        let email = match &self.email {
            Some(email) => email.clone(),
            None => ask("Email: ")?,
        };
        let password = match &self.password_file {
            Some(path) => read_password(path)?,
            None if io::stdin().is_terminal() => {
                rpassword::prompt_password("Password: ").context("cannot read the password")?
            }
            None => {
                return Err(Failure::usage(
                    "there is no terminal to ask for the password; use --password-file",
                ));
            }
        };
        let token = api
            .log_in(&email, &password, self.second_factor.as_deref())
            .await?;
        let server_cert = match &connection.server_cert {
            Some(path) => Some(
                fs::canonicalize(path)
                    .with_context(|| format!("cannot find {}", path.display()))?,
            ),
            None => None,
        };
        let path = Profile {
            server: base.to_string(),
            token,
            server_cert,
        }
        .save(&connection.profile)?;
        eprintln!(
            "Logged in at {base} as {email}; the token is in {}.",
            path.display()
        );
        Ok(())
    }
}

fn ask(prompt: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask who logs in; use --email",
        ));
    }
    eprint!("{prompt}");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn read_password(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the password from {}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
