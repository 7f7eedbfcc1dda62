//! From what the files say to what the agent uses: defaults, ranges, contradictions.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ambidex_machine::Gate;

use super::{
    BootConfig, BootKind, ClientCertificate, CommitConfig, Config, ConfigError, DownloadConfig,
    HttpConfig, KeySource, KeyType, Overrides, PollConfig, Roots, ScriptConfig, Spelling,
    TlsConfig, VerifyKey, Window,
    schema::{OneOrMany, Raw, RawConsent, RawDownload, RawWindow, Seconds},
};

/// Longest duration that any key may hold: ten years. Longer is a mistake, and overflows clocks.
const SECONDS_MAX: f64 = 315_360_000.0;

/// Most verification keys that are tried for one artifact.
const VERIFY_KEYS_MAX: usize = 64;

pub(super) fn check(
    raw: Raw,
    roots: Roots,
    files: Vec<PathBuf>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let origin = match files.as_slice() {
        [] => "the configuration (no file was found)".to_owned(),
        files => files
            .iter()
            .map(|f| format!("'{}'", f.display()))
            .collect::<Vec<_>>()
            .join(" and "),
    };
    let keys = Keys {
        origin,
        spelling: roots.spelling,
    };

    let servers = servers(&keys, &raw)?;
    let verify_keys = verify_keys(&keys, &raw)?;
    let security = raw.security.clone().unwrap_or_default();
    let module = path(security.pkcs11_module);
    let auth_private_key = security
        .auth_private_key
        .filter(|text| !text.is_empty())
        .map(|text| KeySource::new(text, module.as_deref()));
    keys.engine(
        "security.ssl_engine",
        security.ssl_engine.as_deref(),
        auth_private_key.as_ref(),
    )?;
    let tls = tls(&keys, &raw, module.as_deref(), overrides)?;

    let defaults = Defaults::default();
    let polls = PollConfig {
        update_interval: keys.seconds(
            "update_poll_interval_seconds",
            raw.update_poll_interval_seconds,
            defaults.update,
        )?,
        inventory_interval: keys.seconds(
            "inventory_poll_interval_seconds",
            raw.inventory_poll_interval_seconds,
            defaults.inventory,
        )?,
        retry_interval_min: keys.seconds(
            "retry_poll_first_seconds",
            raw.retry_poll_first_seconds,
            defaults.retry_first,
        )?,
        retry_interval_max: keys.seconds(
            "retry_poll_interval_seconds",
            raw.retry_poll_interval_seconds,
            defaults.retry,
        )?,
        retry_count: raw.retry_poll_count.unwrap_or(0),
    };
    let download_retry_count = raw.retry_download_count.unwrap_or(10);
    if !(1..=10_000).contains(&download_retry_count) {
        return Err(keys.bad("retry_download_count", "must be between 1 and 10000"));
    }
    let http = HttpConfig {
        connect_timeout: keys.seconds(
            "connect_timeout_seconds",
            raw.connect_timeout_seconds,
            30,
        )?,
        request_timeout: keys.seconds(
            "request_timeout_seconds",
            raw.request_timeout_seconds,
            120,
        )?,
        download_idle_timeout: keys.seconds(
            "download_idle_timeout_seconds",
            raw.download_idle_timeout_seconds,
            300,
        )?,
        download_retry_interval: keys.seconds(
            "retry_download_interval_seconds",
            raw.retry_download_interval_seconds,
            60,
        )?,
        download_retry_count,
    };
    let scripts = ScriptConfig {
        timeout: keys.seconds(
            "state_script_timeout_seconds",
            raw.state_script_timeout_seconds,
            3600,
        )?,
        retry_interval: keys.seconds(
            "state_script_retry_interval_seconds",
            raw.state_script_retry_interval_seconds,
            60,
        )?,
        retry_timeout: keys.seconds(
            "state_script_retry_timeout_seconds",
            raw.state_script_retry_timeout_seconds,
            1800,
        )?,
    };

    let log_level = match overrides.log_level {
        Some(level) => level,
        None => log_level(&keys, raw.daemon_log_level.as_deref())?,
    };
    #[cfg(feature = "remote-terminal")]
    let remote = remote(&keys, raw.remote, &roots)?;
    #[cfg(not(feature = "remote-terminal"))]
    if raw.remote.is_some() {
        log::warn!("the table 'remote' is ignored: this build has no remote access");
    }
    let device_tier = raw.device_tier.unwrap_or_else(|| "standard".to_owned());
    if !["standard", "system", "micro"].contains(&device_tier.as_str()) {
        return Err(keys.bad("device_tier", "must be 'standard', 'system' or 'micro'"));
    }
    let reboot_command = raw
        .reboot_command
        .unwrap_or_else(|| vec!["reboot".to_owned()]);
    if reboot_command.first().is_none_or(String::is_empty) {
        return Err(keys.bad(
            "reboot_command",
            "must name a program, for example [\"reboot\"]",
        ));
    }

    Ok(Config {
        servers,
        tls,
        tenant_token: raw
            .tenant_token
            .map(|t| t.trim().to_owned())
            .filter(|t| !t.is_empty()),
        device_tier,
        auth_private_key,
        key_type: key_type(&keys, security.key_type.as_deref())?,
        verify_keys,
        device_type_file: path(raw.device_type_file)
            .unwrap_or_else(|| roots.state.join("device_type")),
        polls,
        http,
        download: download(&keys, raw.download.unwrap_or_default(), &roots)?,
        scripts,
        module_timeout: keys.seconds(
            "module_timeout_seconds",
            raw.module_timeout_seconds,
            14_400,
        )?,
        update_log_path: path(raw.update_log_path).unwrap_or_else(|| roots.state.clone()),
        log_level,
        rootfs_part_a: raw.rootfs_part_a.filter(|p| !p.is_empty()),
        rootfs_part_b: raw.rootfs_part_b.filter(|p| !p.is_empty()),
        running_root: path(raw.running_root),
        verify_written: raw.verify_written.unwrap_or(false),
        rootfs_module: raw.rootfs_module.unwrap_or(false),
        boot: boot(&keys, raw.boot.unwrap_or_default())?,
        reboot_command,
        reboot_timeout: keys.seconds("reboot_timeout_seconds", raw.reboot_timeout_seconds, 600)?,
        commit: commit(&keys, raw.commit.unwrap_or_default())?,
        maintenance_window: raw
            .maintenance_window
            .map(|window| maintenance_window(&keys, window))
            .transpose()?,
        consent_before: consent(&keys, raw.consent.unwrap_or_default())?,
        dbus_login: raw.dbus_login.unwrap_or(true),
        #[cfg(feature = "remote-terminal")]
        remote,
        roots,
        files,
    })
}

/// Seconds of the poll intervals where nothing is configured (reference section 2).
struct Defaults {
    update: u64,
    inventory: u64,
    retry: u64,
    retry_first: u64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            update: 1800,
            inventory: 28_800,
            retry: 300,
            retry_first: 60,
        }
    }
}

/// Names keys in errors the way the user wrote them.
struct Keys {
    origin: String,
    spelling: Spelling,
}

impl Keys {
    /// A key as the file that is spoken of spells it.
    fn spelt(&self, key: &str) -> String {
        match self.spelling {
            Spelling::Native => key.to_owned(),
            Spelling::Reference => reference_name(key),
        }
    }

    fn bad(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Key {
            origin: self.origin.clone(),
            key: self.spelt(key),
            reason: reason.into(),
        }
    }

    /// Two keys of which only one may be there.
    fn both(&self, key: &str, other: &str, remedy: &str) -> ConfigError {
        let other = self.spelt(other);
        self.bad(
            key,
            format!("and '{other}' are both set: keep one of them{remedy}"),
        )
    }

    /// A positive duration. Zero in the reference spelling means the default, because released
    /// packages shipped zeros that turned into request storms.
    fn seconds(
        &self,
        key: &str,
        value: Option<Seconds>,
        default: u64,
    ) -> Result<Duration, ConfigError> {
        let Some(Seconds(value)) = value else {
            return Ok(Duration::from_secs(default));
        };
        if value == 0.0 && self.spelling == Spelling::Reference {
            log::warn!(
                "{}: the key '{}' is 0; {default} is used",
                self.origin,
                reference_name(key)
            );
            return Ok(Duration::from_secs(default));
        }
        if !(0.001..=SECONDS_MAX).contains(&value) {
            return Err(self.bad(
                key,
                format!("is {value}; give a number of seconds above 0, for example {default}"),
            ));
        }
        Ok(Duration::from_secs_f64(value))
    }

    /// The reference loads its keys through an engine of OpenSSL. The one for tokens is no news beside the
    /// URI of a token; what another one would load is unknown here.
    fn engine(
        &self,
        key: &str,
        engine: Option<&str>,
        source: Option<&KeySource>,
    ) -> Result<(), ConfigError> {
        match (engine, source) {
            (None | Some(""), _) | (Some("pkcs11"), Some(KeySource::Token(_))) => Ok(()),
            _ => Err(self.bad(
                key,
                "is set, but this agent loads keys itself: give a PEM file, or a pkcs11: URI",
            )),
        }
    }
}

/// `https_client.key` -> `HttpsClient.Key`.
fn reference_name(key: &str) -> String {
    key.split('.')
        .map(|part| {
            part.split('_')
                .map(|word| match word {
                    "url" => "URL".to_owned(),
                    "ssl" => "SSL".to_owned(),
                    word => {
                        let mut letters = word.chars();
                        letters.next().map_or_else(String::new, |first| {
                            first.to_ascii_uppercase().to_string() + letters.as_str()
                        })
                    }
                })
                .collect::<String>()
        })
        .collect::<Vec<_>>()
        .join(".")
}

fn path(text: Option<String>) -> Option<PathBuf> {
    text.filter(|t| !t.is_empty()).map(PathBuf::from)
}

fn servers(keys: &Keys, raw: &Raw) -> Result<Vec<String>, ConfigError> {
    let single = raw
        .server_url
        .as_deref()
        .map(str::trim)
        .filter(|url| !url.is_empty());
    let listed: Vec<&str> = raw
        .servers
        .iter()
        .flatten()
        .map(|server| server.url().trim())
        .filter(|url| !url.is_empty())
        .collect();
    match (single, listed.as_slice()) {
        (Some(_), [_, ..]) => {
            Err(keys.both("servers", "server_url", " (the list is tried in its order)"))
        }
        (Some(url), []) => Ok(vec![server(keys, "server_url", url)?]),
        (None, urls) => urls
            .iter()
            .map(|url| server(keys, "servers", url))
            .collect(),
    }
}

fn server(keys: &Keys, key: &str, text: &str) -> Result<String, ConfigError> {
    let url = reqwest::Url::parse(text).map_err(|error| {
        keys.bad(
            key,
            format!("holds '{text}', which is no URL ({error}); write it as https://HOST[:PORT]"),
        )
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(keys.bad(
            key,
            format!("holds '{text}'; write it as https://HOST[:PORT]"),
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(keys.bad(
            key,
            "holds a user or password, which a device does not log in with: remove it",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(keys.bad(
            key,
            format!("holds '{text}'; remove everything from '?' or '#' on"),
        ));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn tls(
    keys: &Keys,
    raw: &Raw,
    module: Option<&Path>,
    overrides: &Overrides,
) -> Result<TlsConfig, ConfigError> {
    let mut server_certificates: Vec<PathBuf> = match &raw.server_certificate {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one.into()],
        Some(OneOrMany::Many(many)) => many.iter().map(PathBuf::from).collect(),
    };
    server_certificates.extend(overrides.trusted_certificates.clone());
    server_certificates.retain(|path| !path.as_os_str().is_empty());

    let client = raw.https_client.clone().unwrap_or_default();
    let key = client
        .key
        .filter(|text| !text.is_empty())
        .map(|text| KeySource::new(text, module));
    keys.engine(
        "https_client.ssl_engine",
        client.ssl_engine.as_deref(),
        key.as_ref(),
    )?;
    let client = match (path(client.certificate), key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        (Some(_), None) => {
            return Err(keys.bad(
                "https_client.key",
                "is missing: the certificate needs its key",
            ));
        }
        (None, Some(_)) => {
            return Err(keys.bad(
                "https_client.certificate",
                "is missing: the key needs its certificate",
            ));
        }
    };
    Ok(TlsConfig {
        server_certificates,
        skip_verify: raw.skip_verify.unwrap_or(false) || overrides.skip_verify,
        client,
    })
}

fn verify_keys(keys: &Keys, raw: &Raw) -> Result<Vec<VerifyKey>, ConfigError> {
    let single = raw.artifact_verify_key.clone().filter(|p| !p.is_empty());
    let listed = raw.artifact_verify_keys.clone().unwrap_or_default();
    if single.is_some() && !listed.is_empty() {
        return Err(keys.both("artifact_verify_keys", "artifact_verify_key", ""));
    }
    if listed.len() > VERIFY_KEYS_MAX {
        return Err(keys.bad(
            "artifact_verify_keys",
            format!("lists more than {VERIFY_KEYS_MAX} keys"),
        ));
    }
    // an empty name must not turn the signature check off without a word
    listed
        .iter()
        .chain(&single)
        .map(|file| {
            let key = "artifact_verify_keys";
            let pem = std::fs::read_to_string(file).map_err(|error| {
                keys.bad(key, format!("names '{file}', which cannot be read ({error}): check the path"))
            })?;
            VerifyKey::from_pem(&pem).map_err(|error| {
                keys.bad(
                    key,
                    format!("names '{file}', which holds no usable key ({error}): give an RSA or ECDSA P-256 public key in PEM"),
                )
            })
        })
        .collect()
}

fn log_level(keys: &Keys, text: Option<&str>) -> Result<log::LevelFilter, ConfigError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        return Ok(log::LevelFilter::Info);
    };
    parse_log_level(text).ok_or_else(|| {
        keys.bad(
            "daemon_log_level",
            format!("is '{text}'; give trace, debug, info, warning, error or fatal"),
        )
    })
}

/// The level names of both spellings.
pub(crate) fn parse_log_level(text: &str) -> Option<log::LevelFilter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "trace" => log::LevelFilter::Trace,
        "debug" => log::LevelFilter::Debug,
        "info" => log::LevelFilter::Info,
        "warn" | "warning" => log::LevelFilter::Warn,
        "error" | "fatal" => log::LevelFilter::Error,
        _ => return None,
    })
}

fn key_type(keys: &Keys, text: Option<&str>) -> Result<KeyType, ConfigError> {
    match text {
        None | Some("" | "ed25519") => Ok(KeyType::Ed25519),
        Some("ecdsa-p256") => Ok(KeyType::EcdsaP256),
        Some("rsa") => Ok(KeyType::Rsa),
        Some(other) => Err(keys.bad(
            "security.key_type",
            format!("is '{other}'; give ed25519, ecdsa-p256 or rsa"),
        )),
    }
}

fn boot(keys: &Keys, raw: super::schema::RawBoot) -> Result<BootConfig, ConfigError> {
    let kind = match raw.kind.as_deref() {
        None | Some("" | "auto") => BootKind::Auto,
        Some("grub") => BootKind::Grub,
        Some("uboot") => BootKind::Uboot,
        Some("tools") => BootKind::Tools,
        Some("tryboot") => BootKind::Tryboot,
        Some("systemd-boot") => BootKind::SystemdBoot,
        Some("script") => BootKind::Script,
        Some(other) => {
            return Err(keys.bad(
                "boot.kind",
                format!(
                    "is '{other}'; give auto, grub, uboot, tools, tryboot, systemd-boot or script"
                ),
            ));
        }
    };
    let script = path(raw.script);
    if kind == BootKind::Script && script.is_none() {
        return Err(keys.bad(
            "boot.script",
            "is missing, though boot.kind is script".to_owned(),
        ));
    }
    let boot_parts = [raw.boot_part_a.unwrap_or(2), raw.boot_part_b.unwrap_or(3)];
    if boot_parts[0] == boot_parts[1] {
        return Err(keys.bad(
            "boot.boot_part_b",
            format!(
                "is {}, as boot.boot_part_a is; the slots need a boot partition each",
                boot_parts[1]
            ),
        ));
    }
    Ok(BootConfig {
        kind,
        env_dir: path(raw.env_dir),
        fw_env_config: path(raw.fw_env_config).unwrap_or_else(|| "/etc/fw_env.config".into()),
        autoboot_dir: path(raw.autoboot_dir),
        esp: path(raw.esp),
        boot_parts,
        firmware_dir: path(raw.firmware_dir),
        armed_file: path(raw.armed_file),
        script,
        prepare_slot: raw.prepare_slot.unwrap_or_default(),
    })
}

#[cfg(feature = "remote-terminal")]
fn remote(
    keys: &Keys,
    raw: Option<super::remote_schema::RawRemote>,
    roots: &Roots,
) -> Result<Option<ambidex_connect::Settings>, ConfigError> {
    if let Some(raw) = raw {
        return super::remote::settings(raw, &roots.state)
            .map_err(|(key, reason)| keys.bad(key, reason));
    }
    let Some((raw, files)) = super::mender_connect::read(roots) else {
        return Ok(None);
    };
    // a file of another program must not keep this one from its updates
    let settings = super::remote::settings(raw, &roots.state).unwrap_or_else(|(key, reason)| {
        let files: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
        log::error!(
            "{}: what is '{key}' in agent.toml {reason}; remote access stays off",
            files.join(" and ")
        );
        None
    });
    Ok(settings)
}

/// What a power cut in a download costs at most, unless told otherwise.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;
/// Less would be a flush for every handful of packets.
const CHECKPOINT_BYTES_MIN: u64 = 64 * 1024;

fn maintenance_window(keys: &Keys, raw: RawWindow) -> Result<Window, ConfigError> {
    let times = raw.times.unwrap_or_default();
    let mut window = Window::parse(&times, raw.time_zone.as_deref())
        .map_err(|reason| keys.bad("maintenance_window", reason))?;
    if let Some(phases) = raw.phases {
        let gates = gates(keys, "maintenance_window.phases", &phases)?;
        if gates.contains(&Gate::Commit) {
            return Err(keys.bad(
                "maintenance_window.phases",
                "must not hold 'commit': a system on trial cannot wait for days",
            ));
        }
        window.download = gates.contains(&Gate::Download);
        window.install = gates.contains(&Gate::Install);
        window.reboot = gates.contains(&Gate::Reboot);
    }
    window.needs_synchronised_clock = raw.needs_synchronised_clock.unwrap_or(true);
    Ok(window)
}

fn consent(keys: &Keys, raw: RawConsent) -> Result<Vec<Gate>, ConfigError> {
    gates(keys, "consent.before", &raw.before.unwrap_or_default())
}

fn gates(keys: &Keys, key: &str, words: &[String]) -> Result<Vec<Gate>, ConfigError> {
    let gate = |word: &String| {
        Gate::ALL
            .into_iter()
            .find(|gate| gate.as_str() == word)
            .ok_or_else(|| {
                let known = Gate::ALL.map(Gate::as_str).join("', '");
                keys.bad(key, format!("holds '{word}'; known are '{known}'"))
            })
    };
    words.iter().map(gate).collect()
}

/// Space that a download leaves to others, unless told otherwise.
const KEEP_FREE_BYTES: u64 = 64 * 1024 * 1024;

fn download(keys: &Keys, raw: RawDownload, roots: &Roots) -> Result<DownloadConfig, ConfigError> {
    let directory = path(raw.directory).unwrap_or_else(|| roots.state.join("download"));
    if directory.is_relative() || directory.parent().is_none() {
        return Err(keys.bad(
            "download.directory",
            "must be the absolute path of a directory that nothing else uses",
        ));
    }
    let checkpoint_bytes = raw.checkpoint_bytes.unwrap_or(CHECKPOINT_BYTES);
    if checkpoint_bytes < CHECKPOINT_BYTES_MIN {
        return Err(keys.bad(
            "download.checkpoint_bytes",
            format!("must be at least {CHECKPOINT_BYTES_MIN}: each checkpoint flushes the memory"),
        ));
    }
    Ok(DownloadConfig {
        checkpoint_bytes,
        resume_after_restart: raw.resume_after_restart.unwrap_or(true),
        directory,
        keep_free_bytes: raw.keep_free_bytes.unwrap_or(KEEP_FREE_BYTES),
        rate_limit: raw.rate_limit.filter(|limit| *limit > 0),
        abort_check_interval: keys.seconds(
            "download.abort_check_interval_seconds",
            raw.abort_check_interval_seconds,
            60,
        )?,
    })
}

fn commit(keys: &Keys, raw: super::schema::RawCommit) -> Result<CommitConfig, ConfigError> {
    let health_check = raw.health_check.filter(|command| !command.is_empty());
    if health_check
        .as_ref()
        .is_some_and(|command| command[0].is_empty())
    {
        return Err(keys.bad(
            "commit.health_check",
            "must name a program, for example [\"/usr/bin/check-health\"]",
        ));
    }
    Ok(CommitConfig {
        server_contact: raw.server_contact.unwrap_or(true),
        health_check,
        health_check_timeout: keys.seconds(
            "commit.health_check_timeout_seconds",
            raw.health_check_timeout_seconds,
            300,
        )?,
    })
}
