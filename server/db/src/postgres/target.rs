//! Which server, from the URL that the operator gave.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::{self, Tls, Trust};
use crate::DbError;

/// Until a server answers; a host that swallows packets must not hold up the health check.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed after this time and given up after three more probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;
/// Data that nobody confirms for this long means that the connection is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Where Debian's servers listen.
const SOCKET_DIR: &str = "/var/run/postgresql";

/// How to connect. The password never shows in texts.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// `postgres://host:port/database`
    pub(super) label: String,
}

impl Target {
    /// Reads `postgres://user:password@host:port/database?option=value`.
    ///
    /// # Errors
    /// [`DbError::Other`] with a text that shows neither user nor password.
    pub(super) fn parse(url: &str) -> Result<Target, DbError> {
        let fail = |reason: String| {
            DbError::Other(format!(
                "the database URL is not usable: {reason}; the form is postgres://user@host/database"
            ))
        };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(fail("it does not begin with postgres://".to_owned()));
        }
        let (plain, ssl) = Ssl::take(url).map_err(fail)?;
        let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            // The cause names the option, never its value.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            fail(cause.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            if PathBuf::from(SOCKET_DIR).is_dir() {
                config.host_path(SOCKET_DIR);
            } else {
                config.host("localhost");
            }
        }
        config.ssl_mode(ssl.mode);
        if config.get_application_name().is_none() {
            config.application_name("ambidex-server");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE)
            .keepalives_retries(KEEPALIVE_PROBES);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(USER_TIMEOUT);
        }
        let tls = tls::connector(ssl.trust, ssl.roots.as_deref()).map_err(fail)?;
        Ok(Target {
            label: label(&config),
            config,
            tls,
        })
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label)
    }
}

fn label(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => config
            .get_hostaddrs()
            .first()
            .map_or_else(String::new, ToString::to_string),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("postgres://{host}:{port}/{database}")
}

/// The options about TLS, which the driver knows in part only.
struct Ssl {
    mode: SslMode,
    trust: Trust,
    roots: Option<PathBuf>,
}

impl Ssl {
    /// Takes the options out of the URL.
    fn take(url: &str) -> Result<(String, Ssl), String> {
        let mut ssl = Ssl {
            mode: SslMode::Prefer,
            trust: Trust::Anybody,
            roots: None,
        };
        let Some((address, query)) = url.split_once('?') else {
            return Ok((url.to_owned(), ssl));
        };
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => {
                    (ssl.mode, ssl.trust) = match mode {
                        "disable" => (SslMode::Disable, Trust::Anybody),
                        "allow" | "prefer" => (SslMode::Prefer, Trust::Anybody),
                        "require" => (SslMode::Require, Trust::Anybody),
                        "verify-ca" | "verify-full" => (SslMode::Require, Trust::Verified),
                        _ => {
                            return Err("sslmode is none of disable, prefer, require, verify-full"
                                .to_owned());
                        }
                    };
                }
                Some(("sslrootcert", "system")) => {}
                Some(("sslrootcert", path)) => ssl.roots = Some(PathBuf::from(decoded(path))),
                _ => rest.push(pair),
            }
        }
        // As libpq: who names a certificate wants it to be checked.
        if ssl.roots.is_some() && ssl.mode == SslMode::Require {
            ssl.trust = Trust::Verified;
        }
        let plain = if rest.is_empty() {
            address.to_owned()
        } else {
            format!("{address}?{}", rest.join("&"))
        };
        Ok((plain, ssl))
    }
}

/// Percent-decodes a path.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, label, mode) in [
            (
                "postgres://u:s3cret@h/db",
                "postgres://h:5432/db",
                SslMode::Prefer,
            ),
            (
                "postgresql://u@h:6000/db?sslmode=verify-full&connect_timeout=3",
                "postgres://h:6000/db",
                SslMode::Require,
            ),
            (
                "postgres://%2Frun%2Fpg/db?sslmode=disable",
                "postgres:///run/pg:5432/db",
                SslMode::Disable,
            ),
            (
                "postgres://u@h/db?options=-c%20search_path%3Dx&sslmode=require",
                "postgres://h:5432/db",
                SslMode::Require,
            ),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.label, label);
            assert_eq!(target.config.get_ssl_mode(), mode, "{url}");
            assert!(!format!("{target:?}").contains("s3cret"));
        }
    }

    #[test]
    fn bad_urls_are_refused_without_their_secrets() {
        for (url, hint) in [
            ("mysql://u:s3cret@h/db", "postgres://"),
            ("postgres://u:s3cret@h:port/db", "port"),
            ("postgres://u:s3cret@h/db?sslmode=s3cret", "verify-full"),
            ("postgres://u:s3cret@h/db?colour=s3cret", "colour"),
            (
                "postgres://u:s3cret@h/db?sslmode=require&sslrootcert=%2Fno%2Fsuch",
                "/no/such",
            ),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(hint) && !error.contains("s3cret"), "{error}");
        }
    }
}
