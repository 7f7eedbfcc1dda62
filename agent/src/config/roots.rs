//! Where configuration, data and state live.
//!
//! Contract: native roots, unless a native configuration is absent and a reference client's one is
//! there. Each root can be given by flag or environment, flag first.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Which file names and which spelling of the keys are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `agent.toml`, snake_case keys.
    Native,
    /// `mender.conf`, the reference client's keys.
    Reference,
}

impl Spelling {
    pub(crate) const fn file_name(self) -> &'static str {
        match self {
            Self::Native => "agent.toml",
            Self::Reference => "mender.conf",
        }
    }
}

/// The three folders of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    pub spelling: Spelling,
    /// Configuration and root file system state scripts.
    pub conf: PathBuf,
    /// Identity and inventory scripts, update modules.
    pub data: PathBuf,
    /// Key, state record, deployment logs, update module work.
    pub state: PathBuf,
}

/// Roots given on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RootFlags {
    pub conf: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub state: Option<PathBuf>,
}

const NATIVE: [&str; 3] = ["/etc/ambidex", "/usr/share/ambidex", "/var/lib/ambidex"];
const REFERENCE: [&str; 3] = ["/etc/mender", "/usr/share/mender", "/var/lib/mender"];

impl Roots {
    /// Settles the roots.
    ///
    /// `env` looks up an environment variable, `exists` tells whether a file is there; both are
    /// arguments so that the rule can be tested without touching the process.
    pub(crate) fn settle(
        flags: &RootFlags,
        forced: Option<Spelling>,
        env: &dyn Fn(&str) -> Option<OsString>,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Self {
        let given = |flag: &Option<PathBuf>, names: [&str; 2]| {
            flag.clone().or_else(|| {
                names
                    .iter()
                    .find_map(|name| env(name).filter(|v| !v.is_empty()).map(PathBuf::from))
            })
        };
        let conf = given(&flags.conf, ["AMBIDEX_CONF_DIR", "MENDER_CONF_DIR"]);
        let data = given(&flags.data, ["AMBIDEX_DATA_DIR", "MENDER_DATA_DIR"]);
        let state = given(&flags.state, ["AMBIDEX_STATE_DIR", "MENDER_DATASTORE_DIR"]);

        let spelling = forced.unwrap_or_else(|| {
            let at = |root: &Option<PathBuf>, default: &str, spelling: Spelling| {
                let folder = root.as_deref().unwrap_or_else(|| Path::new(default));
                exists(&folder.join(spelling.file_name()))
            };
            let native =
                at(&conf, NATIVE[0], Spelling::Native) || at(&state, NATIVE[2], Spelling::Native);
            if !native && at(&conf, REFERENCE[0], Spelling::Reference) {
                Spelling::Reference
            } else {
                Spelling::Native
            }
        });
        let defaults = match spelling {
            Spelling::Native => NATIVE,
            Spelling::Reference => REFERENCE,
        };
        // modules and scripts run in other folders: a relative root must not follow them there
        let rooted = |given: Option<PathBuf>, default: &str| {
            let path = given.unwrap_or_else(|| default.into());
            std::path::absolute(&path).unwrap_or(path)
        };
        Self {
            spelling,
            conf: rooted(conf, defaults[0]),
            data: rooted(data, defaults[1]),
            state: rooted(state, defaults[2]),
        }
    }

    /// Update modules, one executable a payload type.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.data.join("modules/v3")
    }

    /// Where an update module works.
    #[must_use]
    pub fn module_work(&self) -> PathBuf {
        self.state.join("modules/v3/payloads/0000/tree")
    }

    /// State scripts of the running root file system.
    #[must_use]
    pub fn rootfs_scripts(&self) -> PathBuf {
        self.conf.join("scripts")
    }

    /// State scripts of the artifact that is being installed.
    #[must_use]
    pub fn artifact_scripts(&self) -> PathBuf {
        self.state.join("scripts")
    }

    /// Name and provides for a device that has none yet; read once.
    #[must_use]
    pub fn bootstrap_artifact(&self) -> PathBuf {
        self.state.join("bootstrap.mender")
    }

    /// The generated device key.
    #[must_use]
    pub fn device_key(&self) -> PathBuf {
        self.state.join("mender-agent.pem")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(files: &[&str], env: &[(&str, &str)], flags: &RootFlags) -> Roots {
        Roots::settle(
            flags,
            None,
            &|name| {
                env.iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| OsString::from(v))
            },
            &|path| files.iter().any(|f| Path::new(f) == path),
        )
    }

    #[test]
    fn the_reference_roots_only_without_a_native_configuration() {
        let none = RootFlags::default();
        assert_eq!(settle(&[], &[], &none).state, Path::new("/var/lib/ambidex"));
        let reference = settle(&["/etc/mender/mender.conf"], &[], &none);
        assert_eq!(reference.spelling, Spelling::Reference);
        assert_eq!(reference.data, Path::new("/usr/share/mender"));
        let both = settle(
            &["/etc/mender/mender.conf", "/etc/ambidex/agent.toml"],
            &[],
            &none,
        );
        assert_eq!(both.spelling, Spelling::Native);
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_default() {
        let env = [
            ("AMBIDEX_STATE_DIR", "/a"),
            ("MENDER_DATASTORE_DIR", "/m"),
            ("MENDER_DATA_DIR", "/d"),
        ];
        let roots = settle(
            &[],
            &env,
            &RootFlags {
                state: Some("/f".into()),
                ..RootFlags::default()
            },
        );
        assert_eq!(roots.state, Path::new("/f"));
        assert_eq!(roots.data, Path::new("/d"));
        assert_eq!(
            settle(&[], &env, &RootFlags::default()).state,
            Path::new("/a")
        );
    }

    #[test]
    fn roots_are_absolute() {
        let flags = RootFlags {
            data: Some("data".into()),
            ..RootFlags::default()
        };
        let roots = settle(&[], &[], &flags);
        assert_eq!(roots.data, std::env::current_dir().unwrap().join("data"));
    }

    #[test]
    fn a_given_folder_with_a_reference_file_is_read_as_such() {
        let env = [("MENDER_CONF_DIR", "/c")];
        assert_eq!(
            settle(&["/c/mender.conf"], &env, &RootFlags::default()).spelling,
            Spelling::Reference
        );
    }
}
