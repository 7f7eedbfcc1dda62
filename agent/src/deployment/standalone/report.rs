//! What a standalone verb says and how it exits.

use super::At;

/// Exit codes (`agent-behaviour` 6.4).
const EXIT_DONE: u8 = 0;
const EXIT_FAILURE: u8 = 1;
const EXIT_NOTHING: u8 = 2;
const EXIT_REBOOT: u8 = 4;

/// What happened. The reasons of failures go to the log, at once; this is the summary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub(super) failed: bool,
    pub(super) streamed: bool,
    pub(super) streaming_failed: bool,
    pub(super) installed: bool,
    pub(super) install_failed: bool,
    pub(super) committed: bool,
    pub(super) commit_failed: bool,
    pub(super) committed_at_once: bool,
    pub(super) rolled_back: bool,
    pub(super) rollback_failed: bool,
    pub(super) no_rollback: bool,
    pub(super) not_modified: bool,
    pub(super) post_commit_failed: bool,
    pub(super) cleaned: bool,
    pub(super) cleanup_failed: bool,
    pub(super) reboot_wanted: bool,
    pub(super) nothing: bool,
}

impl Report {
    pub(super) fn nothing_in_progress() -> Self {
        Self {
            nothing: true,
            ..Self::default()
        }
    }

    pub(super) fn refused(reason: String) -> Self {
        log::error!("{reason}");
        Self {
            failed: true,
            ..Self::default()
        }
    }

    pub(super) fn not_read(reason: String) -> Self {
        log::error!("{reason}");
        Self {
            failed: true,
            streaming_failed: true,
            not_modified: true,
            ..Self::default()
        }
    }

    pub(super) fn interrupted(&mut self, at: At) {
        log::error!("the update was interrupted in {at:?}");
        self.failed = true;
        if at == At::InstallEnter {
            self.install_failed = true;
        } else {
            self.commit_failed = true;
        }
    }

    /// What to print on standard output, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.committed_at_once {
            lines
                .push("Update Module doesn't support rollback. Committing immediately.".to_owned());
        }
        lines.extend(self.operation().into_iter().map(str::to_owned));
        let additional = self.additional();
        if !additional.is_empty() {
            lines.push(additional.join(" "));
        }
        lines
    }

    fn operation(&self) -> Vec<&'static str> {
        if self.nothing {
            return vec!["No update in progress."];
        }
        if self.failed && !self.post_commit_failed && !self.cleanup_failed {
            return if self.streaming_failed {
                vec!["Streaming failed."]
            } else if self.install_failed {
                vec!["Installation failed."]
            } else if self.commit_failed {
                vec!["Committing failed."]
            } else {
                Vec::new()
            };
        }
        match (self.installed, self.committed) {
            (true, true) => vec!["Installed and committed."],
            (false, true) => vec!["Committed."],
            (true, false) => vec![
                "Installed, but not committed.",
                "Use 'commit' to update, or 'rollback' to roll back the update.",
            ],
            (false, false) if self.streamed => {
                vec!["Streamed to storage, but not installed/enabled."]
            }
            (false, false) if self.cleaned && !self.rolled_back => vec!["Cleaned up."],
            (false, false) => Vec::new(),
        }
    }

    fn additional(&self) -> Vec<&'static str> {
        let mut texts = Vec::new();
        if self.rollback_failed {
            texts.push("Rollback failed. System may be in an inconsistent state.");
        } else if self.no_rollback {
            texts.push(
                "Update Module does not support rollback. System may be in an inconsistent state.",
            );
        } else if self.not_modified {
            texts.push("System not modified.");
        } else if self.rolled_back {
            texts.push("Rolled back.");
        }
        if self.post_commit_failed {
            texts.push("One or more post-commit steps failed.");
        }
        if self.cleanup_failed {
            texts.push("Cleanup failed.");
        }
        if self.reboot_wanted {
            texts.push("At least one payload requested a reboot of the device it updated.");
        }
        texts
    }

    /// The exit code; 4 only when `--reboot-exit-code` was given.
    #[must_use]
    pub fn exit_code(&self, reboot_exit_code: bool) -> u8 {
        if self.nothing {
            EXIT_NOTHING
        } else if self.failed {
            EXIT_FAILURE
        } else if self.reboot_wanted && reboot_exit_code {
            EXIT_REBOOT
        } else {
            EXIT_DONE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_that_users_match_on() {
        let check = |report: Report, lines: &[&str], code: u8| {
            assert_eq!(report.lines(), lines);
            assert_eq!(report.exit_code(false), code);
        };
        check(
            Report::nothing_in_progress(),
            &["No update in progress."],
            2,
        );
        check(
            Report {
                installed: true,
                ..Report::default()
            },
            &[
                "Installed, but not committed.",
                "Use 'commit' to update, or 'rollback' to roll back the update.",
            ],
            0,
        );
        check(
            Report {
                committed: true,
                cleaned: true,
                ..Report::default()
            },
            &["Committed."],
            0,
        );
        check(
            Report {
                rolled_back: true,
                cleaned: true,
                ..Report::default()
            },
            &["Rolled back."],
            0,
        );
        check(
            Report {
                failed: true,
                install_failed: true,
                rolled_back: true,
                ..Report::default()
            },
            &["Installation failed.", "Rolled back."],
            1,
        );
        check(
            Report {
                failed: true,
                streaming_failed: true,
                not_modified: true,
                ..Report::default()
            },
            &["Streaming failed.", "System not modified."],
            1,
        );
        let reboot = Report {
            installed: true,
            reboot_wanted: true,
            ..Report::default()
        };
        assert_eq!(reboot.exit_code(true), 4);
        assert_eq!(reboot.exit_code(false), 0);
        assert_eq!(
            reboot.lines()[2],
            "At least one payload requested a reboot of the device it updated."
        );
        let at_once = Report {
            installed: true,
            committed: true,
            committed_at_once: true,
            ..Report::default()
        };
        assert_eq!(at_once.lines()[1], "Installed and committed.");
    }
}
