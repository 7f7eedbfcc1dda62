//! What the server is told: command line, environment, configuration file, defaults, in this order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ambidex_db::Db;
use ambidex_mail::Mailer;
use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::address;
use crate::cli::{LogFormat, ServeArgs, StoreArgs};
use crate::tenancy::{BillingName, Tenancy, TenancyArgs};

const DEFAULT_FILE: &str = "/etc/ambidex/server.toml";
const DEFAULT_DATA_DIR: &str = "/var/lib/ambidex-server";

/// The configuration file: the flags' names with underscores.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    listen: Option<String>,
    internal_listen: Option<String>,
    data_dir: Option<PathBuf>,
    database_url: Option<String>,
    storage_url: Option<String>,
    nats_url: Option<String>,
    public_url: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    multi_tenant: Option<bool>,
    smtp_url: Option<String>,
    self_sign_up: Option<bool>,
    billing: Option<BillingName>,
    trial_days: Option<u32>,
    notice_days: Option<u32>,
    recaptcha_secret: Option<String>,
    recaptcha_url: Option<String>,
    support_email: Option<String>,
    default_tenant_token: Option<String>,
    rate_limit_per_address: Option<u64>,
    trusted_proxies: Option<Vec<String>>,
    workflow_binaries: Option<Vec<String>>,
    log_format: Option<LogFormat>,
    log_level: Option<String>,
    access_log: Option<bool>,
}

impl File {
    fn take_tenancy(&mut self) -> TenancyArgs {
        TenancyArgs {
            self_sign_up: self.self_sign_up.unwrap_or(false),
            billing: self.billing,
            trial_days: self.trial_days,
            notice_days: self.notice_days,
            recaptcha_secret: self.recaptcha_secret.take(),
            recaptcha_url: self.recaptcha_url.take(),
            support_email: self.support_email.take(),
            default_tenant_token: self.default_tenant_token.take(),
            rate_limit_per_address: self.rate_limit_per_address,
            trusted_proxies: self.trusted_proxies.take().unwrap_or_default(),
        }
    }

    fn read(named: Option<&Path>) -> anyhow::Result<File> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => File::parse(&text)
                .with_context(|| format!("the configuration file {}", path.display())),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(File::default())
            }
            Err(error) => Err(error)
                .with_context(|| format!("cannot read the configuration file {}", path.display())),
        }
    }

    fn parse(text: &str) -> anyhow::Result<File> {
        // The error of the parser would quote the line, which may hold a password.
        toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| text[..span.start.min(text.len())].lines().count().max(1));
            let line = line.map_or(String::new(), |line| format!(" near line {line}"));
            anyhow::anyhow!("is not valid{line}: {}", error.message())
        })
    }
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Store {
    pub(crate) data_dir: PathBuf,
    pub(crate) database: Database,
    pub(crate) artifacts: Artifacts,
}

/// Where everything but artifacts is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Database {
    /// The embedded database in this file.
    File(PathBuf),
    /// A PostgreSQL server.
    Postgres(Secret),
}

impl Database {
    /// # Errors
    /// When it cannot be reached or used; no error shows a password.
    pub(crate) fn open(&self) -> anyhow::Result<Db> {
        match self {
            Database::File(path) => Ok(Db::open_sqlite(path)?),
            Database::Postgres(url) => Db::open_postgres(&url.0).context("--database-url"),
        }
    }
}

/// Where artifacts are.
#[derive(Clone, PartialEq)]
pub(crate) enum Artifacts {
    /// Files in a directory.
    Dir(PathBuf),
    /// A bucket, by its URL.
    S3(String),
}

impl std::fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Artifacts::Dir(dir) => f.debug_tuple("Dir").field(dir).finish(),
            Artifacts::S3(url) => f.debug_tuple("S3").field(&scheme(url)).finish(),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: Option<String>,
    /// Requests at level info.
    pub(crate) access: bool,
}

impl Log {
    /// For the administration verbs, whose output is not a log: what the environment says.
    pub(crate) fn of_a_verb() -> Log {
        Log {
            level: std::env::var("AMBIDEX_LOG").ok(),
            ..Log::default()
        }
    }
}

/// A URL that may hold a password.
#[derive(Clone, PartialEq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&scheme(&self.0))
    }
}

/// Everything `serve` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Serve {
    pub(crate) store: Store,
    pub(crate) listen: SocketAddr,
    pub(crate) internal_listen: SocketAddr,
    pub(crate) nats: Option<Secret>,
    pub(crate) public_url: Option<String>,
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) multi_tenant: bool,
    pub(crate) tenancy: Tenancy,
    pub(crate) mailer: Mailer,
    /// Programs that workflows may run.
    pub(crate) workflow_binaries: Vec<String>,
    pub(crate) log: Log,
}

impl Store {
    /// For the administration verbs.
    pub(crate) fn load(args: StoreArgs) -> anyhow::Result<Store> {
        let file = File::read(args.config.as_deref())?;
        Store::merge(args, &file)
    }

    fn merge(args: StoreArgs, file: &File) -> anyhow::Result<Store> {
        let data_dir = args
            .data_dir
            .or_else(|| file.data_dir.clone())
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
        let database = match args.database_url.or_else(|| file.database_url.clone()) {
            None => Database::File(data_dir.join("server.db")),
            Some(url) if url.starts_with("postgres:") || url.starts_with("postgresql:") => {
                Database::Postgres(Secret(url))
            }
            Some(url) => match local_path(&url, "sqlite") {
                Some(path) => Database::File(path.unwrap_or_else(|| data_dir.join("server.db"))),
                None => bail!(
                    "--database-url {}: use sqlite: for the embedded database or postgres://USER@HOST/DATABASE",
                    scheme(&url)
                ),
            },
        };
        let artifacts = match args.storage_url.or_else(|| file.storage_url.clone()) {
            None => Artifacts::Dir(data_dir.join("artifacts")),
            Some(url) if url.starts_with("s3:") => Artifacts::S3(url),
            Some(url) => match local_path(&url, "file") {
                Some(path) => Artifacts::Dir(path.unwrap_or_else(|| data_dir.join("artifacts"))),
                None => bail!(
                    "--storage-url {}: artifacts are kept in a directory, file:DIR, or in a bucket of an S3 server, s3://BUCKET?endpoint=URL",
                    scheme(&url)
                ),
            },
        };
        Ok(Store {
            data_dir,
            database,
            artifacts,
        })
    }
}

impl Serve {
    pub(crate) fn load(store: StoreArgs, args: ServeArgs) -> anyhow::Result<Serve> {
        let file = File::read(store.config.as_deref())?;
        Serve::merge(store, args, file)
    }

    fn merge(store: StoreArgs, args: ServeArgs, mut file: File) -> anyhow::Result<Serve> {
        let store = Store::merge(store, &file)?;
        let mailer = match args.smtp_url.or_else(|| file.smtp_url.take()) {
            Some(url) => Mailer::smtp(&url, None).context("--smtp-url")?,
            None => Mailer::none(),
        };
        let multi_tenant = args.multi_tenant || file.multi_tenant.unwrap_or(false);
        let from_file = file.take_tenancy();
        let tls = match (
            args.tls_cert.or(file.tls_cert),
            args.tls_key.or(file.tls_key),
        ) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                bail!("--tls-cert needs --tls-key, the private key of the certificate")
            }
            (None, Some(_)) => bail!("--tls-key needs --tls-cert, the certificate of the key"),
        };
        let public_url = args
            .public_url
            .or(file.public_url)
            .map(|url| address::public_url(&url))
            .transpose()?;
        let workflow_binaries = match args.workflow_binaries {
            own if own.is_empty() => file.workflow_binaries.unwrap_or_default(),
            own => own,
        };
        for program in &workflow_binaries {
            if !Path::new(program).is_absolute() {
                bail!("--workflow-binaries {program}: give the absolute path of the program");
            }
        }
        let listen = args.listen.or(file.listen);
        let internal = args.internal_listen.or(file.internal_listen);
        Ok(Serve {
            store,
            listen: address::resolve("--listen", listen.as_deref().unwrap_or("127.0.0.1:8080"))?,
            internal_listen: address::resolve(
                "--internal-listen",
                internal.as_deref().unwrap_or("127.0.0.1:8081"),
            )?,
            nats: args.nats_url.or(file.nats_url).map(Secret),
            public_url,
            tls,
            multi_tenant,
            tenancy: Tenancy::merge(
                args.tenancy,
                from_file,
                multi_tenant,
                mailer.is_configured(),
            )?,
            mailer,
            workflow_binaries,
            log: Log {
                format: args.log.log_format.or(file.log_format).unwrap_or_default(),
                level: args.log.log_level.or(file.log_level),
                access: args.log.access_log || file.access_log.unwrap_or(false),
            },
        })
    }
}

/// `scheme:`, `scheme:PATH` and `scheme://PATH`: the path, if the scheme is the wanted one.
fn local_path(url: &str, wanted: &str) -> Option<Option<PathBuf>> {
    let rest = url.strip_prefix(wanted)?.strip_prefix(':')?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    Some((!path.is_empty()).then(|| PathBuf::from(path)))
}

/// What of a URL may be shown: the rest may hold a password.
fn scheme(url: &str) -> String {
    match url.split_once(':') {
        Some((scheme, _))
            if scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'+') =>
        {
            format!("{scheme}:…")
        }
        _ => "(not a URL)".to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn store(data_dir: Option<&str>, database_url: Option<&str>) -> StoreArgs {
        StoreArgs {
            data_dir: data_dir.map(PathBuf::from),
            database_url: database_url.map(str::to_owned),
            ..StoreArgs::default()
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_defaults() {
        let file =
            File::parse("listen = '127.0.0.1:1'\ndata_dir = '/a'\nmulti_tenant = true").unwrap();
        let args = ServeArgs {
            listen: Some("127.0.0.1:2".to_owned()),
            ..ServeArgs::default()
        };
        let config = Serve::merge(store(None, None), args, file).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.internal_listen.port(), 8081);
        assert_eq!(config.store.database, Database::File("/a/server.db".into()));
        assert_eq!(
            config.store.artifacts,
            Artifacts::Dir("/a/artifacts".into())
        );
        assert!(config.multi_tenant);
        let config = Serve::merge(
            store(Some("/b"), None),
            ServeArgs::default(),
            File::default(),
        );
        assert_eq!(config.unwrap().store.data_dir, Path::new("/b"));
    }

    #[test]
    fn what_this_version_lacks_is_refused_without_showing_secrets() {
        let refused = |store: StoreArgs, args: ServeArgs| {
            let error = Serve::merge(store, args, File::default())
                .unwrap_err()
                .to_string();
            assert!(!error.contains("secret"), "{error}");
            error
        };
        let url = || Some("mysql://u:secret@h/db".to_owned());
        let plain = || store(None, None);
        let with = |change: fn(&mut ServeArgs)| {
            let mut args = ServeArgs::default();
            change(&mut args);
            args
        };
        let postgres = refused(store(None, url().as_deref()), ServeArgs::default());
        assert!(postgres.contains("sqlite:"), "{postgres}");
        let mut elsewhere = plain();
        elsewhere.storage_url = Some("ftp://secret@x".to_owned());
        let storage = refused(elsewhere, ServeArgs::default());
        assert!(storage.contains("file:DIR"), "{storage}");
        refused(
            plain(),
            with(|a| a.smtp_url = Some("smtp://u:secret@h?from=nobody".to_owned())),
        );
        refused(plain(), with(|a| a.tls_cert = Some("cert.pem".into())));
        refused(plain(), with(|a| a.tls_key = Some("key.pem".into())));
        refused(plain(), with(|a| a.listen = Some("nonsense".to_owned())));
        refused(
            plain(),
            with(|a| a.workflow_binaries = vec!["sh".to_owned()]),
        );
        refused(plain(), with(|a| a.public_url = Some("ftp://x".to_owned())));
    }

    #[test]
    fn addresses_of_other_servers_are_not_shown() {
        let mut place = store(None, Some("postgres://u:secret@h/d"));
        place.storage_url = Some("s3://secret?endpoint=http://h".to_owned());
        let args = ServeArgs {
            nats_url: Some("nats://u:secret@h".to_owned()),
            ..ServeArgs::default()
        };
        let config = Serve::merge(place, args, File::default()).unwrap();
        assert!(matches!(config.store.artifacts, Artifacts::S3(_)));
        let shown = format!("{config:?}");
        assert!(
            shown.contains("nats:…") && !shown.contains("secret"),
            "{shown}"
        );
    }

    #[test]
    fn unknown_keys_and_bad_values_of_the_file_are_named() {
        let unknown = File::parse("listne = 'x'").unwrap_err().to_string();
        assert!(unknown.contains("listne"), "{unknown}");
        let broken = File::parse("listen = 'x'\nsmtp_url = 'secret")
            .unwrap_err()
            .to_string();
        assert!(
            broken.contains("line 2") && !broken.contains("secret"),
            "{broken}"
        );
    }
}
