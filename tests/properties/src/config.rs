//! The configuration, in both spellings, and the configuration of the reference's remote terminal.
//!
//! - Every text gives a configuration, or an error that names the key, the line or what the whole must be.
//! - What was loaded is within the documented ranges, and the same when it is loaded again.
//! - Whatever the files hold, enough is left to roll an update back ([`load_persistent`]).

use std::time::Duration;

use ambidex_agent::config::{self, Config, ConfigError, Overrides, load_persistent};

use crate::input::{Input, piece};
use crate::{allocation, scratch, seeds};

/// The largest file twice, as text, and as what it means.
const MEMORY_MAX: usize = 64 << 20;
const TEN_YEARS: Duration = Duration::from_secs(315_360_000);

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    let name = if flags & 1 == 0 {
        "agent.toml"
    } else {
        "mender.conf"
    };
    let folder = scratch::folder("config");
    for part in ["conf", "state", "data"] {
        std::fs::create_dir(folder.join(part)).expect("the folder can be made");
    }
    if flags & 2 != 0 {
        scratch::write(&folder.join("state").join(name), input.piece());
    }
    if flags & 4 != 0 {
        scratch::write(&folder.join("conf/mender-connect.conf"), input.piece());
    }
    let main = folder.join("conf").join(name);
    scratch::write(&main, input.rest());
    let overrides = Overrides {
        conf_dir: Some(folder.join("conf")),
        data_dir: Some(folder.join("data")),
        state_dir: Some(folder.join("state")),
        config: (flags & 8 != 0).then_some(main),
        ..Overrides::default()
    };

    let loaded = allocation::at_most(MEMORY_MAX, || config::load(&overrides));
    let again = config::load(&overrides);
    match (&loaded, &again) {
        (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        _ => panic!("loaded once and not twice"),
    }
    match loaded {
        Ok(config) => in_range(&config),
        Err(error) => tells_where(&error),
    }
    let rest = load_persistent(&overrides).expect("something is always left");
    assert!(rest.servers.is_empty());
    in_range(&rest);
}

fn tells_where(error: &ConfigError) {
    match error {
        ConfigError::Unreadable { reason, .. } => {
            assert!(
                reason.contains("UTF-8") || reason.contains("larger"),
                "{reason}"
            );
        }
        ConfigError::Syntax { reason, .. } => {
            assert!(
                reason.contains("line") || reason.contains("JSON object"),
                "{reason}"
            );
        }
        ConfigError::Key { key, reason, .. } => assert!(!key.is_empty() && !reason.is_empty()),
    }
}

fn in_range(config: &Config) {
    let Config {
        polls,
        http,
        scripts,
        download,
        commit,
        ..
    } = config;
    for duration in [
        polls.update_interval,
        polls.inventory_interval,
        polls.retry_interval_min,
        polls.retry_interval_max,
        http.connect_timeout,
        http.request_timeout,
        http.download_idle_timeout,
        http.download_retry_interval,
        scripts.timeout,
        scripts.retry_interval,
        scripts.retry_timeout,
        config.module_timeout,
        config.reboot_timeout,
        download.abort_check_interval,
        commit.health_check_timeout,
    ] {
        assert!(
            (Duration::from_millis(1)..=TEN_YEARS).contains(&duration),
            "{duration:?}"
        );
    }
    assert!((1..=10_000).contains(&http.download_retry_count));
    for server in &config.servers {
        assert!(
            server.starts_with("http://") || server.starts_with("https://"),
            "{server}"
        );
        assert!(
            !server.ends_with('/') && !server.contains(['?', '#']),
            "{server}"
        );
    }
    assert!(["standard", "system", "micro"].contains(&config.device_tier.as_str()));
    assert!(
        config
            .reboot_command
            .first()
            .is_some_and(|program| !program.is_empty())
    );
    assert!(
        commit
            .health_check
            .as_ref()
            .is_none_or(|command| !command[0].is_empty())
    );
    assert!(download.directory.is_absolute() && download.directory.parent().is_some());
    assert!(download.checkpoint_bytes >= 64 << 10);
    assert!(download.rate_limit != Some(0));
    for text in [
        &config.tenant_token,
        &config.rootfs_part_a,
        &config.rootfs_part_b,
    ] {
        assert!(text.as_ref().is_none_or(|text| !text.is_empty()));
    }
    if let Some(remote) = &config.remote {
        assert!(remote.terminal.shell.starts_with('/'));
        assert!(remote.terminal.size.0 > 0 && remote.terminal.size.1 > 0);
        assert!((1..=16).contains(&remote.sessions.max_per_user));
        assert!(remote.file_transfer.limits.umask <= 0o777);
        for expiry in [
            remote.sessions.expire_after,
            remote.sessions.expire_after_idle,
        ] {
            assert!(expiry.is_none_or(|after| !after.is_zero() && after <= TEN_YEARS));
        }
    }
}

/// The example configuration with every key in use, and texts in the other spelling.
pub fn seeds() -> Vec<Vec<u8>> {
    let example = seeds::file("agent/support/agent.toml");
    let used: Vec<u8> = example
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| match line.strip_prefix(b"# ") {
            Some(key) if key.contains(&b'=') || key.starts_with(b"[") => key,
            _ => line,
        })
        .collect::<Vec<_>>()
        .concat();
    let native: [&[u8]; 6] = [
        b"servers = [\"https://a:8443/\", { server_url = \"http://b\" }]\nserver_certificate = [\"/c\"]\nretry_poll_count = 4",
        b"update_poll_interval_seconds = 0.5\nretry_download_count = 10000\nreboot_command = [\"/sbin/reboot\", \"-f\"]\n[boot]\nkind = \"uboot\"\n",
        b"[security]\nauth_private_key = \"pkcs11:token=t;object=o?pin-value=1234\"\nkey_type = \"rsa\"\n[https_client]\ncertificate = \"/c\"\nkey = \"/k\"\n",
        b"[maintenance_window]\ntimes = [\"Mon-Fri 22:00-05:00\"]\ntime_zone = \"UTC\"\nphases = [\"install\", \"reboot\"]\n[consent]\nbefore = [\"commit\"]\n",
        b"[remote]\nuser = \"nobody\"\n[remote.sessions]\nmax_per_user = 3\nexpire_after_seconds = 1.5\n[remote.file_transfer.limits]\numask = \"022\"\nchroot = \"/data\"\n[remote.port_forward]\ntargets = [\"127.0.0.1:*\", \"[::1]:22\"]\n",
        b"[download]\ndirectory = \"/data/d\"\ncheckpoint_bytes = 65536\nrate_limit = 0\n[commit]\nhealth_check = [\"/bin/true\"]\nhealth_check_timeout_seconds = 9e3\n",
    ];
    let reference: [&[u8]; 3] = [
        br#"{"ServerURL": "https://a", "TenantToken": "t", "UpdatePollIntervalSeconds": 5, "RootfsPartA": "/dev/x2", "RetryPollCount": "x"}"#,
        br#"{"Servers": [{"ServerURL": "https://b"}], "HttpsClient": {"Certificate": "/c", "Key": "/k", "SSLEngine": ""}, "StateScriptTimeoutSeconds": 0, "SkipVerify": true, "DaemonLogLevel": "warning"}"#,
        br#"{"Security": {"AuthPrivateKey": "pkcs11:object=o", "SSLEngine": "pkcs11"}, "ServerCertificate": "/c", "DBus": {"Enabled": true}}"#,
    ];
    let connect = br#"{"User": "nobody", "ShellArguments": ["-i"], "Terminal": {"Width": 100, "Disable": false}, "Sessions": {"ExpireAfterIdle": 7, "MaxPerUser": 3}, "Limits": {"FileTransfer": {"Chroot": "/d", "Umask": "022", "Counters": {"MaxBytesTxPerMinute": 1}}}}"#;
    let mut all = vec![[&[0][..], &example].concat(), [&[8][..], &used].concat()];
    all.extend(native.iter().flat_map(|text| {
        [
            [&[8][..], text].concat(),
            [&[2][..], &piece(native[1]), text].concat(),
        ]
    }));
    all.extend(reference.iter().flat_map(|text| {
        [
            [&[9][..], text].concat(),
            [
                &[1 | 2 | 4][..],
                &piece(reference[0]),
                &piece(connect),
                text,
            ]
            .concat(),
        ]
    }));
    all
}
