#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use super::*;
use crate::boot::BootKind;

const SIZE: usize = 0x200;
const OLD: [(&str, &str); 3] = [
    ("mender_boot_part", "2"),
    ("upgrade_available", "0"),
    ("bootcmd", "run distro = x"),
];
const NEW: [(&str, &str); 4] = [
    ("mender_boot_part", "3"),
    ("mender_boot_part_hex", "3"),
    ("upgrade_available", "1"),
    ("bootcount", "0"),
];

fn old() -> BTreeMap<String, String> {
    OLD.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn new() -> BTreeMap<String, String> {
    let mut vars = old();
    vars.extend(NEW.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    vars
}

fn image(flags: u8, redundant: bool) -> Vec<u8> {
    let mut image = Image {
        flags,
        entries: Vec::new(),
    };
    for (key, value) in OLD {
        image.set(key, value);
    }
    encode(&image, SIZE, redundant).unwrap()
}

/// One file per copy, the second at an offset, so that both forms are exercised.
fn fixture(copies: &[Vec<u8>]) -> (tempfile::TempDir, UbootEnv) {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::from("# test\n");
    for (place, bytes) in copies.iter().enumerate() {
        let path = dir.path().join(format!("env{place}"));
        let mut content = vec![0xEE; place * 0x100];
        content.extend_from_slice(bytes);
        std::fs::write(&path, content).unwrap();
        lines.push_str(&format!(
            "{} {:#x} {SIZE:#x}\n",
            path.display(),
            place * 0x100
        ));
    }
    let config = dir.path().join("fw_env.config");
    std::fs::write(&config, lines).unwrap();
    let env = UbootEnv::open(&BootConfig {
        kind: BootKind::Uboot,
        fw_env_config: config,
        uboot_defaults: dir.path().join("defaults"),
        ..BootConfig::default()
    });
    (dir, env.unwrap())
}

fn put(env: &UbootEnv, place: usize, bytes: &[u8]) {
    let file = OpenOptions::new()
        .write(true)
        .open(&env.copies[place].device)
        .unwrap();
    file.write_all_at(bytes, offset_of(&env.copies[place]).unwrap())
        .unwrap();
}

#[test]
fn writes_alternate_between_the_copies_over_the_wrap_of_the_counter() {
    let (_dir, env) = fixture(&[image(254, true), image(253, true)]);
    for round in 0..6 {
        let (place, _) = env.plan(&[]).unwrap();
        assert_eq!(place, if round % 2 == 0 { 1 } else { 0 });
        env.write(&[("round", &round.to_string())]).unwrap();
        assert_eq!(env.read().unwrap()["round"], round.to_string());
    }
    env.write(&NEW).unwrap();
    let mut seen = env.read().unwrap();
    seen.remove("round");
    assert_eq!(seen, new());
}

#[test]
fn a_write_torn_at_any_byte_leaves_the_old_or_the_new_values() {
    for start in [[1, 0], [7, 8], [255, 0], [0, 255]] {
        let (_dir, env) = fixture(&start.map(|flags| image(flags, true)));
        let (place, bytes) = env.plan(&NEW).unwrap();
        // every byte of the variables; behind them there is only padding
        for cut in (0..=140).chain([255, 256, 257, bytes.len() - 1, bytes.len()]) {
            put(&env, place, &image(start[place], true));
            put(&env, place, &bytes[..cut]);
            let seen = env.read().unwrap();
            assert!(
                seen == old() || (seen == new() && cut > 5),
                "cut at {cut}: {seen:?}"
            );
        }
        assert_eq!(env.read().unwrap(), new());
    }
}

#[test]
fn a_damaged_copy_does_not_matter_and_is_healed_by_the_next_write() {
    for damaged in [0, 1] {
        let (_dir, env) = fixture(&[image(4, true), image(5, true)]);
        put(&env, damaged, &[0; 64]);
        assert_eq!(env.read().unwrap(), old());
        env.write(&NEW).unwrap();
        put(&env, 1 - damaged, &[0; 64]);
        assert_eq!(env.read().unwrap(), new(), "copy {damaged} was not healed");
    }
}

#[test]
fn a_single_copy_in_a_file_is_replaced_as_a_whole() {
    let (dir, env) = fixture(&[image(0, false)]);
    let path = dir.path().join("env0");
    let mut longer = std::fs::read(&path).unwrap();
    longer.extend_from_slice(b"neighbour");
    std::fs::write(&path, &longer).unwrap();
    env.write(&NEW).unwrap();
    assert_eq!(env.read().unwrap(), new());
    assert!(std::fs::read(&path).unwrap().ends_with(b"neighbour"));
}

#[test]
fn without_any_valid_copy_the_defaults_count_or_the_error_names_both() {
    let (dir, env) = fixture(&[vec![0; SIZE], vec![0xFF; SIZE]]);
    let text = env.read().unwrap_err().to_string();
    assert!(
        text.contains("env0") && text.contains("env1 at 0x100"),
        "{text}"
    );
    std::fs::write(
        dir.path().join("defaults"),
        "# c\nmender_boot_part=2\nupgrade_available=0\nbootcmd=run distro = x\n",
    )
    .unwrap();
    assert_eq!(env.read().unwrap(), old());
    env.write(&NEW).unwrap();
    std::fs::remove_file(dir.path().join("defaults")).unwrap();
    assert_eq!(env.read().unwrap(), new());
}

#[test]
fn too_many_variables_change_nothing() {
    let (_dir, env) = fixture(&[image(1, true), image(0, true)]);
    let text = env
        .write(&[("big", &"x".repeat(SIZE))])
        .unwrap_err()
        .to_string();
    assert!(text.contains("environment has 512"), "{text}");
    assert_eq!(env.read().unwrap(), old());
}

#[test]
fn flash_devices_are_left_to_the_tools() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("fw_env.config");
    std::fs::write(&config, "/dev/null 0x0 0x1000\n").unwrap();
    let error = UbootEnv::open(&BootConfig {
        fw_env_config: config,
        ..BootConfig::default()
    });
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("/dev/null") && text.contains("tools"),
        "{text}"
    );
}

#[test]
fn the_debian_tools_agree_with_us() {
    let (Some(print), Some(set)) = (
        fs::find_program("fw_printenv"),
        fs::find_program("fw_setenv"),
    ) else {
        ambidex_harness::skip(
            "fw_printenv and fw_setenv are not installed (Debian package libubootenv-tool)",
        );
        return;
    };
    for redundant in [true, false] {
        let copies = [image(3, redundant), image(4, redundant)];
        let (dir, env) = fixture(&copies[..if redundant { 2 } else { 1 }]);
        let config = dir.path().join("fw_env.config");
        let tool = |program: &Path, args: &[&str]| {
            let out = std::process::Command::new(program)
                .arg("-c")
                .arg(&config)
                .args(args)
                .output()
                .unwrap();
            assert!(out.status.success(), "{program:?} {args:?}: {out:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        for round in 0..4 {
            // the tool takes the lock as well, so ours must be free again by now
            env.write(&[("mender_boot_part", &round.to_string())])
                .unwrap();
            let printed = tool(&print, &[]);
            let wanted = format!("mender_boot_part={round}");
            assert!(
                printed.lines().any(|line| line == wanted),
                "{wanted} not in {printed}"
            );
            assert!(
                printed.lines().any(|line| line == "bootcmd=run distro = x"),
                "{printed}"
            );
            tool(&set, &["by_tool", &format!("value {round}")]);
            assert_eq!(env.read().unwrap()["by_tool"], format!("value {round}"));
        }
        tool(&set, &["by_tool"]);
        assert!(!env.read().unwrap().contains_key("by_tool"));
    }
}

#[test]
fn a_place_beyond_every_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env");
    std::fs::write(&file, b"short").unwrap();
    let defaults = dir.path().join("defaults");
    std::fs::write(&defaults, b"mender_boot_part=2\n").unwrap();
    let config = dir.path().join("fw_env.config");
    for offset in ["0x7fffffffffffffff", "0x4000001"] {
        let line = format!("{} {offset} {SIZE:#x}\n", file.display());
        std::fs::write(&config, line).unwrap();
        let env = UbootEnv::open(&BootConfig {
            kind: BootKind::Uboot,
            fw_env_config: config.clone(),
            uboot_defaults: defaults.clone(),
            ..BootConfig::default()
        })
        .unwrap();
        assert!(env.write(&NEW).is_err(), "{offset}");
        assert_eq!(std::fs::read(&file).unwrap(), b"short");
    }
}

#[test]
fn a_copy_that_is_shorter_than_its_distance_from_the_end_leaves_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let [short, whole] = ["short", "whole"].map(|name| dir.path().join(name));
    std::fs::write(&short, b"torn").unwrap();
    std::fs::write(&whole, image(1, true)).unwrap();
    let config = dir.path().join("fw_env.config");
    let line = |file: &Path| format!("{} -{SIZE:#x} {SIZE:#x}\n", file.display());
    std::fs::write(&config, line(&short) + &line(&whole)).unwrap();
    let env = UbootEnv::open(&BootConfig {
        kind: BootKind::Uboot,
        fw_env_config: config,
        uboot_defaults: dir.path().join("defaults"),
        ..BootConfig::default()
    })
    .unwrap();
    assert_eq!(env.read().unwrap(), old());
}
