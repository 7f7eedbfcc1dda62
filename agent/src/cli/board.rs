//! `board check`: whether a bad update would roll back on this board, and whether remote access would work.

use ambidex_platform::lock::StateLock;

use crate::{config::Config, deployment};

/// With `exercise` a trial of the other slot is prepared and taken back; otherwise nothing is changed.
pub(super) async fn check(config: &Config, exercise: bool) -> Result<u8, String> {
    let rootfs = deployment::rootfs_config(config);
    // the switch must not be touched by two
    let _lock = exercise
        .then(|| StateLock::acquire(&config.roots.state))
        .transpose()
        .map_err(|error| error.to_string())?;
    let mut good = true;
    let mut say = |ok: bool, text: String| {
        good &= ok;
        super::print(&format!("{} {text}\n", if ok { "ok  " } else { "FAIL" }));
    };
    for finding in ambidex_install::check(&rootfs, &config.reboot_command, exercise).await {
        say(finding.good, finding.text);
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
