//! The files of `board-support/` that an integrator copies: the scripts are run, on directories and on images in files.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ambidex_install::boot::{BootConfig, BootKind, Loader};

fn board_support(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../board-support")
        .join(name)
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn good(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(command: &mut Command) -> String {
    let output = run(command);
    assert!(!output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn write(dir: &Path, name: &str, content: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What NVIDIA's tool prints, over two files.
const NVBOOTCTRL: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
[ "$1 $2" = "-t rootfs" ] || exit 9
case $3 in
get-current-slot) cat current ;;
set-active-boot-slot) echo "$4" > active; echo done ;;
dump-slots-info)
    echo "Current rootfs slot: $(tr 01 AB < current)"
    echo "Active rootfs slot: $(tr 01 AB < active)"
    echo "num_slots: 2"
    echo "slot: 0,             retry_count: 3,             status: normal" ;;
*) exit 9 ;;
esac
"#;

#[test]
fn the_example_for_nvbootctrl_keeps_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    executable(&path("nvbootctrl"), NVBOOTCTRL);
    let restart = |slot: &str, boot: &str| {
        fs::write(path("current"), format!("{slot}\n")).unwrap();
        fs::write(path("boot_id"), format!("{boot}\n")).unwrap();
    };
    fs::write(path("active"), "0\n").unwrap();
    restart("0", "one");
    let script = |args: &[&str]| {
        let mut command = Command::new(board_support("script/nvbootctrl"));
        command
            .args(args)
            .env("NVBOOTCTRL", path("nvbootctrl"))
            .env("TRIED", path("tried"))
            .env("BOOT_ID", path("boot_id"));
        command
    };
    let state = |running, next, trial| {
        let wanted = format!("protocol=1\nrunning={running}\nnext={next}\ntrial={trial}\n");
        assert_eq!(good(&mut script(&["state"])), wanted);
    };
    state("a", "a", "no");
    good(&mut script(&["set-try", "b"]));
    state("a", "b", "yes");
    restart("1", "two");
    state("b", "b", "yes");
    good(&mut script(&["commit", "b"]));
    state("b", "b", "no");
    // back to A, which does not come up: UEFI goes back by itself
    good(&mut script(&["set-try", "a"]));
    restart("1", "three");
    state("b", "a", "no");
    good(&mut script(&["rollback", "b"]));
    state("b", "b", "no");
    // taken back in the trial
    good(&mut script(&["set-try", "a"]));
    restart("0", "four");
    good(&mut script(&["rollback", "b"]));
    state("a", "b", "no");
    for args in [&["set-try", "c"][..], &["commit"], &["blow-up"], &[]] {
        assert!(!refused(&mut script(args)).is_empty());
    }
    fs::write(path("current"), "7\n").unwrap();
    assert!(refused(&mut script(&["state"])).contains("'7'"));
}

#[test]
fn the_template_says_what_to_fill_in() {
    let template = board_support("script/template");
    let mut command = Command::new(&template);
    assert!(refused(command.arg("state")).contains("fill in: running"));
    assert!(refused(Command::new(&template).arg("set-try")).contains("no slot"));
    let text = fs::read_to_string(&template).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let filled = dir.path().join("filled");
    let body = |function: &str, body: &str| {
        (
            format!("    echo \"fill in: {function}\" >&2\n    return 1\n"),
            format!("    {body}\n"),
        )
    };
    let text = [
        body("running", "echo a"),
        body("next", "echo a"),
        body("on_trial", "return 1"),
    ]
    .iter()
    .fold(text, |text, (from, to)| text.replace(from, to));
    executable(&filled, &text);
    assert_eq!(
        good(Command::new(&filled).arg("state")),
        "protocol=1\nrunning=a\nnext=a\ntrial=no\n"
    );
}

#[test]
fn the_files_for_systemd_boot_pass_the_self_test() {
    let dir = tempfile::tempdir().unwrap();
    let esp = dir.path().join("esp");
    for (from, to) in [
        ("loader.conf", "loader/loader.conf"),
        ("ambidex-a.conf", "loader/entries/ambidex-a.conf"),
        ("ambidex-b.conf", "loader/entries/ambidex-b.conf"),
    ] {
        let text = fs::read(board_support(&format!("systemd-boot/{from}"))).unwrap();
        write(&esp, to, &text);
    }
    let root = dir.path().join("root");
    write(&root, "boot/vmlinuz-6.1", b"a kernel");
    write(&root, "boot/initrd", b"an initramfs");
    std::os::unix::fs::symlink("vmlinuz-6.1", root.join("boot/vmlinuz")).unwrap();
    let slot_files = |slot: &str| {
        let mut command = Command::new(board_support("systemd-boot/slot-files"));
        command.arg(slot).arg(&root).env("ESP", &esp);
        command
    };
    for slot in ["a", "b", "b"] {
        good(&mut slot_files(slot));
        let kernel = fs::read(esp.join(format!("ambidex/{slot}/vmlinuz"))).unwrap();
        assert_eq!(kernel, b"a kernel");
    }
    let config = BootConfig {
        kind: BootKind::Auto,
        env_dir: dir.path().join("no"),
        fw_env_config: dir.path().join("no"),
        autoboot_dir: dir.path().join("no"),
        esp: esp.clone(),
        ..BootConfig::default()
    };
    assert!(matches!(
        Loader::open(&config, [2, 3]).unwrap(),
        Loader::SystemdBoot(_)
    ));
    assert!(refused(&mut slot_files("c")).contains("no slot"));
    fs::remove_file(root.join("boot/initrd")).unwrap();
    refused(&mut slot_files("a"));
}

#[test]
fn the_boot_files_of_a_raspberry_pi_reach_the_slots_own_partition() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let source = "root/usr/lib/ambidex/boot";
    write(&path(source), "config.txt", b"kernel=kernel8.img\n");
    write(
        &path(source),
        "cmdline.txt",
        b"console=tty1 root=@ROOT@ rootwait\n",
    );
    write(&path(source), "kernel8.img", b"a kernel");
    write(&path(source), "overlays/x.dtbo", b"an overlay");
    write(&path("boot"), "old.img", b"from before");
    write(&path("boot"), "overlays/old.dtbo", b"from before");
    let slot_files = |slot: &str| {
        let mut command = Command::new(board_support("raspberrypi-tryboot/slot-files"));
        command
            .arg(slot)
            .arg(path("root"))
            .env("BOOT_DEVICE", path("boot"))
            .env("ROOT", "PARTUUID=1234abcd-06");
        command
    };
    good(&mut slot_files("b"));
    let read = |name: &str| fs::read_to_string(path("boot").join(name));
    assert_eq!(
        read("cmdline.txt").unwrap(),
        "console=tty1 root=PARTUUID=1234abcd-06 rootwait\n"
    );
    assert_eq!(read("overlays/x.dtbo").unwrap(), "an overlay");
    assert!(read("old.img").is_err() && read("overlays/old.dtbo").is_err());
    assert!(refused(&mut slot_files("x")).contains("no slot"));
    write(&path(source), "cmdline.txt", b"root=/dev/mmcblk0p5\n");
    assert!(refused(&mut slot_files("b")).contains("would boot the wrong slot"));
    fs::remove_file(path(source).join("config.txt")).unwrap();
    assert!(refused(&mut slot_files("b")).contains("no /usr/lib/ambidex/boot/config.txt"));
}

/// After a power cut Linux may refuse to write to a FAT file system; the next update must not stop at it. Nothing is
/// mounted here, which takes a right and a driver: the files go where they would be mounted.
#[test]
fn a_damaged_boot_partition_of_a_raspberry_pi_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let image = path("boot.img");
    fs::File::create(&image).unwrap().set_len(40 << 20).unwrap();
    let mut make = Command::new("mkfs.vfat");
    make.args(["-F", "32", "-n", "BOOT-B"]).arg(&image);
    if make.output().is_err() {
        ambidex_harness::skip("mkfs.vfat is missing (Debian package dosfstools)");
        return;
    }
    let check = || run(Command::new("fsck.vfat").arg("-n").arg(&image)).status;
    assert!(check().success());
    // both allocation tables: chains to clusters that the file system does not have
    let mut content = fs::read(&image).unwrap();
    let field = |at: usize| usize::from(u16::from_le_bytes([content[at], content[at + 1]]));
    let (tables, length) = (field(14) * 512, field(36) * 512);
    for table in [tables, tables + length] {
        content[table + 12..table + 2048].fill(0x0e);
    }
    fs::write(&image, content).unwrap();
    assert!(!check().success(), "it is damaged");

    for (name, line) in [
        ("mount", "exit 0"),
        ("umount", "rm -r \"$1\"; mkdir \"$1\""),
    ] {
        write(
            &path("bin"),
            name,
            format!("#!/bin/sh\n{line}\n").as_bytes(),
        );
        good(Command::new("chmod").arg("755").arg(path("bin").join(name)));
    }
    let source = path("root/usr/lib/ambidex/boot");
    write(&source, "config.txt", b"kernel=kernel8.img\n");
    write(&source, "cmdline.txt", b"root=@ROOT@\n");
    let search = std::env::var("PATH").unwrap();
    good(
        Command::new(board_support("raspberrypi-tryboot/slot-files"))
            .arg("b")
            .arg(path("root"))
            .env("PATH", format!("{}:{search}", path("bin").display()))
            .env("BOOT_DEVICE", &image)
            .env("ROOT", "/dev/vda6"),
    );
    assert!(check().success(), "it was made anew");
    assert!(good(Command::new("blkid").arg(&image)).contains("LABEL=\"BOOT-B\""));
}

/// An image as Raspberry Pi OS has it, in small: MBR, a FAT and an ext4 partition.
fn synthetic_image(dir: &Path) -> PathBuf {
    let path = |name: &str| dir.join(name);
    write(&path("boot"), "config.txt", b"kernel=kernel8.img\n");
    write(
        &path("boot"),
        "cmdline.txt",
        b"console=tty1 root=PARTUUID=0badcafe-02 rootfstype=ext4 rootwait init=/usr/lib/raspberrypi-sys-mods/firstboot\n",
    );
    write(&path("boot"), "kernel8.img", &[0x4B; 70_000]);
    write(&path("boot"), "overlays/x.dtbo", b"an overlay");
    write(&path("root"), "etc/fstab", b"the old one\n");
    write(&path("root"), "sbin/init", b"#!/bin/sh\n");
    let (fat, ext4, image) = (path("fat"), path("ext4"), path("image"));
    for (file, mib) in [(&fat, 8), (&ext4, 12), (&image, 22)] {
        fs::File::create(file).unwrap().set_len(mib << 20).unwrap();
    }
    good(
        Command::new("mformat")
            .arg("-i")
            .arg(&fat)
            .args(["-T", "16384", "-h", "255", "-s", "63", "::"]),
    );
    let files = ["config.txt", "cmdline.txt", "kernel8.img", "overlays"];
    good(
        Command::new("mcopy")
            .arg("-s")
            .arg("-i")
            .arg(&fat)
            .args(files.map(|name| path("boot").join(name)))
            .arg("::"),
    );
    good(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .arg(path("root"))
            .arg(&ext4),
    );
    let table = "label: dos\nstart=2048,size=16384,type=c\nstart=18432,size=24576,type=83\n";
    write(dir, "table", table.as_bytes());
    let table = fs::File::open(path("table")).unwrap();
    good(Command::new("sfdisk").arg("-q").arg(&image).stdin(table));
    let mut whole = fs::read(&image).unwrap();
    for (part, sector) in [(fat, 2048), (ext4, 18_432)] {
        let bytes = fs::read(part).unwrap();
        whole[sector * 512..][..bytes.len()].copy_from_slice(&bytes);
    }
    fs::write(&image, whole).unwrap();
    image
}

#[test]
fn an_image_is_laid_out_for_two_slots_without_root() {
    for (tool, package) in [
        ("sfdisk", "fdisk"),
        ("mformat", "mtools"),
        ("debugfs", "e2fsprogs"),
    ] {
        if ambidex_platform::fs::find_program(tool).is_none() {
            ambidex_harness::skip(&format!(
                "{tool} is not installed (Debian package {package})"
            ));
            return;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let image = synthetic_image(dir.path());
    write(&path("overlay"), "usr/bin/ambidex-agent", b"the agent\n");
    let convert = |image: &Path| {
        let mut command = Command::new(board_support("raspberrypi-tryboot/convert"));
        command
            .arg(image)
            .arg(path("out"))
            .env("OVERLAY", path("overlay"))
            .env("BOOT_MB", "8")
            .env("DATA_MB", "8")
            .env("DISK_ID", "1234abcd")
            .env("DEVICE_TYPE", "raspberrypi4");
        command
    };
    good(&mut convert(&image));
    let disk = path("out/disk.img");

    let table = good(Command::new("sfdisk").arg("-d").arg(&disk));
    assert!(table.contains("label-id: 0x1234abcd"), "{table}");
    let place = |number: usize| -> u64 {
        let line = table
            .lines()
            .find(|line| line.contains(&format!("img{number} :")))
            .unwrap();
        let start = line
            .split("start=")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        start.trim().parse::<u64>().unwrap() * 512
    };
    let fat = |number: usize, file: &str| {
        let at = format!("{}@@{}", disk.display(), place(number));
        good(
            Command::new("mtype")
                .args(["-i", &at])
                .arg(format!("::{file}")),
        )
    };
    assert_eq!(
        fat(1, "autoboot.txt"),
        fs::read_to_string(board_support("raspberrypi-tryboot/autoboot.txt")).unwrap()
    );
    for (boot, root) in [(2, 5), (3, 6)] {
        assert_eq!(
            fat(boot, "cmdline.txt"),
            format!(
                "console=tty1 root=PARTUUID=1234abcd-0{root} rootfstype=ext4 rootwait panic=5\n"
            )
        );
        assert_eq!(fat(boot, "kernel8.img").len(), 70_000);
        assert_eq!(fat(boot, "overlays/x.dtbo"), "an overlay");
    }
    let whole = fs::read(&disk).unwrap();
    let slot = fs::read(path("out/rootfs.ext4")).unwrap();
    for number in [5, 6] {
        let at = usize::try_from(place(number)).unwrap();
        assert!(
            whole[at..][..slot.len()] == slot,
            "slot {number} is the artifact's image"
        );
    }
    let inside = |file: &str| {
        let ask = format!("cat {file}");
        good(
            Command::new("debugfs")
                .args(["-R", &ask])
                .arg(path("out/rootfs.ext4")),
        )
    };
    assert_eq!(inside("/usr/bin/ambidex-agent"), "the agent\n");
    assert_eq!(inside("/sbin/init"), "#!/bin/sh\n");
    assert!(inside("/etc/fstab").contains("PARTUUID=1234abcd-07 /data"));
    assert!(inside("/usr/lib/ambidex/boot/cmdline.txt").contains(" root=@ROOT@ "));
    let data = usize::try_from(place(7)).unwrap();
    fs::write(path("data"), &whole[data..][..8 << 20]).unwrap();
    let told = good(
        Command::new("debugfs")
            .args(["-R", "cat /ambidex/device_type"])
            .arg(path("data")),
    );
    assert_eq!(told, "device_type=raspberrypi4\n");

    fs::write(path("no-image"), [0; 4096]).unwrap();
    assert!(refused(&mut convert(&path("no-image"))).contains("no partition for"));
    assert!(refused(&mut convert(&path("absent"))).contains("does not exist"));
}
