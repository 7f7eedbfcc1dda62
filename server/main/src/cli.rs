//! The command line (design: contract, ambidex-server).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::tenancy::TenancyArgs;
const EXAMPLES: &str = "\
First steps:
  ambidex-server user create --email you@example.com    make a user; asks for a password
  ambidex-server serve                                  run on http://127.0.0.1:8080

Every option of serve is also an environment variable (shown in its help) and a line of the
configuration file, with underscores instead of dashes. The command line wins over the
environment, the environment over the file.

The administration verbs work whether the server runs or not; give them the same --data-dir.
Exit codes: 0 done, 1 failure, 2 wrong usage.";

const SERVE_EXAMPLES: &str = "\
Examples:
  ambidex-server serve --data-dir ./data
  ambidex-server serve --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem \\
      --public-url https://updates.example.com
  ambidex-server serve --multi-tenant --log-format json --access-log

Monitoring asks the internal listener: /metrics for Prometheus, and for each service
/api/internal/v1/SERVICE/alive (the process answers) and /health (its database works, too).
SIGTERM and SIGINT finish the requests in flight, then stop.";

const USER_EXAMPLES: &str = "\
Examples:
  ambidex-server user create --email you@example.com
  ambidex-server user create --email ci@example.com --password-file - --role RBAC_ROLE_CI <secret
  ambidex-server user set-password --email you@example.com
  ambidex-server user list";

const TENANT_EXAMPLES: &str = "\
For a server that runs with --multi-tenant. Examples:
  ambidex-server tenant create --name Acme --email boss@acme.example
  ambidex-server tenant show ID       as JSON, with the tenant_token that its devices present
  ambidex-server tenant list";

const BACKUP_EXAMPLES: &str = "\
Examples:
  ambidex-server backup /backup/ambidex-$(date +%F).tar.zst
  ambidex-server restore --check /backup/ambidex-2026-01-31.tar.zst";

const RESTORE_EXAMPLES: &str = "\
Examples:
  ambidex-server restore /backup/ambidex-2026-01-31.tar.zst
  ambidex-server restore --data-dir /srv/copy /backup/ambidex-2026-01-31.tar.zst
  ambidex-server restore --force /backup/ambidex-2026-01-31.tar.zst";

/// Over-the-air updates for devices: the server and its administration verbs.
#[derive(Debug, Parser)]
#[command(name = "ambidex-server", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Where the data is. Every verb takes these.
#[derive(Debug, Default, Args)]
pub(crate) struct StoreArgs {
    /// Directory of the embedded database, artifacts and signing keys [default: /var/lib/ambidex-server]
    #[arg(long, value_name = "DIR", env = "AMBIDEX_DATA_DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Database: `sqlite:` for the embedded one in the data directory, `sqlite:FILE`, or `postgres://USER:PASSWORD@HOST/DATABASE` [default: sqlite:]
    #[arg(
        long,
        value_name = "URL",
        env = "AMBIDEX_DATABASE_URL",
        hide_env_values = true,
        global = true
    )]
    pub(crate) database_url: Option<String>,
    /// Artifacts: `file:` for the data directory, `file:DIR`, or `s3://BUCKET[/PREFIX]?endpoint=URL` with keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in a file, `&credentials=FILE` [default: file:]
    #[arg(
        long,
        value_name = "URL",
        env = "AMBIDEX_STORAGE_URL",
        hide_env_values = true,
        global = true
    )]
    pub(crate) storage_url: Option<String>,
    /// Configuration file in TOML [default: /etc/ambidex/server.toml if present]
    #[arg(long, value_name = "FILE", env = "AMBIDEX_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the server
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Administer users
    #[command(subcommand, after_help = USER_EXAMPLES)]
    User(UserVerb),
    /// Administer tenants
    #[command(subcommand, after_help = TENANT_EXAMPLES)]
    Tenant(TenantVerb),
    /// Bring the database up to date and say what was done (serve does it as well)
    ///
    /// Prints one line a step that was applied. Safe to repeat; stop servers of an older version first.
    Migrate,
    /// Save the database, the keys and the artifacts into one file, beside a running server
    ///
    /// The file holds one moment of the database and exactly the artifacts that it names. It is written whole or
    /// not at all, readable by its owner only, and read back with every checksum before this succeeds.
    ///
    /// For PostgreSQL use pg_dump, for artifacts in S3 the versioning or replication of the bucket, and keep a copy
    /// of the keys directory of the data directory.
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup {
        /// The file to write; it must not exist
        file: PathBuf,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Put what `backup` saved in the place of the data directory, with the server stopped
    ///
    /// Every byte is checked and this version is proved to work with the data before anything is replaced; the
    /// change itself is one step. The data directory must be empty unless --force is given, which keeps what was
    /// there beside it.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore {
        /// A file that `backup` wrote
        file: PathBuf,
        /// Replace what is in the data directory; it is kept as DIR.before-restore-TIME
        #[arg(long)]
        force: bool,
        /// Only check the file
        #[arg(long, conflicts_with = "force")]
        check: bool,
    },
    /// Print the API as an OpenAPI document; the server serves it at /api/openapi.json
    Openapi,
}

/// Options of `serve`.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Public listener: devices, management [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "AMBIDEX_LISTEN")]
    pub(crate) listen: Option<String>,
    /// Internal listener; keep it unreachable from outside [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR", env = "AMBIDEX_INTERNAL_LISTEN")]
    pub(crate) internal_listen: Option<String>,
    /// Messages between several instances: `nats://USER:PASSWORD@HOST:PORT`, or `tls://…`
    #[arg(
        long,
        value_name = "URL",
        env = "AMBIDEX_NATS_URL",
        hide_env_values = true
    )]
    pub(crate) nats_url: Option<String>,
    /// How devices and browsers reach this server, for download links [default: from each request]
    #[arg(long, value_name = "URL", env = "AMBIDEX_PUBLIC_URL")]
    pub(crate) public_url: Option<String>,
    /// Certificate chain in PEM; the public listener then speaks TLS
    #[arg(long, value_name = "FILE", env = "AMBIDEX_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, value_name = "FILE", env = "AMBIDEX_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve several tenants: devices need a tenant token
    #[arg(long, env = "AMBIDEX_MULTI_TENANT")]
    pub(crate) multi_tenant: bool,
    /// Mail server: smtp://USER:PASSWORD@HOST:PORT or smtps://…, with ?from=ADDRESS, ?starttls=required,
    /// opportunistic or never, ?ca=FILE [default: no mail is sent]
    #[arg(
        long,
        value_name = "URL",
        env = "AMBIDEX_SMTP_URL",
        hide_env_values = true
    )]
    pub(crate) smtp_url: Option<String>,
    /// Programs that workflows may run, by absolute path, divided by commas [default: none]
    #[arg(
        long,
        value_name = "FILES",
        env = "AMBIDEX_WORKFLOW_BINARIES",
        value_delimiter = ','
    )]
    pub(crate) workflow_binaries: Vec<String>,
    #[command(flatten)]
    pub(crate) tenancy: TenancyArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What is logged, and how. Logs go to standard error.
#[derive(Debug, Default, Args)]
pub(crate) struct LogArgs {
    /// Lines for people, or one JSON object a line [default: text]
    #[arg(long, value_name = "FORMAT", value_enum, env = "AMBIDEX_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// error, warn, info, debug or trace; also by part: `ambidex_devauth=debug,info` [default: info]
    #[arg(long, value_name = "LEVEL", env = "AMBIDEX_LOG")]
    pub(crate) log_level: Option<String>,
    /// Log one line a request at level info; without it at level debug
    #[arg(long, env = "AMBIDEX_ACCESS_LOG")]
    pub(crate) access_log: bool,
}

/// Forms of a log line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// A password from the command line, a file or a prompt.
#[derive(Args)]
pub(crate) struct PasswordArgs {
    /// The password; other users of this machine can see it while the command runs
    #[arg(long, value_name = "PASSWORD", conflicts_with = "password_file")]
    pub(crate) password: Option<String>,
    /// File whose first line is the password; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

impl std::fmt::Debug for PasswordArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordArgs")
    }
}

/// Verbs about users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    /// Create a user; prints its id
    Create {
        /// Login name
        #[arg(long)]
        email: String,
        #[command(flatten)]
        password: PasswordArgs,
        /// Tenant of the user, on a server of several
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Role of the user; may be repeated [default: full access]
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// List users
    List {
        /// Only users of this tenant, on a server of several
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Set a user's password and end all its sessions
    SetPassword {
        /// Login name
        #[arg(long)]
        email: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
}

/// Plans of a tenant.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PlanName {
    Os,
    Professional,
    Enterprise,
}

/// Verbs about tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantVerb {
    /// Create a tenant with its first user; prints the tenant's id
    Create {
        /// Name of the organisation
        #[arg(long)]
        name: String,
        /// Login name of the first user
        #[arg(long)]
        email: String,
        #[command(flatten)]
        password: PasswordArgs,
        /// Plan
        #[arg(long, value_enum, default_value = "enterprise")]
        plan: PlanName,
    },
    /// Print a tenant as JSON, with its tenant token
    Show {
        /// Tenant id
        id: String,
    },
    /// List tenants
    List,
    /// Suspend a tenant: sessions and device tokens end at once, data is kept
    Suspend {
        /// Tenant id
        id: String,
    },
    /// Activate a tenant that is suspended, has cancelled or was never activated
    Activate {
        /// Tenant id
        id: String,
    },
    /// Give a tenant a plan; a trial ends
    SetPlan {
        /// Tenant id
        id: String,
        /// Plan
        plan: PlanName,
        /// Add-ons, separated by commas; the others are switched off [default: as they are]
        #[arg(long, value_enum, value_delimiter = ',', num_args = 0..)]
        addons: Option<Vec<AddonName>>,
    },
    /// Limit what a tenant may do; what is not named is kept
    SetLimits {
        /// Tenant id
        id: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
}

/// Add-ons of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AddonName {
    Configure,
    Troubleshoot,
    Monitor,
}

/// Limits of a tenant.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct LimitArgs {
    /// Devices that may be accepted; 0 for any number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) devices: Option<u64>,
    /// Calls that each user may make: CALLS/SECONDS, or none
    #[arg(long, value_name = "QUOTA")]
    pub(crate) management_quota: Option<String>,
    /// Calls that each device may make: CALLS/SECONDS, or none
    #[arg(long, value_name = "QUOTA")]
    pub(crate) device_quota: Option<String>,
    /// One call of each user in so many seconds: "METHOD PATH SECONDS"; may be repeated, or none
    #[arg(long = "management-burst", value_name = "RULE")]
    pub(crate) management_bursts: Option<Vec<String>>,
    /// One call of each device in so many seconds: "METHOD PATH SECONDS"; may be repeated, or none
    #[arg(long = "device-burst", value_name = "RULE")]
    pub(crate) device_bursts: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
