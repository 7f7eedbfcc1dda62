//! What is checked before a handler is asked for anything: rows F1 to F6, T5 and the order of
//! the pipeline.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex};

use ambidex_artifact::{Compression, CompressionChoice, Payload, Script, Verification};
use ambidex_install::{FetchError, FetchOptions, fetch};
use support::{Device, app, build, map, noise, spec};

#[tokio::test]
async fn f1_other_devices_and_unmet_needs_are_refused_without_a_call() {
    let mut wrong_type = app();
    wrong_type.device_types = vec!["board-9".into()];
    let mut wrong_name = app();
    wrong_name.depends_names = vec!["release-0".into()];
    let mut wrong_key = app();
    wrong_key
        .type_depends
        .insert("rootfs-image.checksum".into(), vec!["abc".into()]);
    for (spec, wanted) in [
        (wrong_type, ["board-9", "board-7"]),
        (wrong_name, ["release-0", "release-1"]),
        (wrong_key, ["rootfs-image.checksum", "none"]),
    ] {
        let device = Device::new();
        device.module("");
        let mut options = device.options();
        options.provides = map(&[("artifact_name", "release-1")]);
        options.on_header = Some(Box::new(|_| panic!("the hook comes after the checks")));
        let error = device
            .fetch_with(&build(&spec, &[("f", b"x")]), options)
            .await
            .unwrap_err();
        assert!(matches!(error, FetchError::Incompatible(_)), "{error}");
        for word in wanted {
            assert!(error.to_string().contains(word), "{word} in {error}");
        }
        assert!(device.calls().is_empty() && !device.context.work_dir.exists());
    }
}

#[tokio::test]
async fn the_hook_comes_before_scripts_and_module_and_may_refuse() {
    let device = Device::new();
    device.module("");
    let mut spec = app();
    spec.scripts = vec![Script {
        name: "ArtifactInstall_Enter_00".into(),
        content: b"#!/bin/sh\n".to_vec(),
    }];
    spec.type_provides = map(&[("app.version", "2")]);
    spec.clears_provides = Some(vec!["app.*".into()]);
    let artifact = build(&spec, &[("f", b"x")]);
    let stale = device.context.scripts_dir.join("ArtifactFailure_Enter_99");
    std::fs::create_dir_all(&device.context.scripts_dir).unwrap();
    std::fs::write(&stale, "").unwrap();

    let seen = Arc::new(Mutex::new(None));
    let (sink, scripts_dir) = (Arc::clone(&seen), device.context.scripts_dir.clone());
    let mut options = device.options();
    options.on_header = Some(Box::new(move |facts| {
        *sink.lock().unwrap() = Some((
            facts.clone(),
            std::fs::read_dir(scripts_dir).unwrap().count(),
        ));
        Err("the journal is full".into())
    }));
    let error = device.fetch_with(&artifact, options).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Refused(text) if text == "the journal is full"),
        "{error}"
    );
    let (facts, scripts) = seen.lock().unwrap().take().unwrap();
    assert_eq!(
        (facts.name.as_str(), facts.payload_type.as_deref()),
        ("release-2", Some("app"))
    );
    assert_eq!(
        (facts.provides, facts.clears),
        (map(&[("app.version", "2")]), Some(vec!["app.*".into()]))
    );
    assert_eq!(
        scripts, 0,
        "the scripts of the last deployment were still there"
    );
    assert!(device.calls().is_empty());

    device.fetch(&artifact).await.unwrap();
    assert!(
        device
            .context
            .scripts_dir
            .join("ArtifactInstall_Enter_00")
            .exists()
    );
    assert!(!stale.exists());
}

#[tokio::test]
async fn f2_damage_anywhere_is_refused() {
    let mut spec = app();
    spec.compression = CompressionChoice::of(Compression::None);
    let good = build(&spec, &[("f", &noise(3000, 1))]);
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        let device = Device::new();
        device.module("");
        let result = device.fetch(&bad).await;
        if let Ok(fetched) = result {
            // the only bytes that no checksum covers are times and owners in archive headers
            assert_eq!(fetched.facts.name, "release-2", "at {at}");
            assert!(
                std::fs::read(device.tree("files/f")).unwrap() == noise(3000, 1),
                "at {at}"
            );
        }
    }
    let device = Device::new();
    device.module("");
    for length in [0, 1, 600, good.len() / 2, good.len() - 1025] {
        let error = device.fetch(&good[..length]).await.unwrap_err();
        assert!(
            matches!(error, FetchError::Artifact(_)),
            "{length}: {error}"
        );
    }
}

#[tokio::test]
async fn f3_without_a_signature_nothing_is_asked_when_keys_are_set() {
    let device = Device::new();
    device.module("");
    let options = FetchOptions::new(Verification::Require(Vec::new()));
    let error = device
        .fetch_with(&build(&app(), &[("f", b"x")]), options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("signature"), "{error}");
    assert!(device.calls().is_empty());
}

#[tokio::test]
async fn f4_every_compression_arrives() {
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Xz,
        Compression::Zstd,
    ] {
        let device = Device::new();
        device.module("");
        let mut spec = app();
        spec.compression = CompressionChoice::of(compression);
        let content = noise(200_000, 9);
        device
            .fetch(&build(&spec, &[("f", &content)]))
            .await
            .unwrap();
        assert!(
            std::fs::read(device.tree("files/f")).unwrap() == content,
            "{compression:?}"
        );
    }
}

#[tokio::test]
async fn an_artifact_without_payload_needs_no_handler() {
    let device = Device::new();
    let fetched = device
        .fetch(&build(&spec(Payload::Empty), &[]))
        .await
        .unwrap();
    assert!(fetched.handler.is_none() && fetched.payload_bytes == 0);
    assert!(!device.context.work_dir.exists());
}

/// Breaks off after some bytes, as a network does.
struct Broken(Cursor<Vec<u8>>, u64);

impl Read for Broken {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.0.position() >= self.1 {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "reset by peer",
            ));
        }
        let most = out.len().min(1000);
        self.0.read(&mut out[..most])
    }
}

#[tokio::test]
async fn a_broken_input_is_told_apart_from_a_broken_artifact() {
    let device = Device::new();
    device.module("");
    let artifact = build(&app(), &[("f", &noise(300_000, 2))]);
    for limit in [10, 2_000, artifact.len() as u64 / 2] {
        let input = Broken(Cursor::new(artifact.clone()), limit);
        let error = fetch(input, &device.context, device.options())
            .await
            .unwrap_err();
        assert!(
            error.is_transient() && error.to_string().contains("reset by peer"),
            "{error}"
        );
    }
}
