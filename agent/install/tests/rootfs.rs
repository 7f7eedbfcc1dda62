//! A/B updates over plain files as slots: rows B1, B2, B4 to B8 and the rules of section 7.2.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use ambidex_artifact::{Compression, CompressionChoice, Payload, PayloadSource};
use ambidex_install::{CancelFlag, FetchError, Handler, HandlerError, Reboot, fetch};
use support::{Device, build, map, noise, spec};

const SLOT_BYTES: usize = 1 << 20;

fn image(seed: u64) -> Vec<u8> {
    noise(SLOT_BYTES - 5000, seed)
}

fn artifact(image: &[u8]) -> Vec<u8> {
    build(&spec(Payload::RootfsImage), &[("rootfs.ext4", image)])
}

fn device() -> Device {
    Device::new().with_slots(SLOT_BYTES)
}

async fn fetched(device: &Device, seed: u64) -> Handler {
    device
        .fetch(&artifact(&image(seed)))
        .await
        .unwrap()
        .handler
        .unwrap()
}

fn resumed(device: &Device) -> Handler {
    Handler::resume("rootfs-image", &device.context).unwrap()
}

async fn vars(device: &Device) -> [String; 4] {
    let env = device.env().await;
    [
        "mender_boot_part",
        "mender_boot_part_hex",
        "upgrade_available",
        "bootcount",
    ]
    .map(|key| env.get(key).unwrap_or_default().to_owned())
}

#[tokio::test]
async fn b1_b2_an_update_is_written_switched_to_verified_and_committed() {
    let device = device();
    let before = device.slot(2);
    let handler = fetched(&device, 1).await;
    let slot = device.slot(3);
    assert!(slot[..image(1).len()] == image(1));
    assert!(
        slot[image(1).len()..].iter().all(|byte| *byte == 0xB3),
        "the rest of the slot is kept"
    );
    assert_eq!(
        vars(&device).await,
        ["2", "", "0", "0"],
        "nothing is switched by the download"
    );

    handler.install().await.unwrap();
    assert_eq!(vars(&device).await, ["3", "3", "1", "0"]);
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::Automatic);
    assert!(handler.supports_rollback().await.unwrap());

    device.boot_slot(3);
    let handler = resumed(&device);
    handler.verify_reboot().await.unwrap();
    handler.commit().await.unwrap();
    assert_eq!(vars(&device).await, ["3", "3", "0", "0"]);
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::No);
    handler.cleanup().await.unwrap();
    assert!(!device.context.work_dir.exists());
    assert!(device.slot(2) == before, "the first slot was never touched");

    // and back again, twice
    for (seed, slot) in [(2, 2), (3, 3)] {
        let handler = fetched(&device, seed).await;
        handler.install().await.unwrap();
        device.boot_slot(slot);
        handler.verify_reboot().await.unwrap();
        handler.commit().await.unwrap();
        handler.cleanup().await.unwrap();
        assert!(device.slot(slot).starts_with(&image(seed)));
    }
}

#[tokio::test]
async fn hexadecimal_numbers_are_written_for_u_boot() {
    let mut device = device();
    std::fs::rename(device.path("slot3"), device.path("slot11")).unwrap();
    device.context.rootfs.part_b = Some(device.path("slot11"));
    fetched(&device, 1).await.install().await.unwrap();
    assert_eq!(vars(&device).await, ["11", "b", "1", "0"]);
}

#[tokio::test]
async fn b7_an_image_larger_than_the_slot_is_refused_before_a_byte_is_written() {
    let device = device();
    let before = device.slot(3);
    let fits = noise(SLOT_BYTES, 7);
    device.fetch(&artifact(&fits)).await.unwrap();
    assert!(device.slot(3) == fits);
    std::fs::write(device.path("slot3"), &before).unwrap();
    let error = device
        .fetch(&artifact(&noise(SLOT_BYTES + 1, 7)))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
    let text = error.to_string();
    for word in ["1048577", "1048576", "slot3"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(device.slot(3) == before);
    assert_eq!(vars(&device).await, ["2", "", "0", "0"]);
}

#[tokio::test]
async fn b4_a_missing_canary_refuses_the_update() {
    let device = device();
    device
        .boot()
        .write(&[("mender_check_saveenv_canary", "1")])
        .await
        .unwrap();
    let before = device.slot(3);
    let error = device
        .fetch(&artifact(&image(1)))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("mender_saveenv_canary"), "{error}");
    assert!(device.slot(3) == before);
    device
        .boot()
        .write(&[("mender_saveenv_canary", "1")])
        .await
        .unwrap();
    device.fetch(&artifact(&image(1))).await.unwrap();
}

#[tokio::test]
async fn b8_a_root_that_does_not_match_is_refused_with_both_names() {
    let device = device();
    let before = [device.slot(2), device.slot(3)];
    device.boot_slot(3);
    let error = device
        .fetch(&artifact(&image(1)))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("slot3") && error.contains("slot2") && error.contains("mender_boot_part=2"),
        "{error}"
    );
    device
        .boot()
        .write(&[("mender_boot_part", "9")])
        .await
        .unwrap();
    let error = device
        .fetch(&artifact(&image(1)))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("mender_boot_part=9") && error.contains("2 of") && error.contains("3 of"),
        "{error}"
    );
    assert!([device.slot(2), device.slot(3)] == before);
}

#[tokio::test]
async fn an_update_on_trial_must_be_settled_before_the_next() {
    let device = device();
    let handler = fetched(&device, 1).await;
    handler.install().await.unwrap();
    let error = device
        .fetch(&artifact(&image(2)))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("on trial"), "{error}");
}

#[tokio::test]
async fn the_bootloader_going_back_by_itself_is_noticed() {
    let device = device();
    let handler = fetched(&device, 1).await;
    handler.install().await.unwrap();
    // what the bootloader does when the new system does not come up
    device
        .boot()
        .write(&[("mender_boot_part", "2"), ("upgrade_available", "0")])
        .await
        .unwrap();
    for error in [
        handler.verify_reboot().await.unwrap_err(),
        handler.commit().await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("gone back"), "{error}");
    }
    handler.rollback().await.unwrap();
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::No);
    handler.verify_rollback_reboot().await.unwrap();
    assert_eq!(device.env().await.boot_part(), Some(2));
}

#[tokio::test]
async fn a_reboot_that_did_not_happen_is_noticed() {
    let device = device();
    let handler = fetched(&device, 1).await;
    handler.install().await.unwrap();
    let error = handler.verify_reboot().await.unwrap_err().to_string();
    assert!(
        error.contains("slot2") && error.contains("slot3"),
        "{error}"
    );
    assert!(handler.commit().await.is_err());
    assert_eq!(vars(&device).await, ["3", "3", "1", "0"]);
}

#[tokio::test]
async fn rollback_goes_to_the_original_slot_however_often_and_from_wherever() {
    // not yet rebooted, running the new system, and after the bootloader went back
    for running in [2, 3] {
        let device = device();
        let handler = fetched(&device, 1).await;
        handler.install().await.unwrap();
        device.boot_slot(running);
        for _ in 0..3 {
            handler.rollback().await.unwrap();
            assert_eq!(
                vars(&device).await,
                ["2", "2", "0", "0"],
                "running {running}"
            );
        }
        let expected = if running == 2 {
            Reboot::No
        } else {
            Reboot::Automatic
        };
        assert_eq!(handler.needs_reboot().await.unwrap(), expected);
        let verified = handler.verify_rollback_reboot().await;
        assert_eq!(
            verified.is_ok(),
            running == 2,
            "the old system must really run"
        );
        device.boot_slot(2);
        handler.verify_rollback_reboot().await.unwrap();
        handler.failure().await.unwrap();
        handler.cleanup().await.unwrap();
    }
}

#[tokio::test]
async fn rollback_of_an_installation_that_never_completed_changes_nothing() {
    let device = device();
    let handler = fetched(&device, 1).await;
    let before = vars(&device).await;
    handler.rollback().await.unwrap();
    assert_eq!(vars(&device).await, before);
    // power cut between the note of the original slot and the switch
    std::fs::write(device.tree("tmp/orig-part"), "2\n").unwrap();
    handler.rollback().await.unwrap();
    assert_eq!(vars(&device).await, before);
    // a switch made by the reference's module, whose note was lost
    std::fs::remove_file(device.tree("tmp/orig-part")).unwrap();
    device
        .boot()
        .write(&[("mender_boot_part", "3"), ("upgrade_available", "1")])
        .await
        .unwrap();
    handler.rollback().await.unwrap();
    assert_eq!(device.env().await.boot_part(), Some(2));
}

#[tokio::test]
async fn a_repeated_install_does_not_flip_back() {
    let device = device();
    let handler = fetched(&device, 1).await;
    handler.install().await.unwrap();
    handler.install().await.unwrap();
    assert_eq!(vars(&device).await, ["3", "3", "1", "0"]);
    assert_eq!(support::read(&device.tree("tmp/orig-part")), "2\n");
}

#[tokio::test]
async fn a_system_without_configuration_leaves_the_rollback_to_the_bootloader() {
    let mut device = device();
    fetched(&device, 1).await.install().await.unwrap();
    device.context.rootfs.part_a = None;
    let handler = resumed(&device);
    handler.rollback().await.unwrap();
    assert_eq!(vars(&device).await, ["3", "3", "1", "0"]);
    let error = handler.verify_reboot().await.unwrap_err();
    assert!(matches!(error, HandlerError::Configuration(_)), "{error}");
}

#[tokio::test]
async fn a_damaged_image_leaves_the_switch_alone() {
    let device = device();
    let mut spec = spec(Payload::RootfsImage);
    spec.compression = ambidex_artifact::CompressionChoice::of(ambidex_artifact::Compression::None);
    let mut artifact = build(&spec, &[("rootfs.ext4", &image(1))]);
    let at = artifact.len() - 100_000;
    artifact[at] ^= 1;
    let error = device.fetch(&artifact).await.unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(vars(&device).await, ["2", "", "0", "0"]);
    resumed(&device).cleanup().await.unwrap();
}

#[tokio::test]
async fn exactly_one_file_is_an_image() {
    let device = device();
    let before = device.slot(3);
    // spelt as a module's payload, since the writer makes no such image artifact
    let two = spec(Payload::Module("rootfs-image".into()));
    let error = device
        .fetch(&build(&two, &[("a", b"1"), ("b", b"2")]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("one file"), "{error}");
    assert!(device.slot(3) == before);
    assert_eq!(vars(&device).await, ["2", "", "0", "0"]);
}

#[tokio::test]
async fn b5_either_copy_of_the_environment_may_be_damaged_at_any_step() {
    for damaged in ["env1", "env2"] {
        let device = device();
        let spoil = || std::fs::write(device.path("env").join(damaged), [0; 1024]).unwrap();
        spoil();
        let handler = fetched(&device, 1).await;
        handler.install().await.unwrap();
        spoil();
        device.boot_slot(3);
        handler.verify_reboot().await.unwrap();
        handler.commit().await.unwrap();
        spoil();
        assert_eq!(vars(&device).await, ["3", "3", "0", "0"], "{damaged}");
    }
}

#[tokio::test]
async fn provides_of_the_image_are_told() {
    let device = device();
    let spec = spec(Payload::RootfsImage).with_rootfs_checksum(false);
    let fetched = device
        .fetch(&build(&spec, &[("rootfs.ext4", &image(1))]))
        .await
        .unwrap();
    assert_eq!(fetched.facts.payload_type.as_deref(), Some("rootfs-image"));
    assert!(fetched.facts.provides.contains_key("rootfs-image.checksum"));
    assert_ne!(fetched.facts.provides, map(&[]));
}

#[tokio::test]
async fn a_module_of_that_name_counts_only_when_configured() {
    let mut device = device();
    device.module("log mine");
    std::fs::rename(
        device.context.modules_dir.join("app"),
        device.context.modules_dir.join("rootfs-image"),
    )
    .unwrap();
    assert!(matches!(fetched(&device, 1).await, Handler::Rootfs(_)));
    device.context.rootfs_module = true;
    assert!(matches!(fetched(&device, 1).await, Handler::Module(_)));
    assert!(device.calls().contains(&"mine".to_owned()));
}

/// The checksum of U-Boot's environments.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[tokio::test]
async fn b5_each_step_is_one_write_of_one_copy_with_everything_in_it() {
    const SIZE: usize = 512;
    let mut device = device();
    let paths = ["uboot-env0", "uboot-env1"].map(|name| device.path(name));
    let mut data = b"mender_boot_part=2\0upgrade_available=0\0".to_vec();
    data.resize(SIZE - 5, 0);
    let mut lines = String::new();
    for (path, counter) in paths.iter().zip([1, 0]) {
        let image = [&crc32(&data).to_le_bytes()[..], &[counter], &data].concat();
        std::fs::write(path, image).unwrap();
        lines += &format!("{} 0x0 {SIZE:#x}\n", path.display());
    }
    let config = device.path("fw_env.config");
    std::fs::write(&config, lines).unwrap();
    let copies = || paths.each_ref().map(|path| std::fs::read(path).unwrap());
    let first = copies();
    device.context.rootfs.boot = ambidex_install::boot::BootConfig {
        kind: ambidex_install::boot::BootKind::Uboot,
        fw_env_config: config,
        ..Default::default()
    };

    let handler = fetched(&device, 1).await;
    assert_eq!(copies(), first, "the download leaves the environment alone");
    // every write goes to the other copy and counts one up
    handler.install().await.unwrap();
    let second = copies();
    assert_eq!((second[0] == first[0], second[1][4]), (true, 2));
    device.boot_slot(3);
    handler.verify_reboot().await.unwrap();
    assert_eq!(copies(), second);
    handler.commit().await.unwrap();
    let third = copies();
    assert_eq!((third[1] == second[1], third[0][4]), (true, 3));
    assert_eq!(vars(&device).await, ["3", "3", "0", "0"]);
}

/// W7: what the device shows of its slots, and how a boot loader that points away is pointed back.
#[tokio::test]
async fn the_standing_of_the_slots_is_seen_and_can_be_kept() {
    let device = device();
    let handler = fetched(&device, 1).await;
    handler.install().await.unwrap();
    let rootfs = &device.context.rootfs;
    let seen = ambidex_install::standing(rootfs).await.unwrap();
    assert_eq!((seen.running, seen.other()), (Some(2), Some(3)));
    assert_eq!((seen.booted, seen.on_trial), (Some(3), true));
    ambidex_install::keep_running(rootfs).await.unwrap();
    assert_eq!(vars(&device).await, ["2", "2", "0", "0"]);

    let (slot, image) = (device.path("slot3"), image(1));
    let flag = CancelFlag::new();
    let digest = ambidex_install::slot_digest(&slot, image.len() as u64, &flag).unwrap();
    assert_eq!(digest, Some(ambidex_artifact::Sha256Digest::of(&image)));
    assert!(ambidex_install::slot_digest(&slot, SLOT_BYTES as u64 + 1, &flag).is_err());
    flag.cancel();
    assert_eq!(ambidex_install::slot_digest(&slot, 1, &flag).unwrap(), None);
}

/// W12: an image of more than 4 GiB through all of the pipeline. Its zeros cost neither network nor disk.
#[tokio::test]
async fn w12_an_image_beyond_four_gibibytes_arrives_to_its_last_byte() {
    const ZEROS: u64 = (4 << 30) + 12_288;
    let mut device = device();
    device.context.rootfs.verify_written = false;
    let tail = noise(100_000, 3);
    let bytes = ZEROS + tail.len() as u64;
    let slot = std::fs::File::create(device.path("slot3")).unwrap();
    slot.set_len(bytes).unwrap();
    let end = tail.clone();
    let source = PayloadSource {
        name: "rootfs.ext4".into(),
        mode: 0o644,
        mtime_s: 0,
        open: Box::new(move || {
            let zeros = std::io::Read::take(std::io::repeat(0), ZEROS);
            let end = std::io::Cursor::new(end.clone());
            Ok(Box::new(std::io::Read::chain(zeros, end)))
        }),
    };
    let mut spec = spec(Payload::RootfsImage);
    spec.compression = CompressionChoice::of(Compression::Zstd);
    let mut artifact = std::io::Cursor::new(Vec::new());
    ambidex_artifact::write(&spec, &[source], None, &mut artifact, &mut |_| {}).unwrap();
    artifact.set_position(0);
    let fetched = fetch(artifact, &device.context, device.options())
        .await
        .unwrap();
    assert_eq!(fetched.payload_bytes, bytes);
    let mut held = vec![0; tail.len()];
    let slot = std::fs::File::open(device.path("slot3")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&slot, &mut held, ZEROS).unwrap();
    assert!(held == tail, "the end of the image is not where it belongs");
    let used = std::os::unix::fs::MetadataExt::blocks(&slot.metadata().unwrap()) * 512;
    assert!(used < 10 << 20, "{used} bytes of zeros were written");
}

fn difference(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut delta = Vec::new();
    let mut new = std::io::Cursor::new(new);
    ambidex_delta::diff(&old, old.len() as u64, &mut new, &mut delta, &mut |_| {}).unwrap();
    delta
}

fn delta_artifact(delta: &[u8]) -> Vec<u8> {
    let payload = Payload::Module(ambidex_delta::ROOTFS_DELTA.to_owned());
    build(&spec(payload), &[("rootfs.ext4.delta", delta)])
}

/// Most of the running slot, some of it elsewhere, and something new.
fn rebuilt(old: &[u8]) -> Vec<u8> {
    [&noise(8192, 9), &old[4096..old.len() / 2], &noise(100, 10)].concat()
}

#[tokio::test]
async fn a_difference_is_put_together_with_what_runs() {
    let device = device();
    std::fs::write(device.path("slot2"), image(1)).unwrap();
    let old = device.slot(2);
    let new = rebuilt(&old);
    let fetched = device
        .fetch(&delta_artifact(&difference(&old, &new)))
        .await
        .unwrap();
    assert_eq!(fetched.payload_bytes, new.len() as u64, "of the image");
    assert!(device.slot(3).starts_with(&new));
    assert!(device.slot(2) == old, "what runs is only read");
    let handler = fetched.handler.unwrap();
    handler.install().await.unwrap();
    device.boot_slot(3);
    let handler = Handler::resume(ambidex_delta::ROOTFS_DELTA, &device.context).unwrap();
    handler.verify_reboot().await.unwrap();
    handler.commit().await.unwrap();
    assert_eq!(vars(&device).await, ["3", "3", "0", "0"]);
}

#[tokio::test]
async fn a_difference_that_leads_nowhere_is_refused_with_its_reason() {
    let device = device();
    let old = device.slot(2);
    let good = difference(&old, &rebuilt(&old));
    let large = difference(&old, &noise(SLOT_BYTES + 1, 3));
    let other = difference(&noise(SLOT_BYTES, 4), &rebuilt(&noise(SLOT_BYTES, 4)));
    for (delta, word) in [
        (&large[..], "slot3"),
        (&other[..], "deploy the whole image"),
        (&good[..good.len() - 30], "ends before"),
        (&b"no difference at all"[..], "ends before"),
        (&[b'x'; 500][..], "no difference between images"),
    ] {
        let error = device.fetch(&delta_artifact(delta)).await.unwrap_err();
        assert!(!error.is_transient(), "another try is of no use: {error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert_eq!(vars(&device).await, ["2", "", "0", "0"]);
    }
}
