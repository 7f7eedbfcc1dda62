//! Who runs: the physical floor, ourselves, and the peers that Debian packages.

use super::stage::Stage;

/// The floor that every CPU ratio is taken against.
pub const PIPE: &str = "zstd | tee | sha256";
/// The floor that every wall-clock ratio is taken against.
pub const COPY: &str = "dd + fsync";

/// One way to bring v2 into slot B.
pub struct Contender {
    pub name: &'static str,
    /// Shell script, run in slot A.
    pub script: String,
    /// What undoes the installation, unmeasured.
    pub after: Option<String>,
    /// Whether slot B must equal v2 afterwards.
    pub writes_v2: bool,
}

/// Every contender, floors first.
pub fn all(stage: &Stage) -> Vec<Contender> {
    let b = &stage.slot_b;
    let floor = |name, script: String| Contender {
        name,
        script,
        after: None,
        writes_v2: true,
    };
    let mut list = vec![
        floor(
            COPY,
            format!("dd if=/mnt/images/v2.ext4 of={b} bs=1M conv=fsync 2>/dev/null"),
        ),
        floor(
            PIPE,
            // openssl, because Debian's sha256sum does without the CPU's SHA instructions and would
            // make the floor look three times as high.
            format!(
                "zstd -dc /mnt/images/v2.ext4.zst | tee {b} | openssl dgst -sha256 >/dev/null; \
                 sync {b}"
            ),
        ),
    ];
    for (name, compression) in [
        ("ambidex none", "none"),
        ("ambidex gzip", "gzip"),
        ("ambidex zstd", "zstd"),
        ("ambidex xz", "lzma"),
    ] {
        let agent = "/mnt/ambidex-agent --config /mnt/agent.toml --state-dir /mnt/ambidex";
        list.push(Contender {
            name,
            script: format!("{agent} install /mnt/images/v2-{compression}.mender >/mnt/tmp/log 2>&1 || {{ cat /mnt/tmp/log >&2; exit 1; }}"),
            after: Some(format!("{agent} rollback >/dev/null 2>&1")),
            writes_v2: true,
        });
    }
    for (name, compression) in [
        ("mender-client 3.4 none", "none"),
        ("mender-client 3.4 gzip", "gzip"),
        ("mender-client 3.4 xz", "lzma"),
    ] {
        list.push(Contender {
            name,
            script: format!(
                "mender --no-syslog install /mnt/images/v2-{compression}.mender >/mnt/tmp/log 2>&1 || {{ cat /mnt/tmp/log >&2; exit 1; }}"
            ),
            after: Some("mender --no-syslog rollback >/dev/null 2>&1".to_owned()),
            writes_v2: true,
        });
    }
    list.push(Contender {
        name: "rauc 1.8 zstd",
        script: "/mnt/rauc-install >/mnt/tmp/log 2>&1 || { cat /mnt/tmp/log >&2; exit 1; }"
            .to_owned(),
        after: None,
        writes_v2: true,
    });
    list.push(Contender {
        name: "swupdate 2022.12 zstd",
        script: "swupdate -k /etc/bench-cert.pem -H testboard:1.0 -i /mnt/images/v2.swu \
                 >/mnt/tmp/log 2>&1 || { cat /mnt/tmp/log >&2; exit 1; }"
            .to_owned(),
        after: None,
        writes_v2: true,
    });
    list
}
