//! Artifacts between Ambidex and Debian's `mender-artifact`, in both directions, and the signature
//! against `openssl`.
//!
//! Skipped, loudly, where these tools are not installed (Debian packages mender-artifact, openssl).

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::fs::{self, File};
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ambidex_artifact::{
    ArtifactSpec, Compression, CompressionChoice, Header, Payload, PayloadSource, ReadOptions,
    Reader, Script, SignatureState, SigningKey, SoftwareVersion, Summary, Verification, VerifyKey,
    sign, write,
};
use ambidex_harness::binaries::find_tool;
use ambidex_harness::skip;
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

/// The tools and a folder with keys and payloads.
struct Bench {
    folder: tempfile::TempDir,
    tool: PathBuf,
}

const KEYS: [&str; 2] = ["rsa", "ec"];

impl Bench {
    /// `None`, after saying so, when a tool is missing.
    fn new() -> Option<Self> {
        let Some(tool) = find_tool("mender-artifact") else {
            skip("mender-artifact is not installed (apt-get install mender-artifact)");
            return None;
        };
        let Some(openssl) = find_tool("openssl") else {
            skip("openssl is not installed (apt-get install openssl)");
            return None;
        };
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            tool,
        };
        let openssl = |arguments: &[&str]| {
            let output = Command::new(&openssl)
                .args(arguments)
                .current_dir(bench.folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
        };
        // Version 3.9 of the tool reads RSA keys in the older of the two PEM forms only.
        openssl(&["genrsa", "-traditional", "-out", "rsa.key", "2048"]);
        openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            "ec-pkcs8.key",
        ]);
        openssl(&["ec", "-in", "ec-pkcs8.key", "-out", "ec.key"]);
        for name in KEYS {
            openssl(&[
                "pkey",
                "-in",
                &format!("{name}.key"),
                "-pubout",
                "-out",
                &format!("{name}.pub"),
            ]);
        }
        fs::write(bench.path("rootfs.ext4"), image()).unwrap();
        fs::write(bench.path("app.conf"), "alpha\n").unwrap();
        fs::write(bench.path("empty.dat"), "").unwrap();
        fs::write(
            bench.path("meta.json"),
            r#"{"alpha":"<x>","list":["a","b"],"nested":{"k":true}}"#,
        )
        .unwrap();
        fs::write(
            bench.path("ArtifactInstall_Enter_01_check"),
            "#!/bin/sh\nexit 0\n",
        )
        .unwrap();
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tool(&self, arguments: &[&str]) -> Output {
        Command::new(&self.tool)
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    fn tool_must(&self, arguments: &[&str]) {
        let output = self.tool(arguments);
        assert!(
            output.status.success(),
            "mender-artifact {arguments:?}: {output:?}"
        );
    }

    fn signing_key(&self, name: &str) -> SigningKey {
        SigningKey::from_pem(&fs::read_to_string(self.path(&format!("{name}.key"))).unwrap())
            .unwrap()
    }

    fn verify_key(&self, name: &str) -> VerifyKey {
        VerifyKey::from_pem(&fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap())
            .unwrap()
    }

    fn read(&self, name: &str, verify: Verification) -> (Header, Summary) {
        let file = File::open(self.path(name)).unwrap();
        let reader = Reader::open(file, &ReadOptions::device(verify))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let header = reader.header().clone();
        let summary = reader
            .finish()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        (header, summary)
    }
}

/// Larger than any buffer on the way.
fn image() -> Vec<u8> {
    (0..700_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> (at % 17)) as u8)
        .collect()
}

fn hex_digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn spec(kind: &str, compression: Compression) -> ArtifactSpec {
    let payload = match kind {
        "rootfs-image" => Payload::RootfsImage,
        "module-image" => Payload::Module("my-module".into()),
        _ => Payload::Empty,
    };
    let mut spec = ArtifactSpec::new(payload, "release-2", vec!["qemu".into(), "rpi4".into()]);
    spec.compression = CompressionChoice::of(compression);
    spec.group = Some("prod".into());
    spec.depends_names = vec!["release-1".into(), "release-0".into()];
    spec.depends_groups = vec!["prod".into()];
    spec.type_provides
        .insert("custom.key".into(), "a <b> & c".into());
    spec.type_depends
        .insert("rootfs-image.version".into(), vec!["release-1".into()]);
    SoftwareVersion::default().apply(
        &spec.payload.clone(),
        "release-2",
        &mut spec.type_provides,
        &mut spec.clears_provides,
    );
    match kind {
        "rootfs-image" => spec = spec.with_rootfs_checksum(false),
        "module-image" => {
            spec.meta_data =
                serde_json::from_str(r#"{"alpha":"<x>","list":["a","b"],"nested":{"k":true}}"#)
                    .unwrap();
        }
        _ => {}
    }
    if kind != "bootstrap-artifact" {
        spec.scripts = vec![Script {
            name: "ArtifactInstall_Enter_01_check".into(),
            content: b"#!/bin/sh\nexit 0\n".to_vec(),
        }];
    }
    spec
}

fn ours(bench: &Bench, kind: &str, compression: Compression, key: Option<&str>) -> String {
    let image = image();
    let files = match kind {
        "rootfs-image" => vec![PayloadSource::from_bytes("rootfs.ext4", &image)],
        "module-image" => {
            vec![
                PayloadSource::from_bytes("app.conf", b"alpha\n"),
                PayloadSource::from_bytes("empty.dat", b""),
            ]
        }
        _ => Vec::new(),
    };
    let name = format!(
        "ours-{kind}-{compression}-{}.mender",
        key.unwrap_or("unsigned")
    );
    let out = File::create(bench.path(&name)).unwrap();
    let key = key.map(|key| bench.signing_key(key));
    write(
        &spec(kind, compression),
        &files,
        key.as_ref(),
        out,
        &mut |_| {},
    )
    .unwrap();
    name
}

fn theirs(bench: &Bench, kind: &str, compression: Compression, key: Option<&str>) -> String {
    let name = format!(
        "theirs-{kind}-{compression}-{}.mender",
        key.unwrap_or("unsigned")
    );
    let compression = compression.to_string();
    let mut arguments = vec![
        "write",
        kind,
        "-t",
        "qemu",
        "-t",
        "rpi4",
        "-n",
        "release-2",
        "-o",
        &name,
        "--compression",
        &compression,
        "-g",
        "prod",
        "-G",
        "prod",
        "-N",
        "release-1",
        "-N",
        "release-0",
        "-p",
        "custom.key:a <b> & c",
        "-d",
        "rootfs-image.version:release-1",
    ];
    match kind {
        "rootfs-image" => arguments.extend(["-f", "rootfs.ext4"]),
        "module-image" => arguments.extend([
            "-T",
            "my-module",
            "-f",
            "app.conf",
            "-f",
            "empty.dat",
            "-m",
            "meta.json",
        ]),
        _ => {}
    }
    if kind != "bootstrap-artifact" {
        arguments.extend(["-s", "ArtifactInstall_Enter_01_check"]);
    }
    let key_file = key.map(|key| format!("{key}.key"));
    if let Some(key_file) = &key_file {
        arguments.extend(["-k", key_file]);
    }
    bench.tool_must(&arguments);
    name
}

const KINDS: [&str; 3] = ["rootfs-image", "module-image", "bootstrap-artifact"];
/// What version 3.9 of the tool knows.
const CODECS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Xz];

#[test]
fn artifact_of_ours_passes_mender_artifact() {
    let Some(bench) = Bench::new() else { return };
    for kind in KINDS {
        for compression in CODECS {
            for key in [None, Some("rsa"), Some("ec")] {
                let name = ours(&bench, kind, compression, key);
                match key {
                    None => bench.tool_must(&["validate", &name]),
                    Some(key) => {
                        bench.tool_must(&["validate", "-k", &format!("{key}.pub"), &name]);
                        let other = if key == "rsa" { "ec.pub" } else { "rsa.pub" };
                        let refused = bench.tool(&["validate", "-k", other, &name]);
                        assert!(
                            !refused.status.success(),
                            "the check must be able to fail: {refused:?}"
                        );
                    }
                }
                let shown = bench.tool(&["read", &name]);
                let text = String::from_utf8_lossy(&shown.stdout).into_owned();
                assert!(
                    shown.status.success() && text.contains("Name: release-2"),
                    "{text}"
                );
                assert!(text.contains("Provides group: prod"), "{text}");
            }
        }
    }
}

#[test]
fn artifact_of_ours_in_zstd_passes_a_tool_that_knows_it() {
    let Some(bench) = Bench::new() else { return };
    let help = bench.tool(&["write", "rootfs-image", "--help"]);
    if !String::from_utf8_lossy(&help.stdout).contains("zstd") {
        skip("this mender-artifact does not know zstd (3.10 and later do)");
        return;
    }
    let name = ours(&bench, "rootfs-image", Compression::Zstd, Some("ec"));
    bench.tool_must(&["validate", "-k", "ec.pub", &name]);
}

#[test]
fn artifact_of_mender_artifact_is_read_by_us() {
    let Some(bench) = Bench::new() else { return };
    for kind in KINDS {
        for compression in CODECS {
            for key in [None, Some("rsa"), Some("ec")] {
                let name = theirs(&bench, kind, compression, key);
                let verify = match key {
                    None => Verification::Ignore,
                    Some(key) => Verification::Require(vec![bench.verify_key(key)]),
                };
                let (header, summary) = bench.read(&name, verify);
                assert_eq!(summary.compression, compression);
                assert_eq!(header.signature == SignatureState::Unsigned, key.is_none());
                let expected: Vec<(&str, String)> = match kind {
                    "rootfs-image" => vec![("rootfs.ext4", hex_digest(&image()))],
                    "module-image" => vec![
                        ("app.conf", hex_digest(b"alpha\n")),
                        ("empty.dat", hex_digest(b"")),
                    ],
                    _ => Vec::new(),
                };
                let read: Vec<(&str, String)> = summary
                    .files
                    .iter()
                    .map(|file| (file.name.as_str(), file.sha256.to_string()))
                    .collect();
                assert_eq!(read, expected, "{name}");

                // The same arguments give the same description, byte for byte.
                let (own, _) =
                    bench.read(&ours(&bench, kind, compression, None), Verification::Ignore);
                assert_eq!(
                    text(&header.header_info_raw),
                    text(&own.header_info_raw),
                    "{name}"
                );
                assert_eq!(
                    text(&header.meta_data_raw),
                    text(&own.meta_data_raw),
                    "{name}"
                );
                // Versions 3.3.0 to 4.3.0 left the type of root file systems empty.
                let type_info = text(&header.type_info_raw)
                    .replace(r#""type":"","#, r#""type":"rootfs-image","#);
                assert_eq!(type_info, text(&own.type_info_raw), "{name}");
                assert_eq!(header.scripts, own.scripts);
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn artifact_signed_later_by_either_side() {
    let Some(bench) = Bench::new() else { return };
    for key in KEYS {
        let (private, public) = (format!("{key}.key"), format!("{key}.pub"));
        let name = ours(&bench, "rootfs-image", Compression::Gzip, None);
        bench.tool_must(&["sign", "-k", &private, &name, "-o", "signed.mender"]);
        let (header, _) = bench.read(
            "signed.mender",
            Verification::Require(vec![bench.verify_key(key)]),
        );
        assert_eq!(header.signature, SignatureState::Verified { key: 0 });

        let name = theirs(&bench, "module-image", Compression::Gzip, None);
        let original = fs::read(bench.path(&name)).unwrap();
        let mut signed = Vec::new();
        sign(&original[..], &mut signed, &bench.signing_key(key), false).unwrap();
        fs::write(bench.path("signed.mender"), &signed).unwrap();
        bench.tool_must(&["validate", "-k", &public, "signed.mender"]);

        // Everything else is as it was: two blocks each of version and manifest, then the rest.
        let head = 512 + 512 + 512 + manifest_of(&original).len().next_multiple_of(512);
        assert!(signed.starts_with(&original[..head]));
        assert!(signed.ends_with(&original[head..]));
        assert!(
            sign(&signed[..], Vec::new(), &bench.signing_key(key), false).is_err(),
            "signed twice"
        );
        let mut again = Vec::new();
        sign(&signed[..], &mut again, &bench.signing_key("ec"), true).unwrap();
        fs::write(bench.path("again.mender"), &again).unwrap();
        bench.tool_must(&["validate", "-k", "ec.pub", "again.mender"]);
    }
}

/// Content of a member, found with the `tar` of the system.
fn member(artifact: &[u8], name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mender");
    fs::write(&path, artifact).unwrap();
    let output = Command::new("tar")
        .arg("-xOf")
        .arg(&path)
        .arg(name)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn manifest_of(artifact: &[u8]) -> Vec<u8> {
    member(artifact, "manifest")
}

#[test]
fn artifact_signature_is_what_openssl_calls_one() {
    let Some(bench) = Bench::new() else { return };
    for key in KEYS {
        let name = ours(&bench, "module-image", Compression::None, Some(key));
        let artifact = fs::read(bench.path(&name)).unwrap();
        let encoded = member(&artifact, "manifest.sig");
        assert_ne!(encoded.last(), Some(&b'\n'));
        let signature = base64::engine::general_purpose::STANDARD
            .decode(&encoded)
            .unwrap();
        let signature = if key == "ec" {
            assert_eq!(signature.len(), 64, "raw r||s");
            der_of_raw(&signature)
        } else {
            signature
        };
        fs::write(bench.path("manifest"), manifest_of(&artifact)).unwrap();
        fs::write(bench.path("signature"), signature).unwrap();
        let verify = |file: &str| {
            Command::new("openssl")
                .args([
                    "dgst",
                    "-sha256",
                    "-verify",
                    &format!("{key}.pub"),
                    "-signature",
                    "signature",
                    file,
                ])
                .current_dir(bench.folder.path())
                .output()
                .unwrap()
        };
        let output = verify("manifest");
        assert!(output.status.success(), "{output:?}");
        assert!(
            !verify("meta.json").status.success(),
            "the check must be able to fail"
        );
    }
}

/// ASN.1 form of a raw ECDSA signature: SEQUENCE { INTEGER r, INTEGER s }.
fn der_of_raw(raw: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let mut value: Vec<u8> = bytes
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        if value.first().is_none_or(|first| *first >= 0x80) {
            value.insert(0, 0);
        }
        [&[0x02, value.len() as u8], &value[..]].concat()
    };
    let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
    [&[0x30, body.len() as u8], &body[..]].concat()
}

#[test]
fn artifact_manifest_is_what_sha256sum_reads() {
    let folder = tempfile::tempdir().unwrap();
    let image = image();
    let mut out = Cursor::new(Vec::new());
    write(
        &spec("rootfs-image", Compression::Gzip),
        &[PayloadSource::from_bytes("rootfs.ext4", &image)],
        None,
        &mut out,
        &mut |_| {},
    )
    .unwrap();
    let run = |program: &str, arguments: &[&str], folder: &Path| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    };
    fs::write(folder.path().join("a.mender"), out.into_inner()).unwrap();
    let listed = run("tar", &["-tf", "a.mender"], folder.path());
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        ["version", "manifest", "header.tar.gz", "data/0000.tar.gz"]
    );
    run("tar", &["-xf", "a.mender"], folder.path());
    fs::create_dir(folder.path().join("data/0000")).unwrap();
    run(
        "tar",
        &["-xzf", "data/0000.tar.gz", "-C", "data/0000"],
        folder.path(),
    );
    run(
        "sha256sum",
        &["--check", "--strict", "manifest"],
        folder.path(),
    );
    let mut version = String::new();
    File::open(folder.path().join("version"))
        .unwrap()
        .read_to_string(&mut version)
        .unwrap();
    assert_eq!(version, r#"{"format":"mender","version":3}"#);
}
