//! What is wrong with the settings on this device, found before a user finds it.

use ambidex_platform::confined::Confinement;
use ambidex_platform::{account, fs, pty};

use crate::settings::{FileLimits, NoShell, Settings};

/// One sentence for each thing that would not work, with the key that it is about.
#[must_use]
pub fn problems(settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    let terminal = &settings.terminal;
    match terminal.account() {
        Ok(account) => {
            if !fs::is_executable_file(terminal.shell.as_ref()) {
                found.push(format!(
                    "the shell '{}' (remote.shell) is no program that can be started",
                    terminal.shell
                ));
            }
            if !account.home.is_dir() {
                found.push(format!(
                    "the home directory '{}' of the user '{}' (remote.user) does not exist; shells begin in /",
                    account.home.display(),
                    account.name
                ));
            }
            if let Err(error) = pty::probe(&account) {
                found.push(format!(
                    "there are no terminals: {error}; is devpts mounted at /dev/pts?"
                ));
            }
        }
        Err(NoShell::Disabled) => {}
        Err(error) => found.push(error.to_string()),
    }
    if settings.file_transfer.enabled && settings.file_transfer.limits.enabled {
        files(&settings.file_transfer.limits, &mut found);
    }
    found
}

fn files(limits: &FileLimits, found: &mut Vec<String>) {
    if let Some(chroot) = &limits.chroot
        && let Err(error) = Confinement::new(Some(chroot), limits.follow_symlinks)
    {
        found.push(format!(
            "files are confined to '{}' (remote.file_transfer.limits.chroot), which cannot be opened: {error}",
            chroot.display()
        ));
    }
    let users = [
        ("owner_get", &limits.owner_get),
        ("owner_put", &one(&limits.owner_put)),
    ];
    let groups = [
        ("group_get", &limits.group_get),
        ("group_put", &one(&limits.group_put)),
    ];
    for (kind, keys, look) in [
        (
            "user",
            users,
            account::user_id as fn(&str) -> std::io::Result<Option<u32>>,
        ),
        ("group", groups, account::group_id),
    ] {
        for (key, names) in keys {
            for name in names
                .iter()
                .filter(|name| !matches!(look(name), Ok(Some(_))))
            {
                found.push(format!(
                    "the {kind} '{name}' (remote.file_transfer.limits.{key}) does not exist on this device"
                ));
            }
        }
    }
}

fn one(name: &Option<String>) -> Vec<String> {
    name.iter()
        .filter(|name| !name.is_empty())
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let uid = nix::unistd::geteuid();
        let user = nix::unistd::User::from_uid(uid).unwrap().unwrap().name;
        Settings::new(Some(user), "/nowhere".into())
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        assert_eq!(problems(&settings()), [""; 0]);
        let mut wrong = settings();
        wrong.terminal.user = Some("no-such-user-here".to_owned());
        let limits = &mut wrong.file_transfer.limits;
        limits.enabled = true;
        limits.chroot = Some("/no/such/directory".into());
        limits.owner_get = vec!["root".to_owned(), "nobody-like-that".to_owned()];
        limits.group_put = Some("no-such-group".to_owned());
        let found = problems(&wrong);
        for (number, word) in ["remote.user", "limits.chroot", "owner_get", "group_put"]
            .into_iter()
            .enumerate()
        {
            assert!(found[number].contains(word), "{found:?}");
        }
        assert_eq!(found.len(), 4);
        // what is switched off cannot be wrong
        wrong.terminal.enabled = false;
        wrong.file_transfer.enabled = false;
        assert_eq!(problems(&wrong), [""; 0]);
        let mut shell = settings();
        shell.terminal.shell = "/no/such/shell".to_owned();
        assert!(problems(&shell)[0].contains("remote.shell"));
    }
}
