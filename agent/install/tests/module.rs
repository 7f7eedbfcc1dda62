//! The update-module protocol from the module's side: rows M1 to M9 of the acceptance table.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::time::{Duration, Instant};

use ambidex_install::{CancelFlag, FetchError, Handler, HandlerError, Progress, Reboot};
use std::sync::Arc;
use support::{Device, app, build, noise, read};

/// Reads every stream into `tmp/`, as the protocol wants it.
const STREAMING: &str = r#"
case "$CALL" in
Download|DownloadWithFileSizes)
    while :; do
        line="$(cat stream-next)"
        [ -n "$line" ] || break
        log "stream $line"
        file="${line%% *}"
        cat "$file" > "tmp/$(basename "$file")" || exit 1
    done;;
esac
"#;

#[tokio::test]
async fn m1_arguments_directory_and_tree_are_those_of_the_protocol() {
    let device = Device::new();
    device.module(
        r#"
case "$CALL" in
ArtifactInstall)
    log "args $# $TREE"; log "pwd $(pwd)"
    for f in $(find . -type f | sort); do log "file $f $(stat -c %s "$f")"; done
    for f in $(find . -type d | sort); do log "dir $f"; done;;
esac
"#,
    );
    let mut spec = app();
    spec.group = Some("stable".into());
    spec.meta_data = Some(serde_json::Map::from_iter([("k".to_owned(), "v".into())]));
    let artifact = build(&spec, &[("data.bin", b"12345")]);
    let handler = device.fetch(&artifact).await.unwrap().handler.unwrap();
    handler.install().await.unwrap();
    let tree = device.context.work_dir.to_str().unwrap().to_owned();
    let calls = device.calls();
    assert_eq!(
        calls[..3],
        ["ProvidePayloadFileSizes", "Download", "ArtifactInstall"]
    );
    assert!(calls.contains(&format!("args 2 {tree}")), "{calls:?}");
    assert!(calls.contains(&format!("pwd {tree}")), "{calls:?}");
    for dir in [".", "./files", "./header", "./streams", "./tmp"] {
        assert!(calls.contains(&format!("dir {dir}")), "{dir} in {calls:?}");
    }
    assert_eq!(
        calls
            .iter()
            .filter(|call| call.starts_with("file "))
            .count(),
        11,
        "{calls:?}"
    );
    for (name, content) in [
        ("version", "3\n"),
        ("current_artifact_name", "release-1\n"),
        ("current_artifact_group", ""),
        ("current_device_type", "board-7\n"),
        ("header/artifact_name", "release-2"),
        ("header/artifact_group", "stable"),
        ("header/payload_type", "app"),
        ("files/data.bin", "12345"),
    ] {
        assert_eq!(read(&device.tree(name)), content, "{name}");
    }
    assert!(read(&device.tree("header/header-info")).contains("\"board-6\""));
    assert!(read(&device.tree("header/type-info")).contains("\"app\""));
    assert!(read(&device.tree("header/meta-data")).contains("\"k\""));
}

#[tokio::test]
async fn m2_several_files_larger_than_a_pipe_are_streamed_in_order() {
    let device = Device::new();
    device.module(STREAMING);
    let (big, small) = (noise(700_000, 1), noise(70_001, 2));
    let artifact = build(&app(), &[("big", &big), ("empty", b""), ("small", &small)]);
    device.fetch(&artifact).await.unwrap();
    assert_eq!(
        device.calls(),
        [
            "ProvidePayloadFileSizes",
            "Download",
            "stream streams/big",
            "stream streams/empty",
            "stream streams/small"
        ]
    );
    for (name, content) in [("big", &big[..]), ("empty", b""), ("small", &small)] {
        assert!(
            std::fs::read(device.tree("tmp").join(name)).unwrap() == content,
            "{name}"
        );
    }
    assert!(!device.tree("stream-next").exists());
}

#[tokio::test]
async fn m5_sizes_are_given_when_asked_for() {
    let device = Device::new();
    device.module(&format!(
        "[ \"$CALL\" = ProvidePayloadFileSizes ] && echo Yes\n{STREAMING}"
    ));
    let artifact = build(&app(), &[("a", b"123"), ("b", b"")]);
    device.fetch(&artifact).await.unwrap();
    assert_eq!(
        device.calls()[1..],
        [
            "DownloadWithFileSizes",
            "stream streams/a 3",
            "stream streams/b 0"
        ]
    );
}

#[tokio::test]
async fn m3_a_module_that_ignores_the_streams_finds_files() {
    let device = Device::new();
    device.module("");
    let big = noise(20 << 20, 3);
    let artifact = build(&app(), &[("one", &big), ("two", b"2")]);
    let fetched = device.fetch(&artifact).await.unwrap();
    assert_eq!(fetched.payload_bytes, big.len() as u64 + 1);
    assert_eq!(fetched.artifact_bytes, artifact.len() as u64);
    assert!(std::fs::read(device.tree("files/one")).unwrap() == big);
    assert_eq!(read(&device.tree("files/two")), "2");
}

#[tokio::test]
async fn m4_whoever_starts_to_read_must_finish() {
    let big = noise(400_000, 4);
    for (body, wanted) in [
        (
            "[ $CALL = Download ] && cat stream-next > /dev/null; exit 0",
            "did not open the stream",
        ),
        (
            "[ $CALL = Download ] && { f=$(cat stream-next); cat $f > /dev/null; f=$(cat stream-next); cat $f > /dev/null; }; exit 0",
            "did not finish",
        ),
        (
            "[ $CALL = Download ] && { f=$(cat stream-next); head -c 10 $f > /dev/null; }; exit 0",
            "before its end",
        ),
        (
            "[ $CALL = Download ] && { f=$(cat stream-next); head -c 10 $f > /dev/null; exit 5; }; exit 0",
            "code 5",
        ),
        (
            "[ $CALL = Download ] && { f=$(cat stream-next); cat $f > /dev/null; f=$(cat stream-next); cat $f > /dev/null; cat stream-next; exit 6; }; exit 0",
            "code 6",
        ),
        ("[ $CALL = Download ] && exit 7; exit 0", "code 7"),
    ] {
        let device = Device::new();
        device.module(body);
        let artifact = build(&app(), &[("one", &big), ("two", b"2")]);
        let error = device.fetch(&artifact).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{body}: {error}");
        // the tree is left for Cleanup
        assert!(device.context.work_dir.exists());
        Handler::resume("app", &device.context)
            .unwrap()
            .cleanup()
            .await
            .unwrap();
        assert_eq!(device.calls().last().unwrap(), "Cleanup");
        assert!(!device.context.work_dir.exists());
    }
}

#[tokio::test]
async fn a_damaged_payload_never_lets_the_module_finish() {
    let device = Device::new();
    device.module(&format!("{STREAMING}\nlog ended"));
    let mut spec = app();
    spec.compression = ambidex_artifact::CompressionChoice::of(ambidex_artifact::Compression::None);
    let big = noise(400_000, 5);
    let mut artifact = build(&spec, &[("one", &big)]);
    let at = artifact
        .windows(64)
        .position(|window| window == &big[300_000..300_064])
        .unwrap();
    artifact[at] ^= 1;
    let error = device.fetch(&artifact).await.unwrap_err();
    assert!(matches!(error, FetchError::Artifact(_)), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(
        device.calls(),
        [
            "ProvidePayloadFileSizes",
            "ended",
            "Download",
            "stream streams/one"
        ]
    );
}

#[tokio::test]
async fn m6_answers_other_than_the_known_ones_are_protocol_errors() {
    for (call, answer) in [
        ("NeedsArtifactReboot", "echo yes"),
        ("NeedsArtifactReboot", "echo Yes; echo Yes"),
        ("NeedsArtifactReboot", "echo; echo Yes"),
        ("NeedsArtifactReboot", "printf 'Yes '"),
        ("SupportsRollback", "echo Automatic"),
        ("SupportsRollback", "head -c 5000 /dev/zero"),
        ("SupportsRollback", "printf '\\377'"),
    ] {
        let device = Device::new();
        device.module(&format!("[ $CALL = {call} ] && {{ {answer}; }}; exit 0"));
        let handler = device
            .fetch(&build(&app(), &[("f", b"x")]))
            .await
            .unwrap()
            .handler
            .unwrap();
        let error = match call {
            "SupportsRollback" => handler.supports_rollback().await.unwrap_err(),
            _ => handler.needs_reboot().await.unwrap_err(),
        };
        assert!(
            matches!(error, HandlerError::Protocol { .. }),
            "{answer}: {error}"
        );
    }
    let device = Device::new();
    device.module("[ $CALL = ProvidePayloadFileSizes ] && echo Maybe; exit 0");
    let error = device
        .fetch(&build(&app(), &[("f", b"x")]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Maybe"), "{error}");
    assert_eq!(device.calls(), ["ProvidePayloadFileSizes"]);
}

#[tokio::test]
async fn m7_the_answers_are_told_apart() {
    for (answer, reboot) in [
        ("true", Reboot::No),
        ("echo No", Reboot::No),
        ("printf Yes", Reboot::Custom),
        ("echo Yes", Reboot::Custom),
        ("echo Automatic", Reboot::Automatic),
    ] {
        let device = Device::new();
        device.module(&format!("[ $CALL = NeedsArtifactReboot ] && {{ {answer}; }}; [ $CALL = SupportsRollback ] && echo Yes; exit 0"));
        let handler = device
            .fetch(&build(&app(), &[("f", b"x")]))
            .await
            .unwrap()
            .handler
            .unwrap();
        assert_eq!(handler.needs_reboot().await.unwrap(), reboot, "{answer}");
        assert!(handler.supports_rollback().await.unwrap());
    }
}

#[tokio::test]
async fn m8_a_missing_module_is_told_before_anything_is_made() {
    let device = Device::new();
    let artifact = build(&app(), &[("f", b"x")]);
    std::fs::write(device.context.modules_dir.join("app"), "#!/bin/sh\n").unwrap(); // not executable
    let error = device.fetch(&artifact).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Handler(HandlerError::NoModule { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("modules/app"), "{error}");
    assert!(!device.context.work_dir.exists());
    // nothing to clean up, and nobody to ask
    Handler::resume("app", &device.context)
        .unwrap()
        .cleanup()
        .await
        .unwrap();
    assert!(Handler::resume("../app", &device.context).is_err());
}

#[tokio::test]
async fn m9_the_time_limit_stops_the_whole_group() {
    let mut device = Device::new();
    device.context.module_timeout = Duration::from_secs(1);
    device.module(
        "case $CALL in Download|ArtifactInstall) sleep 300 & log \"pid $!\"; wait;; esac; exit 0",
    );
    let started = Instant::now();
    let error = device
        .fetch(&build(&app(), &[("f", b"x")]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("time limit"), "{error}");
    let error = Handler::resume("app", &device.context)
        .unwrap()
        .install()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("ArtifactInstall ran into its time limit"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(25));
    assert_no_sleepers(&device).await;
}

/// Every pid that the module recorded is gone.
async fn assert_no_sleepers(device: &Device) {
    let pids: Vec<String> = device
        .calls()
        .iter()
        .filter_map(|call| call.strip_prefix("pid ").map(str::to_owned))
        .collect();
    assert!(!pids.is_empty());
    for pid in pids {
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        for _ in 0..500 {
            if gone() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(gone(), "process {pid} is left");
    }
}

/// Cancels at the first chunk.
struct CancelAtOnce(CancelFlag);

impl Progress for CancelAtOnce {
    fn payload(&self, _name: &str, _done: u64, _size: u64) {
        self.0.cancel();
    }
}

#[tokio::test]
async fn cancelling_stops_stream_and_module() {
    let device = Device::new();
    device.module(&format!(
        "sleep 300 & [ $CALL != Download ] || log \"pid $!\"\n{STREAMING}"
    ));
    let mut options = device.options();
    options.progress = Arc::new(CancelAtOnce(options.cancel.clone()));
    let artifact = build(&app(), &[("f", &noise(2 << 20, 6))]);
    let error = device.fetch_with(&artifact, options).await.unwrap_err();
    assert!(matches!(error, FetchError::Cancelled), "{error}");
    assert_no_sleepers(&device).await;
}

#[tokio::test]
async fn cancelling_reaches_a_module_that_never_reads() {
    let device = Device::new();
    device.module("[ $CALL = Download ] && { sleep 300 & log \"pid $!\"; wait; }; exit 0");
    let options = device.options();
    let cancel = options.cancel.clone();
    let artifact = build(&app(), &[("f", b"x")]);
    let fetching = device.fetch_with(&artifact, options);
    let cancelling = async {
        while device.calls().len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(fetching, cancelling);
    assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}");
    assert_no_sleepers(&device).await;
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_refused_before_it_is_stored() {
    let mut device = Device::new();
    device.context.reserve_bytes = 1 << 60;
    device.module("");
    let error = device
        .fetch(&build(&app(), &[("f", b"12345")]))
        .await
        .unwrap_err();
    let FetchError::NoSpace { needed, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*needed, (1 << 60) + 5);
    assert_eq!(std::fs::read_dir(device.tree("files")).unwrap().count(), 0);
}

#[tokio::test]
async fn every_call_reaches_the_module_under_its_name_and_cleanup_always_removes_the_tree() {
    let device = Device::new();
    device.module("[ $CALL = Cleanup ] && exit 3; [ $CALL = ArtifactCommit ] && { echo out; echo err >&2; exit 4; }; exit 0");
    let handler = device
        .fetch(&build(&app(), &[("f", b"x")]))
        .await
        .unwrap()
        .handler
        .unwrap();
    handler.install().await.unwrap();
    handler.reboot().await.unwrap();
    handler.verify_reboot().await.unwrap();
    assert!(
        handler
            .commit()
            .await
            .unwrap_err()
            .to_string()
            .contains("ArtifactCommit ended with code 4")
    );
    handler.rollback().await.unwrap();
    handler.rollback_reboot().await.unwrap();
    handler.verify_rollback_reboot().await.unwrap();
    handler.failure().await.unwrap();
    assert!(
        handler
            .cleanup()
            .await
            .unwrap_err()
            .to_string()
            .contains("code 3")
    );
    assert!(!device.context.work_dir.exists());
    assert_eq!(
        device.calls()[2..],
        [
            "ArtifactInstall",
            "ArtifactReboot",
            "ArtifactVerifyReboot",
            "ArtifactCommit",
            "ArtifactRollback",
            "ArtifactRollbackReboot",
            "ArtifactVerifyRollbackReboot",
            "ArtifactFailure",
            "Cleanup"
        ]
    );
    let error = handler.install().await.unwrap_err().to_string();
    assert!(error.contains("tree"), "{error}");
}
