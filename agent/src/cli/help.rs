//! The help texts. Hand-written: they teach the order in which the verbs are used.

const OVERVIEW: &str = "\
ambidex-agent - keeps this device up to date, from an update server or by hand

USAGE
    ambidex-agent [OPTIONS] COMMAND

UPDATES FROM A SERVER
    daemon              Stay in the background: log in, send the inventory, install what
                        the server deploys, roll back what does not work
    check-update        Tell the running daemon to ask for a deployment now
    send-inventory      Tell the running daemon to send the inventory now
    deployment VERB     Show, continue, pause or abort the deployment in progress
    bootstrap           Make the device key and log in once (optional; the daemon does it)

UPDATES BY HAND
    install FILE|URL    Install an artifact; then reboot if told so, and commit or rollback
    commit              Keep what was installed
    rollback            Undo what was installed
    resume              Go on with an installation that was interrupted

INFORMATION
    status              What is configured, installed, running and in progress
    show-artifact       Name of the installed artifact
    show-provides       Everything this device provides, one key=value a line
    board check         Whether bootloader and remote access are set up as they must be

OPTIONS
    -c, --config FILE           Configuration (agent.toml, or mender.conf in JSON)
    -b, --fallback-config FILE  Read first; the configuration overrides it key by key
        --conf-dir DIR          Configuration root       (AMBIDEX_CONF_DIR)
        --data-dir DIR          Scripts and modules root (AMBIDEX_DATA_DIR)
    -d, --state-dir DIR         State root               (AMBIDEX_STATE_DIR)
    -E, --trusted-certs FILE    Also trust these certificates (PEM)
        --skipverify            Do not check the server's certificate; only for tests
    -l, --log-level LEVEL       trace, debug, info, warning, error or fatal
    -L, --log-file FILE         Log there instead of standard error
    -v, --version               Print the version
    -h, --help                  This text; after a command, that command's

EXIT CODES
    0 done    1 failure    2 nothing in progress    4 reboot needed (--reboot-exit-code)
";

const VERBS: &[(&str, &str)] = &[
    (
        "daemon",
        "\
ambidex-agent daemon - stay in the background and follow the server

The daemon first finishes what a restart interrupted: it commits a new system once the server was
reached from it, or rolls back. Then it logs in, sends the inventory and asks for deployments, at
the intervals of the configuration. A device that waits for acceptance is retried every few minutes.

With a [remote] table in the configuration it also serves terminals, files and ports through the server.

SIGUSR1 asks for a deployment now, SIGUSR2 sends the inventory now, SIGTERM stops in good order.
Only one daemon works on a state directory. It tells systemd when it is ready and feeds its watchdog.
",
    ),
    (
        "bootstrap",
        "\
ambidex-agent bootstrap [-F|--forcebootstrap] - make the device key and log in once

Makes the key if there is none, then tries to log in for 30 seconds. The device appears on the server
as pending; accept it there. Nothing has to be bootstrapped before the daemon starts.

    -F, --forcebootstrap   Make a new key although there is one. The server sees a new key, which has
                           to be accepted; the old one is kept beside it as mender-agent.pem.replaced
",
    ),
    (
        "check-update",
        "\
ambidex-agent check-update - tell the running daemon to ask the server for a deployment now

Fails when no daemon runs on this state directory.
",
    ),
    (
        "send-inventory",
        "\
ambidex-agent send-inventory - tell the running daemon to send the inventory now

An inventory that the server has already is not sent again. Fails when no daemon runs.
",
    ),
    (
        "deployment",
        "\
ambidex-agent deployment show|continue|pause|abort - say what happens to a deployment

    show       The deployment in progress or offered, and where and why it is held
    continue   Agree to what is held now, also outside the maintenance window; end a pause
    pause      Hold deployments at their next gate: before download, install, reboot or commit
    abort      End the deployment: at once while it downloads or is held, else at its next gate;
               what is installed already is rolled back. The server hears of a failure

Talks to the running daemon over <state directory>/daemon/control.sock; for root only. A wish holds
over restarts. Where consent is always needed says the table [consent] of the configuration.
A system that waits before the commit is on trial: when its power is cut, it goes back to the old one.
Ends with 2 when there is nothing that the wish could be about.
",
    ),
    ("show-artifact", "ambidex-agent show-artifact - print the name of the installed artifact\n"),
    (
        "show-provides",
        "\
ambidex-agent show-provides - print everything this device provides, sorted, one key=value a line

Artifacts may depend on these values, and the server chooses deployments by them.
",
    ),
    (
        "install",
        "\
ambidex-agent install FILE|URL [--reboot-exit-code] [--stop-before STATE]... - install an artifact by hand

Verifies while it streams and writes to the inactive slot or through an update module. It never reboots
by itself. An artifact that can be rolled back stays uncommitted:

    ambidex-agent install https://example.com/release-2.mender
    reboot
    ambidex-agent commit          # or: ambidex-agent rollback

An artifact that cannot be rolled back is committed at once.

    --reboot-exit-code     End with 4 instead of 0 when a reboot is needed
    --stop-before STATE    Stop there (may be repeated), go on with resume. STATE is one of
                           ArtifactInstall_Enter, ArtifactCommit_Enter, ArtifactCommit_Leave,
                           ArtifactRollback_Enter, ArtifactFailure_Enter, Cleanup
",
    ),
    (
        "commit",
        "\
ambidex-agent commit [--stop-before STATE]... - keep what was installed

After a reboot into the new system, this makes it permanent; without it, the next reboot goes back.
Ends with 2 when nothing is to be committed.
",
    ),
    (
        "rollback",
        "\
ambidex-agent rollback [--stop-before STATE]... - undo what was installed and not committed

If the new system runs already, reboot afterwards. Ends with 2 when nothing is to be undone.
",
    ),
    (
        "resume",
        "\
ambidex-agent resume [--reboot-exit-code] [--stop-before STATE]... - go on with an installation

Goes on after --stop-before, or after an interruption: what was being installed or committed at that
moment is rolled back. Ends with 2 when nothing is in progress.
",
    ),
    (
        "board check",
        "\
ambidex-agent board check [--exercise] - whether this board is set up for updates that roll back, and for
remote access

Looks at the slots and at everything that their boot loader needs (files, partitions, scripts), and compares
it with the running system; and looks whether remote access, where it is on, has what it needs: user, shell,
terminals, directories. Each line begins with ok or FAIL and says what to change; ends with 1 when one fails.
Changes nothing. Run it when you bring up a board, and when an update was refused.

    --exercise    Prepare a trial of the other slot and take it back, if nothing else is wrong. Should the
                  power fail in between, the board tries the other slot once. (With systemd-boot the other
                  slot's entry has no boots left afterwards, until the next update.)
",
    ),
    (
        "status",
        "\
ambidex-agent status - what is configured, installed, running and in progress

Reads files only: it works without a server and without a daemon.
",
    ),
];

pub(super) fn is_verb(word: &str) -> bool {
    VERBS
        .iter()
        .any(|(name, _)| *name == word || name.split(' ').next() == Some(word))
}

/// The text for a verb, or the overview.
pub(super) fn text(verb: Option<&str>) -> &'static str {
    let wanted = verb.unwrap_or_default();
    let mut words = wanted.split(' ');
    let first = words.next().unwrap_or_default();
    VERBS
        .iter()
        .find(|(name, _)| *name == wanted || name.split(' ').next() == Some(first))
        .map_or(OVERVIEW, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_explained_and_in_the_overview() {
        for (name, help) in VERBS {
            assert!(OVERVIEW.contains(&format!("\n    {name}")), "{name}");
            assert!(help.starts_with(&format!("ambidex-agent {name}")), "{name}");
            assert_eq!(text(Some(name)), *help);
        }
        assert_eq!(text(Some("install /x")), text(Some("install")));
        assert_eq!(text(None), OVERVIEW);
        assert_eq!(text(Some("nonsense")), OVERVIEW);
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        for text in VERBS.iter().map(|(_, text)| *text).chain([OVERVIEW]) {
            for line in text.lines() {
                assert!(line.chars().count() <= 110, "{line}");
            }
        }
    }
}
