//! The collected artifacts of other tools: verdict and metadata of each.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ambidex_artifact::{
    Error, Header, Payload, ReadOptions, Reader, SignatureState, Summary, Verification, VerifyKey,
};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn vectors() -> Vec<Value> {
    let text = fs::read(folder().join("vectors.json")).unwrap();
    let all: Value = serde_json::from_slice(&text).unwrap();
    all["vectors"].as_array().unwrap().clone()
}

fn read(bytes: &[u8], options: &ReadOptions) -> Result<(Header, Summary), Error> {
    let reader = Reader::open(bytes, options)?;
    let header = reader.header().clone();
    Ok((header, reader.finish()?))
}

fn options(vector: &Value) -> ReadOptions {
    ReadOptions::inspect(match vector["verify_key"].as_str() {
        None => Verification::Ignore,
        Some(path) => {
            let pem = fs::read_to_string(folder().join(path)).unwrap();
            Verification::Require(vec![VerifyKey::from_pem(&pem).unwrap()])
        }
    })
}

/// What this reader does where the collection leaves it open. The reasons stand in
/// docs/decisions/0003-artifact-strictness.md.
const CHOSEN: [(&str, bool); 10] = [
    ("v2-rootfs-gzip-39", true),
    ("v3-module-augment", true),
    ("bad-headerinfo-unknown-provides-key", false),
    ("bad-mixed-compression", true),
    ("bad-version-unknown-key", false),
    ("odd-headerinfo-case", false),
    ("odd-provides-conflict-artifact_name", true),
    ("odd-rootfs-typeinfo-null", true),
    ("ok-bootstrap-no-data", false),
    ("ok-dirs-in-header", false),
];

#[test]
fn every_vector_gives_its_verdict() {
    let chosen = BTreeMap::from(CHOSEN);
    let vectors = vectors();
    assert_eq!(
        vectors.len(),
        84,
        "the collection has changed: look at the new vectors and adapt this number"
    );
    let mut wrong = Vec::new();
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap();
        let bytes = fs::read(folder().join(vector["file"].as_str().unwrap())).unwrap();
        let outcome = read(&bytes, &options(vector));
        let expected = match vector["expect"].as_str().unwrap() {
            "accept" => true,
            "reject" => false,
            _ => *chosen
                .get(id)
                .unwrap_or_else(|| panic!("no choice for {id}")),
        };
        if outcome.is_ok() != expected {
            wrong.push(format!(
                "{id}: expected {expected}, got {:?} ({})",
                outcome.map(|_| ()),
                vector["reason"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_refusal_names_the_stage() {
    for vector in vectors() {
        let Some(stage) = vector["stage"].as_str() else {
            continue;
        };
        let id = vector["id"].as_str().unwrap();
        let bytes = fs::read(folder().join(vector["file"].as_str().unwrap())).unwrap();
        let error = read(&bytes, &options(&vector)).unwrap_err();
        let text = error.to_string();
        let named = match stage {
            "version" => text.contains("version") || text.contains("format"),
            "manifest" => text.contains("manifest"),
            "signature" => text.contains("signature") || text.contains("manifest was not signed"),
            "header" => text.contains("header"),
            "payload" => text.contains("data/"),
            "outer" => text.contains("artifact"),
            other => panic!("unknown stage {other}"),
        };
        assert!(named, "{id} ({stage}): {text}");
        assert!(
            !matches!(error, Error::Source(_) | Error::Failed),
            "{id}: {text}"
        );
    }
}

#[test]
fn devices_refuse_what_only_tools_take() {
    for (file, word) in [
        ("valid/v2-rootfs-gzip-39.mender", "version 2"),
        ("valid/v3-module-augment.mender", "augmented"),
    ] {
        let bytes = fs::read(folder().join(file)).unwrap();
        let error = read(&bytes, &ReadOptions::device(Verification::Ignore)).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported(text) if text.contains(word)),
            "{error}"
        );
    }
}

/// The report that the collection has for valid artifacts.
fn report(header: &Header, summary: &Summary) -> Value {
    let depends = |header: &Header| -> Value {
        let as_written = |key: &str, values: &Vec<String>| match values.as_slice() {
            [one] if key != "device_type" && header.type_depends.contains_key(key) => json!(one),
            many => json!(many),
        };
        header
            .depends()
            .iter()
            .map(|(key, values)| (key.clone(), as_written(key, values)))
            .collect()
    };
    let mut report = json!({
        "format": "mender",
        "version": header.version,
        "signed": header.signed,
        "compression": match header.compression.to_string().as_str() { "lzma" => "xz".to_owned(), other => other.to_owned() },
        "scripts": header.scripts.iter().map(|script| script.name.clone()).collect::<Vec<_>>(),
        "name": header.name,
        "device_types_compatible": header.device_types,
        "payload_types": [header.payload.type_name()],
        "files": summary.files.iter().map(|file| json!({
            "name": file.name, "size": file.size, "sha256": file.sha256.to_string(), "manifest": true,
            "mode": format!("0o{:o}", file.mode), "mtime": file.mtime,
        })).collect::<Vec<_>>(),
        "size": summary.bytes_read,
    });
    if header.version == 3 {
        report["artifact_provides"] = json!(header.provides());
        report["artifact_depends"] = depends(header);
        report["type_info_type"] = json!(header.type_info_type);
        // The collection writes an absent list as an empty one; the difference has a test below.
        report["clears_artifact_provides"] =
            json!(header.clears_provides.clone().unwrap_or_default());
        if let Some(meta_data) = &header.meta_data {
            report["meta_data"] = meta_data.clone();
        }
    }
    if let Some(augment) = &header.augment {
        report["augment"] = json!({
            "type": augment.payload.type_name(),
            "type_info": serde_json::from_slice::<Value>(&augment.type_info_raw).unwrap(),
            "meta_data": serde_json::from_slice::<Value>(&augment.meta_data_raw).unwrap(),
        });
    }
    report
}

#[test]
fn metadata_of_valid_vectors() {
    let mut checked = 0;
    for vector in vectors() {
        let Some(expected) = vector["metadata"].as_object() else {
            continue;
        };
        let id = vector["id"].as_str().unwrap();
        let bytes = fs::read(folder().join(vector["file"].as_str().unwrap())).unwrap();
        let Ok((header, summary)) = read(&bytes, &options(&vector)) else {
            continue;
        };
        let mut expected = Value::Object(expected.clone());
        let object = expected.as_object_mut().unwrap();
        // These describe the container; the strict order makes them the same for all.
        for key in [
            "outer_members",
            "header_members",
            "signature_len_base64",
            "signature_len_raw",
        ] {
            object.remove(key);
        }
        assert_eq!(report(&header, &summary), expected, "{id}");
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} vectors have metadata");
}

#[test]
fn an_absent_list_of_clears_stays_absent() {
    for (file, expected) in [
        ("valid/v3-rootfs-bare.mender", None),
        ("valid/v3-bootstrap-ec.mender", None),
        (
            "valid/v3-module-nofile.mender",
            Some(vec!["rootfs-image.my-module.*".to_owned()]),
        ),
    ] {
        let bytes = fs::read(folder().join(file)).unwrap();
        let (header, _) = read(&bytes, &ReadOptions::device(Verification::Ignore)).unwrap();
        assert_eq!(header.clears_provides, expected, "{file}");
    }
}

#[test]
fn any_configured_key_will_do_and_the_right_one_is_named() {
    let key = |name: &str| {
        VerifyKey::from_pem(&fs::read_to_string(folder().join("keys").join(name)).unwrap()).unwrap()
    };
    let bytes = fs::read(folder().join("valid/v3-rootfs-rsa3072.mender")).unwrap();
    let keys = vec![key("ec256.pub"), key("rsa2048.pub"), key("rsa3072.pub")];
    let (header, _) = read(
        &bytes,
        &ReadOptions::device(Verification::Require(keys.clone())),
    )
    .unwrap();
    assert_eq!(header.signature, SignatureState::Verified { key: 2 });

    let error = read(
        &bytes,
        &ReadOptions::device(Verification::Require(keys[..2].to_vec())),
    )
    .unwrap_err();
    assert!(matches!(error, Error::SignatureInvalid { .. }), "{error}");
    let error = read(
        &bytes,
        &ReadOptions::device(Verification::Require(Vec::new())),
    )
    .unwrap_err();
    assert!(matches!(error, Error::SignatureInvalid { .. }), "{error}");
    let (header, _) = read(
        &bytes,
        &ReadOptions::inspect(Verification::Report(keys[..1].to_vec())),
    )
    .unwrap();
    assert!(matches!(header.signature, SignatureState::Failed { .. }));
    let (header, _) = read(&bytes, &ReadOptions::device(Verification::Ignore)).unwrap();
    assert_eq!(
        (header.signed, header.signature),
        (true, SignatureState::Unchecked)
    );

    let unsigned = fs::read(folder().join("valid/v3-rootfs-gzip.mender")).unwrap();
    let error = read(
        &unsigned,
        &ReadOptions::device(Verification::Require(keys.clone())),
    )
    .unwrap_err();
    assert!(matches!(error, Error::SignatureMissing), "{error}");
    let (header, _) = read(&unsigned, &ReadOptions::inspect(Verification::Report(keys))).unwrap();
    assert_eq!(header.signature, SignatureState::Unsigned);
}

#[test]
fn unsupported_keys_say_what_they_are() {
    for (name, word) in [("ec384.pub", "P-384"), ("ed25519.pub", "Ed25519")] {
        let pem = fs::read_to_string(folder().join("keys").join(name)).unwrap();
        let error = VerifyKey::from_pem(&pem).unwrap_err().to_string();
        assert!(
            error.contains("unsupported key type") && error.contains(word),
            "{error}"
        );
    }
}

/// A pipe that stops after the manifest: what is refused must not ask for more.
struct Pipe<'a>(&'a [u8]);

impl std::io::Read for Pipe<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        assert!(
            !self.0.is_empty(),
            "read past the point where the verdict was known"
        );
        let count = self.0.len().min(out.len()).min(512);
        out[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn an_unsigned_artifact_is_refused_before_its_header_arrives() {
    let bytes = fs::read(folder().join("valid/v3-rootfs-gzip.mender")).unwrap();
    let key =
        VerifyKey::from_pem(&fs::read_to_string(folder().join("keys/ec256.pub")).unwrap()).unwrap();
    // version (2 blocks), manifest (2 blocks), the tar header of what follows.
    let error = Reader::open(
        Pipe(&bytes[..5 * 512]),
        &ReadOptions::device(Verification::Require(vec![key])),
    )
    .unwrap_err();
    assert!(matches!(error, Error::SignatureMissing), "{error}");
}

#[test]
fn the_header_is_out_before_the_payload_arrives() {
    let bytes = fs::read(folder().join("valid/v3-rootfs-gzip.mender")).unwrap();
    // ... and the header member: one header block and one block of content.
    let reader = Reader::open(
        Pipe(&bytes[..6 * 512]),
        &ReadOptions::device(Verification::Ignore),
    )
    .unwrap();
    assert_eq!(reader.header().payload, Payload::RootfsImage);
}
