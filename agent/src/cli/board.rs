//! `board check`: whether a bad update would roll back on this board, and whether remote access would work.
//! Changes nothing.

use ambidex_install::{
    Detection,
    boot::{Boot, BootEnv},
};

use crate::{config::Config, deployment};

pub(super) async fn check(config: &Config) -> Result<u8, String> {
    let rootfs = deployment::rootfs_config(config);
    let mut good = true;
    let mut say = |ok: bool, text: String| {
        good &= ok;
        super::print(&format!("{} {text}\n", if ok { "ok  " } else { "FAIL" }));
    };

    let parts = match ambidex_install::detect(&rootfs) {
        Detection::Found { a, b } => {
            say(
                true,
                "the slots are not configured; they were found by the partitions' names".to_owned(),
            );
            [Some(a), Some(b)]
        }
        Detection::Configured => [rootfs.part_a.clone(), rootfs.part_b.clone()],
        Detection::Missing(reason) => {
            say(false, format!("the slots cannot be found: {reason}"));
            [None, None]
        }
    };
    for (key, part) in ["rootfs_part_a", "rootfs_part_b"].into_iter().zip(&parts) {
        match part {
            Some(path) if path.exists() => say(true, format!("{key} is {}", path.display())),
            Some(path) if !path.is_absolute() => say(
                true,
                format!("{key} is {} (looked up at install)", path.display()),
            ),
            Some(path) => say(
                false,
                format!("{key} is {}, which does not exist", path.display()),
            ),
            None => say(
                false,
                format!("{key} is not set; set it in agent.toml, best in the state directory"),
            ),
        }
    }
    match Boot::open(&rootfs.boot) {
        Err(error) => say(false, error.to_string()),
        Ok(boot) => match boot.read().await {
            Err(error) => say(false, format!("{}: {error}", boot.name())),
            Ok(env) => {
                say(true, format!("boot variables are in the {}", boot.name()));
                environment(&env, &mut say);
            }
        },
    }
    remote(config, &mut say);
    Ok(u8::from(!good))
}

#[cfg(feature = "remote-terminal")]
fn remote(config: &Config, say: &mut dyn FnMut(bool, String)) {
    let Some(settings) = &config.remote else {
        return say(
            true,
            "remote access is off (remote.user is not set)".to_owned(),
        );
    };
    let problems = ambidex_connect::problems(settings);
    if problems.is_empty() {
        say(true, "remote access is set up".to_owned());
    }
    for problem in problems {
        say(false, format!("remote access: {problem}"));
    }
}

#[cfg(not(feature = "remote-terminal"))]
fn remote(_: &Config, _: &mut dyn FnMut(bool, String)) {}

fn environment(env: &BootEnv, say: &mut dyn FnMut(bool, String)) {
    match env.boot_part() {
        Some(part) => say(true, format!("the bootloader boots partition {part}")),
        None => say(
            false,
            "mender_boot_part is not set or no number: the boot scripts do not choose a slot by it"
                .to_owned(),
        ),
    }
    match env.check_canary() {
        Ok(()) => say(
            true,
            "bootloader and system see the same variables, as far as the board can tell".to_owned(),
        ),
        Err(reason) => say(false, reason),
    }
    if env.upgrade_available() {
        say(
            true,
            format!(
                "an update waits for its commit (boots so far: {})",
                env.bootcount()
            ),
        );
    } else {
        say(true, "no update waits for its commit".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(pairs: &[(&str, &str)]) -> Vec<String> {
        let vars = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let mut found = Vec::new();
        environment(&BootEnv { vars }, &mut |ok, text| {
            if !ok {
                found.push(text);
            }
        });
        found
    }

    #[test]
    fn a_good_environment_has_no_complaints_and_a_bad_one_names_them() {
        assert!(complaints(&[("mender_boot_part", "2"), ("upgrade_available", "0")]).is_empty());
        assert_eq!(complaints(&[]).len(), 1);
        let unproven = complaints(&[
            ("mender_boot_part", "2"),
            ("mender_check_saveenv_canary", "1"),
        ]);
        assert!(unproven[0].contains("canary"), "{unproven:?}");
    }
}
