//! Which server, as whom.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use reqwest::Url;

use super::api::Api;
use super::profile::{self, Profile};
use super::tls;
use crate::exit::{Code, Failure};

/// How long to wait for a connection, and for the next bytes of an answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const READ_LIMIT: Duration = Duration::from_secs(120);

/// Options of every verb that talks to a server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct Connection {
    /// Server to talk to [default: that of the last login].
    #[arg(long, global = true, value_name = "URL", env = "AMBIDEX_SERVER")]
    pub server: Option<String>,
    /// Name under which a login is kept.
    #[arg(long, global = true, value_name = "NAME", env = "AMBIDEX_PROFILE", default_value = "default", value_parser = profile::check_name)]
    pub profile: String,
    /// Certificate of the server or of its authority, PEM, where it is not a public one.
    #[arg(long, global = true, value_name = "FILE", env = "AMBIDEX_SERVER_CERT")]
    pub server_cert: Option<PathBuf>,
    /// Do not check the server's certificate, and send secrets over plain HTTP.
    #[arg(long, global = true)]
    pub insecure: bool,
    /// Token to use instead of a login, for pipelines.
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "AMBIDEX_TOKEN",
        hide_env_values = true,
        hide = true
    )]
    pub token: Option<String>,
}

impl Connection {
    /// A client with the token of the login.
    pub fn api(&self) -> Result<Api, Failure> {
        let stored = Profile::load(&self.profile)?;
        let server = match (&self.server, &stored) {
            (Some(server), _) => server.clone(),
            (None, Some(stored)) => stored.server.clone(),
            (None, None) => return Err(not_logged_in("no server is known")),
        };
        let base = base_url(&server)?;
        let token = match (&self.token, &stored) {
            (Some(token), _) => token.clone(),
            // A token goes to the server that gave it, and to no other.
            (None, Some(stored)) if base_url(&stored.server).is_ok_and(|known| known == base) => {
                stored.token.clone()
            }
            (None, Some(_)) => {
                return Err(not_logged_in(&format!(
                    "the login of this profile is not for {base}"
                )));
            }
            (None, None) => return Err(not_logged_in("there is no login")),
        };
        let certificate = self
            .server_cert
            .clone()
            .or_else(|| stored.and_then(|stored| stored.server_cert));
        Ok(Api::new(
            self.http(certificate)?,
            self.checked(base)?,
            Some(token),
        ))
    }

    /// A client without a token, to log in with.
    pub fn anonymous(&self) -> Result<(Api, Url), Failure> {
        let stored = Profile::load(&self.profile)
            .ok()
            .flatten()
            .map(|stored| stored.server);
        let Some(server) = self.server.clone().or(stored) else {
            return Err(Failure::usage(
                "name the server: ambidex login --server URL",
            ));
        };
        let base = self.checked(base_url(&server)?)?;
        Ok((
            Api::new(self.http(self.server_cert.clone())?, base.clone(), None),
            base,
        ))
    }

    fn checked(&self, base: Url) -> Result<Url, Failure> {
        // Bracketed addresses are version 6.
        let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let local = host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        if base.scheme() == "http" && !local && !self.insecure {
            return Err(Failure::usage(format!(
                "{base} is not encrypted, and the password or token would be; use https, or --insecure if the way is safe"
            )));
        }
        Ok(base)
    }

    fn http(&self, certificate: Option<PathBuf>) -> Result<reqwest::Client, Failure> {
        let config = tls::client_config(certificate.as_deref(), self.insecure)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("ambidex/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(READ_LIMIT)
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(client)
    }
}

fn not_logged_in(why: &str) -> Failure {
    Failure {
        code: Code::Refused,
        error: anyhow::anyhow!("{why}; log in first: ambidex login --server URL"),
    }
}

/// The address without path, query and user.
fn base_url(text: &str) -> Result<Url, Failure> {
    // What people type without a scheme is the public service of a host.
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let mut base = Url::parse(&text)
        .map_err(|error| Failure::usage(format!("{text:?} is no URL of a server: {error}")))?;
    if !["http", "https"].contains(&base.scheme())
        || base.host_str().is_none()
        || !base.username().is_empty()
    {
        return Err(Failure::usage(format!(
            "{text:?} is no URL of a server; it looks like https://updates.example.com"
        )));
    }
    base.set_path("/");
    base.set_query(None);
    base.set_fragment(None);
    Ok(base)
}
