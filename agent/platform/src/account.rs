//! Users and groups of the device.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::unistd::{Group, User, geteuid, getgrouplist};

/// Where login shells are listed, one path a line.
const SHELLS: &str = "/etc/shells";
const SHELLS_BYTES_MAX: u64 = 64 * 1024;

/// A user, as far as a program that runs in their name needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one among them.
    pub groups: Vec<u32>,
    /// Home directory; may not exist.
    pub home: PathBuf,
}

impl Account {
    /// The user with this name, or `None`.
    ///
    /// # Errors
    /// When the system's user database cannot be asked.
    pub fn lookup(name: &str) -> io::Result<Option<Account>> {
        let Some(user) = User::from_name(name)? else {
            return Ok(None);
        };
        let named = CString::new(name)?;
        let groups = getgrouplist(&named, user.gid)?;
        Ok(Some(Account {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(|group| group.as_raw()).collect(),
            home: user.dir,
            name: user.name,
        }))
    }

    /// Whether it may do everything.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether this process may start programs in its name: as root, or because it is this user.
    #[must_use]
    pub fn can_be_assumed(&self) -> bool {
        let own = geteuid();
        own.is_root() || own.as_raw() == self.uid
    }
}

/// The user id of a name.
///
/// # Errors
/// As [`Account::lookup`].
pub fn user_id(name: &str) -> io::Result<Option<u32>> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

/// The group id of a name.
///
/// # Errors
/// As [`Account::lookup`].
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether a program may be a login shell: it is listed in `/etc/shells`, or that file does not exist and it
/// is `/bin/sh`.
#[must_use]
pub fn is_login_shell(program: &str) -> bool {
    match crate::fs::read_if_present(SHELLS.as_ref(), SHELLS_BYTES_MAX) {
        Ok(Some(text)) => listed(&String::from_utf8_lossy(&text), program),
        Ok(None) | Err(_) => program == "/bin/sh",
    }
}

fn listed(text: &str, program: &str) -> bool {
    text.lines()
        .map(str::trim)
        .any(|line| !line.starts_with('#') && line == program)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn the_one_user_of_every_system_is_found() {
        let root = Account::lookup("root").unwrap().unwrap();
        assert!(root.is_root() && root.groups.contains(&root.gid));
        assert_eq!(user_id("root").unwrap(), Some(0));
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert!(Account::lookup("no-such-user-here").unwrap().is_none());
        assert!(!matches!(Account::lookup("with\0nul"), Ok(Some(_))));
    }

    #[test]
    fn only_whole_uncommented_lines_are_shells() {
        let text = "# shells\n/bin/sh\n #/bin/no\n/bin/bash \n";
        assert!(listed(text, "/bin/sh") && listed(text, "/bin/bash"));
        assert!(!listed(text, "/bin/no") && !listed(text, "/bin") && !listed(text, "# shells"));
    }
}
