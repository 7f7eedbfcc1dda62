//! The artifact verbs as a user meets them: files, exit codes, messages.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::write(desk.path("rootfs.ext4"), vec![7; 300_000]).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambidex"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("SOURCE_DATE_EPOCH");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs and expects success; returns standard output.
    fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs and expects the exit code; returns standard error.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        String::from_utf8(output.stderr).unwrap()
    }

    fn listing(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn key(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/keys")
        .join(name)
        .to_str()
        .unwrap()
        .to_owned()
}

fn vector(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("protocol/artifact/tests/vectors");
    folder.join(name).to_str().unwrap().to_owned()
}

const WRITE: [&str; 9] = [
    "artifact",
    "write",
    "rootfs-image",
    "-f",
    "rootfs.ext4",
    "-c",
    "qemu",
    "-n",
    "release-1",
];

fn write<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&WRITE[..], more].concat()
}

#[test]
fn write_and_read_as_text_and_json() {
    let desk = Desk::new();
    let private = key("test-only-p256.key");
    desk.must(&write(&[
        "-t",
        "rpi4",
        "-o",
        "a.mender",
        "-k",
        &private,
        "-g",
        "prod",
        "-G",
        "prod",
        "-N",
        "release-0",
        "-p",
        "app:1:2",
        "-d",
        "lib:3",
        "--clears-provides",
        "app.*",
        "--compression",
        "zstd",
    ]));
    let text = desk.must(&["artifact", "read", "a.mender"]);
    for line in [
        "  Name: release-1",
        "  Compatible types: [qemu, rpi4]",
        "  Provides group: prod",
        "  Depends on one of artifact(s): [release-0]",
        "      app: 1:2",
        "      rootfs-image.version: release-1",
        "    Clears Provides: [app.*, artifact_group, rootfs_image_checksum, rootfs-image.*]",
        "        size: 300000",
    ] {
        assert!(
            text.lines().any(|have| have == line),
            "{line:?} is missing in\n{text}"
        );
    }
    assert!(
        text.contains("signed but no key for verification provided"),
        "{text}"
    );

    let json = desk.must(&[
        "artifact",
        "read",
        "--output",
        "json",
        "-k",
        &key("test-only-p256.pub"),
        "a.mender",
    ]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["signature"], "verified");
    assert_eq!(json["compression"], "zstd");
    assert_eq!(json["depends"]["lib"], serde_json::json!(["3"]));
    assert_eq!(json["files"][0]["name"], "rootfs.ext4");
    assert_eq!(
        json["provides"]["rootfs-image.checksum"],
        json["files"][0]["sha256"]
    );
}

#[test]
fn module_and_bootstrap() {
    let desk = Desk::new();
    fs::write(desk.path("meta.json"), r#"{"k":1}"#).unwrap();
    fs::create_dir(desk.path("scripts")).unwrap();
    fs::write(desk.path("scripts/ArtifactCommit_Leave_02_b"), "second").unwrap();
    fs::write(desk.path("scripts/ArtifactCommit_Leave_01_a"), "first").unwrap();
    desk.must(&[
        "artifact",
        "write",
        "module-image",
        "-T",
        "app",
        "-f",
        "rootfs.ext4",
        "-f",
        "meta.json",
        "-m",
        "meta.json",
        "-c",
        "qemu",
        "-n",
        "app-1",
        "-s",
        "scripts",
        "--software-name",
        "shop",
        "--software-version",
        "7",
        "-o",
        "m.mender",
    ]);
    let json: Value =
        serde_json::from_str(&desk.must(&["artifact", "read", "--output", "json", "m.mender"]))
            .unwrap();
    assert_eq!(
        json["provides"],
        serde_json::json!({"rootfs-image.shop.version": "7"})
    );
    assert_eq!(
        json["state_scripts"],
        serde_json::json!(["ArtifactCommit_Leave_01_a", "ArtifactCommit_Leave_02_b"])
    );
    assert_eq!(json["meta_data"], serde_json::json!({"k": 1}));

    desk.must(&[
        "artifact",
        "dump",
        "--files",
        "f",
        "--scripts",
        "s",
        "--meta-data",
        "d",
        "m.mender",
    ]);
    assert_eq!(
        fs::read(desk.path("f/rootfs.ext4")).unwrap(),
        vec![7; 300_000]
    );
    assert_eq!(
        fs::read(desk.path("s/ArtifactCommit_Leave_01_a")).unwrap(),
        b"first"
    );
    assert_eq!(
        fs::read(desk.path("d/0000.meta-data")).unwrap(),
        br#"{"k":1}"#
    );

    for verb in ["bootstrap", "bootstrap-artifact"] {
        desk.must(&[
            "artifact", "write", verb, "-c", "qemu", "-n", "b-1", "-o", "b.mender",
        ]);
        let text = desk.must(&["artifact", "read", "b.mender"]);
        assert!(
            text.contains("- Empty type") && text.contains("Files: []"),
            "{text}"
        );
    }
}

#[test]
fn a_failed_write_leaves_nothing_and_keeps_what_was_there() {
    let desk = Desk::new();
    fs::write(desk.path("scripts-bad"), "").unwrap();
    fs::write(desk.path("array.json"), "[]").unwrap();
    fs::write(desk.path("artifact.mender"), "precious").unwrap();
    let before = desk.listing();
    let p384 = key("test-only-p384.key");
    let public = key("test-only-p256.pub");
    for (more, why) in [
        (&["-k", &p384[..]][..], "P-384"),
        (&["-k", &public], "public key"),
        (&["-k", "no-such.key"], "cannot read the key no-such.key"),
        (&["-s", "scripts-bad"], "no state script"),
        (&["-s", "no-such-script"], "no-such-script"),
        (
            &["-p", "artifact_name:x"],
            "provided by the artifact itself",
        ),
        (&["-o", "no/such/folder/a.mender"], "no/such/folder"),
        (&["-o", "."], "is a directory"),
    ] {
        let message = desk.fails(1, &write(more));
        assert!(message.contains(why), "{more:?}: {message}");
    }
    let message = desk.fails(
        1,
        &[
            "artifact",
            "write",
            "module-image",
            "-T",
            "m",
            "-c",
            "q",
            "-n",
            "n",
            "-m",
            "array.json",
        ],
    );
    assert!(message.contains("not a JSON object"), "{message}");
    let message = desk.fails(
        1,
        &[
            "artifact",
            "write",
            "rootfs-image",
            "-f",
            "missing.img",
            "-c",
            "q",
            "-n",
            "n",
        ],
    );
    assert!(message.contains("missing.img"), "{message}");
    let message = desk.fails(
        1,
        &[
            "artifact",
            "write",
            "rootfs-image",
            "-f",
            "/dev/zero",
            "-c",
            "q",
            "-n",
            "n",
        ],
    );
    assert!(message.contains("neither a file nor a disk"), "{message}");
    assert_eq!(desk.listing(), before);
    assert_eq!(fs::read(desk.path("artifact.mender")).unwrap(), b"precious");
}

#[test]
fn mistakes_in_arguments_are_exit_code_2() {
    let desk = Desk::new();
    for arguments in [
        &["artifact"][..],
        &[
            "artifact",
            "write",
            "rootfs-image",
            "-f",
            "rootfs.ext4",
            "-n",
            "x",
        ],
        &write(&["--compression", "lz4"]),
        &write(&["--compression-level", "10"]),
        &write(&["--compression", "zstd", "--compression-level", "0"]),
        &write(&["-p", "no-colon"]),
        &write(&["-p", "a:1", "-p", "a:2"]),
        &write(&["-v", "2"]),
        &[
            "artifact",
            "write",
            "module-image",
            "-T",
            "rootfs-image",
            "-c",
            "q",
            "-n",
            "n",
        ],
        &["artifact", "read"],
        &["artifact", "dump", "a.mender"],
    ] {
        let message = desk.fails(2, arguments);
        assert!(!message.is_empty());
    }
    let output = desk
        .command(&write(&[]))
        .env("SOURCE_DATE_EPOCH", "yesterday")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(desk.listing(), ["rootfs.ext4"]);
}

#[test]
fn validate_says_what_it_checked() {
    let desk = Desk::new();
    let (private, public) = (key("test-only-p256.key"), key("test-only-p256.pub"));
    desk.must(&write(&["-o", "plain.mender"]));
    desk.must(&write(&["-o", "signed.mender", "-k", &private]));
    assert!(
        desk.must(&["artifact", "validate", "plain.mender"])
            .contains("valid, not signed")
    );
    assert!(
        desk.must(&["artifact", "validate", "-k", &public, "signed.mender"])
            .contains("signature verified")
    );

    let message = desk.fails(1, &["artifact", "validate", "signed.mender"]);
    assert!(
        message.contains("no key to check the signature"),
        "{message}"
    );
    let message = desk.fails(1, &["artifact", "validate", "-k", &public, "plain.mender"]);
    assert!(message.contains("missing signature"), "{message}");
    let message = desk.fails(
        1,
        &[
            "artifact",
            "validate",
            "-k",
            &vector("keys/rsa2048.pub"),
            "signed.mender",
        ],
    );
    assert!(message.contains("invalid signature"), "{message}");
    for (name, why) in [("keys/ed25519.pub", "Ed25519"), ("keys/ec384.pub", "P-384")] {
        for verb in ["validate", "read"] {
            let message = desk.fails(1, &["artifact", verb, "-k", &vector(name), "signed.mender"]);
            assert!(
                message.contains("unsupported key type") && message.contains(why),
                "{message}"
            );
        }
    }
    let message = desk.fails(
        1,
        &[
            "artifact",
            "validate",
            &vector("invalid/bad-payload-bitflip.mender"),
        ],
    );
    assert!(
        message.contains("invalid checksum of data/0000/rootfs.ext4"),
        "{message}"
    );
    let message = desk.fails(1, &["artifact", "validate", "rootfs.ext4"]);
    assert!(message.contains("not an artifact"), "{message}");

    // A signature that does not fit is shown by read, and is no error there.
    let text = desk.must(&[
        "artifact",
        "read",
        "-k",
        &vector("keys/rsa2048.pub"),
        "signed.mender",
    ]);
    assert!(
        text.contains("verification using provided key failed"),
        "{text}"
    );
}

#[test]
fn sign_in_place_and_elsewhere() {
    let desk = Desk::new();
    let (private, public) = (key("test-only-p256.key"), key("test-only-p256.pub"));
    desk.must(&write(&["-o", "a.mender"]));
    fs::set_permissions(desk.path("a.mender"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("a.mender", desk.path("link.mender")).unwrap();
    desk.must(&[
        "artifact", "sign", "-k", &private, "-o", "b.mender", "a.mender",
    ]);
    desk.must(&["artifact", "validate", "a.mender"]);
    desk.must(&["artifact", "sign", "-k", &private, "link.mender"]);
    assert!(
        desk.path("link.mender").is_symlink(),
        "the link has been replaced"
    );
    assert_eq!(
        fs::metadata(desk.path("a.mender"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o640
    );
    for name in ["a.mender", "b.mender"] {
        desk.must(&["artifact", "validate", "-k", &public, name]);
    }

    let signed = fs::read(desk.path("a.mender")).unwrap();
    let message = desk.fails(1, &["artifact", "sign", "-k", &private, "a.mender"]);
    assert!(
        message.contains("signed already") && message.contains("--force"),
        "{message}"
    );
    assert_eq!(fs::read(desk.path("a.mender")).unwrap(), signed);
    desk.must(&["artifact", "sign", "--force", "-k", &private, "a.mender"]);
    desk.must(&["artifact", "validate", "-k", &public, "a.mender"]);

    // Nothing damaged gets a signature.
    let bad = vector("invalid/bad-payload-bitflip.mender");
    let before = desk.listing();
    let message = desk.fails(
        1,
        &["artifact", "sign", "-k", &private, "-o", "c.mender", &bad],
    );
    assert!(message.contains("invalid checksum"), "{message}");
    assert_eq!(desk.listing(), before);
}

#[test]
fn the_same_input_gives_the_same_artifact() {
    let desk = Desk::new();
    let make = |name: &str, epoch: Option<&str>| {
        let mut command = desk.command(&write(&["-o", name]));
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        assert!(command.status().unwrap().success());
        fs::read(desk.path(name)).unwrap()
    };
    let first = make("a.mender", None);
    assert!(first == make("b.mender", None));
    let dated = make("c.mender", Some("1700000000"));
    assert!(dated != first);
    // The file itself may be younger; the artifact is not.
    fs::File::options()
        .write(true)
        .open(desk.path("rootfs.ext4"))
        .unwrap()
        .set_modified(std::time::SystemTime::now() + Duration::from_secs(9))
        .unwrap();
    assert!(dated == make("d.mender", Some("1700000000")));
    let out = desk
        .command(&write(&["-o", "-"]))
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    assert!(
        out.status.success() && out.stdout == dated,
        "standard output differs"
    );
}

#[test]
fn an_interrupted_write_leaves_nothing() {
    let desk = Desk::new();
    // Holes cost no disk, but seconds to hash.
    fs::File::create(desk.path("large.img"))
        .unwrap()
        .set_len(64 << 30)
        .unwrap();
    for signal in ["INT", "TERM"] {
        let mut child = desk
            .command(&[
                "artifact",
                "write",
                "rootfs-image",
                "-f",
                "large.img",
                "-c",
                "q",
                "-n",
                "n",
                "-o",
                "x.mender",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let limit = Instant::now() + Duration::from_secs(30);
        while !desk.listing().iter().any(|name| name.ends_with(".partial")) {
            assert!(
                Instant::now() < limit,
                "no temporary file appeared: {:?}",
                desk.listing()
            );
            sleep(Duration::from_millis(10));
        }
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(desk.listing(), ["large.img", "rootfs.ext4"]);
    }
}

#[test]
fn a_difference_names_what_it_starts_from_and_leads_to() {
    let desk = Desk::new();
    let mut new = fs::read(desk.path("rootfs.ext4")).unwrap();
    new[5000] = 1;
    fs::write(desk.path("new.ext4"), new).unwrap();
    let arguments = [
        "artifact",
        "write",
        "rootfs-delta",
        "--from",
        "rootfs.ext4",
        "-f",
        "new.ext4",
        "-c",
        "q",
        "-n",
        "n",
        "-o",
    ];
    let write = |name| desk.must(&[&arguments[..], &[name]].concat());
    write("one.mender");
    write("two.mender");
    assert!(
        fs::read(desk.path("one.mender")).unwrap() == fs::read(desk.path("two.mender")).unwrap(),
        "the same input gives the same artifact"
    );
    desk.must(&["artifact", "validate", "one.mender"]);
    let shown: Value =
        serde_json::from_str(&desk.must(&["artifact", "read", "--output", "json", "one.mender"]))
            .unwrap();
    let text = shown.to_string();
    for name in ["rootfs.ext4", "new.ext4"] {
        let digest = Command::new("sha256sum")
            .arg(desk.path(name))
            .output()
            .unwrap();
        let digest = String::from_utf8(digest.stdout).unwrap();
        let digest = digest.split_whitespace().next().unwrap();
        assert!(text.contains(digest), "{name} {digest} in {text}");
    }
    for word in ["rootfs-delta", "rootfs-image.version", "new.ext4.delta"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let mut left = desk.listing();
    left.retain(|name| !name.ends_with(".mender"));
    assert_eq!(left, ["new.ext4", "rootfs.ext4"], "nothing else is left");
    let refused = desk.fails(
        1,
        &[
            &[
                "artifact",
                "write",
                "rootfs-delta",
                "--from",
                "nothing.ext4",
            ],
            &arguments[5..],
            &["x.mender"],
        ]
        .concat(),
    );
    assert!(refused.contains("nothing.ext4"), "{refused}");
}

#[test]
fn help_teaches_with_examples() {
    let desk = Desk::new();
    for verb in [
        &["artifact", "write", "rootfs-image"][..],
        &["artifact", "write", "rootfs-delta"],
        &["artifact", "write", "module-image"],
        &["artifact", "write", "bootstrap"],
        &["artifact", "read"],
        &["artifact", "validate"],
        &["artifact", "sign"],
        &["artifact", "dump"],
    ] {
        let help = desk.must(&[verb, &["--help"]].concat());
        assert!(help.contains("Example"), "{verb:?} has no example:\n{help}");
    }
}
