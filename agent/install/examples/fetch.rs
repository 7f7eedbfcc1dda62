//! Fetches a rootfs artifact into a slot, to measure the hot path by itself:
//! `fetch ARTIFACT SLOT_A SLOT_B ENV_DIR [--verify]`. `/` is taken to be slot A; `ENV_DIR` gets a
//! pair of GRUB environment blocks if it has none.

use std::path::{Path, PathBuf};

use ambidex_artifact::Verification;
use ambidex_install::boot::{BootConfig, BootKind};
use ambidex_install::{FetchOptions, InstallContext, RootfsConfig, fetch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [artifact, slot_a, slot_b, env_dir, options @ ..] = args.as_slice() else {
        return Err("usage: fetch ARTIFACT SLOT_A SLOT_B ENV_DIR [--verify]".into());
    };
    let number = slot_a.to_string_lossy();
    let number = number.trim_start_matches(|c: char| !c.is_ascii_digit());
    for copy in ["env1", "env2"] {
        let mut block = format!(
            "# GRUB Environment Block\nediting=0\nmender_boot_part={number}\nupgrade_available=0\n"
        )
        .into_bytes();
        block.resize(1024, b'#');
        std::fs::write(env_dir.join(copy), block)?;
    }
    let mut context = InstallContext::new(
        env_dir.join("modules"),
        env_dir.join("tree"),
        env_dir.join("scripts"),
        "testdev",
    );
    context.rootfs = RootfsConfig {
        part_a: Some(slot_a.clone()),
        part_b: Some(slot_b.clone()),
        boot: BootConfig {
            kind: BootKind::Grub,
            env_dir: env_dir.clone(),
            ..BootConfig::default()
        },
        block_class: None,
        running_root: Some(slot_a.clone()),
        verify_written: options.iter().any(|option| option == Path::new("--verify")),
    };
    let input = std::fs::File::open(artifact)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let fetched = runtime.block_on(fetch(
        input,
        &context,
        FetchOptions::new(Verification::Ignore),
    ))?;
    println!("{} bytes of payload", fetched.payload_bytes);
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|line| line.starts_with("VmHWM")) {
        println!("{line}");
    }
    Ok(())
}
