//! The command line (design: contract, ambidex-server).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Over-the-air updates for devices: the server and its administration verbs.
#[derive(Debug, Parser)]
#[command(name = "ambidex-server", version, propagate_version = true)]
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
    Serve(ServeArgs),
    /// Administer users
    #[command(subcommand)]
    User(UserVerb),
    /// Administer tenants
    #[command(subcommand)]
    Tenant(TenantVerb),
    /// Bring the database up to date (serve does it as well)
    Migrate,
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
    /// Mail server
    #[arg(
        long,
        value_name = "URL",
        env = "AMBIDEX_SMTP_URL",
        hide_env_values = true
    )]
    pub(crate) smtp_url: Option<String>,
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
