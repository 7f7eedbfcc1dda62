//! A vendor's program in a few lines of shell, and what a strict caller makes of worse ones.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use super::*;
use ambidex_platform::fs::write_plain;

const GOOD: &str = "protocol=1\nrunning=a\nnext=a\ntrial=no\n";

fn script(body: &str) -> (tempfile::TempDir, Script) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    let text = format!("#!/bin/sh\ncd {}\n{body}\n", dir.path().display());
    write_plain(&path, text.as_bytes(), 0o755).unwrap();
    let script = Script {
        program: path,
        time_max: Duration::from_secs(20),
    };
    (dir, script)
}

/// Three files hold what a vendor's boot loader holds.
const KEEPS: &str = r#"
case $1 in
state) echo protocol=1; echo running=$(cat running); echo next=$(cat next); echo trial=$(cat trial) ;;
set-try) echo $2 > next; echo yes > trial ;;
commit|rollback) echo $2 > next; echo no > trial ;;
*) echo "unknown verb $1" >&2; exit 2 ;;
esac"#;

fn keeping() -> (tempfile::TempDir, Script) {
    let (dir, script) = script(KEEPS);
    for (name, value) in [("running", "a"), ("next", "a"), ("trial", "no")] {
        std::fs::write(dir.path().join(name), value).unwrap();
    }
    (dir, script)
}

#[tokio::test]
async fn a_trial_is_prepared_committed_and_taken_back_by_its_verbs() {
    let (dir, script) = keeping();
    let state = async |running| {
        let state = script.state(running).await.unwrap();
        (state.side, state.trial)
    };
    assert_eq!(state(Some(Side::A)).await, (Some(Side::A), false));
    script.try_next(Side::B).await.unwrap();
    assert_eq!(state(Some(Side::A)).await, (Some(Side::B), true));
    script.go_back(Side::A).await.unwrap();
    assert_eq!(state(Some(Side::A)).await, (Some(Side::A), false));
    script.try_next(Side::B).await.unwrap();
    std::fs::write(dir.path().join("running"), "b").unwrap();
    assert_eq!(state(None).await, (Some(Side::B), true));
    assert_eq!(
        state(Some(Side::A)).await.0,
        None,
        "the kernel knows another slot"
    );
    script.commit(Side::B).await.unwrap();
    assert_eq!(state(Some(Side::B)).await, (Some(Side::B), false));
}

#[test]
fn answers_are_taken_word_for_word() {
    assert_eq!(
        Answer::parse("trial=yes\nnext=b\nprotocol=1\nrunning=unknown\n").unwrap(),
        Answer {
            running: None,
            next: Side::B,
            trial: true
        }
    );
    for (change, wanted) in [
        (("protocol=1", "protocol=2"), "protocol=\"2\" must be 1"),
        (("protocol=1\n", ""), "protocol is missing"),
        (
            ("running=a", "running=A"),
            "running=\"A\" must be a, b or unknown",
        ),
        (
            ("next=a", "next=unknown"),
            "next=\"unknown\" must be a or b",
        ),
        (("next=a", "next=a "), "next=\"a \" must be"),
        (("trial=no", "trial=0"), "trial=\"0\" must be yes or no"),
        (
            ("trial=no", "trial=no\ntrial=no"),
            "trial stands there twice",
        ),
        (
            ("trial=no", "trial=no\nslot=a"),
            "\"slot\" is none of protocol",
        ),
        (
            ("trial=no", "trial=no\nhello"),
            "\"hello\" is not KEY=VALUE",
        ),
    ] {
        let error = Answer::parse(&GOOD.replace(change.0, change.1)).unwrap_err();
        assert!(error.contains(wanted), "{change:?}: {error}");
    }
    assert!(Answer::parse("").unwrap_err().contains("missing"));
}

#[tokio::test]
async fn a_script_that_fails_lies_hangs_or_floods_is_told() {
    for (body, wanted) in [
        ("echo no such chip >&2; exit 3", "code 3: no such chip"),
        (
            "head -c 5000 /dev/zero | tr '\\0' x",
            "more than 4096 bytes",
        ),
        ("printf '\\377'", "no text"),
        ("echo running=a", "wrong answer: protocol is missing"),
        ("kill -9 $$", "signal 9"),
    ] {
        let (_dir, script) = script(body);
        let error = script.state(None).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{body}: {error}");
    }
    let lies = format!(
        "[ $1 = state ] && printf '{}'; exit 0",
        GOOD.replace('\n', "\\n")
    );
    let (_dir, liar) = script(&lies);
    let error = liar.try_next(Side::B).await.unwrap_err().to_string();
    assert!(
        error.contains("set-try b succeeded, but state then says next=a and trial=no"),
        "{error}"
    );
    let (_dir, mut hangs) = script("sleep 600");
    hangs.time_max = Duration::from_millis(300);
    let error = hangs.state(None).await.unwrap_err().to_string();
    assert!(error.contains("time"), "{error}");
}

/// A program is killed at each of its commands; whatever it has stored, the next call of the agent ends
/// where it was meant to.
#[tokio::test]
async fn a_script_that_dies_anywhere_is_called_again() {
    for verb in ["set-try", "commit", "rollback"] {
        for cut in 1..=2 {
            let body = KEEPS.replacen(
                "case $1 in",
                &format!(
                    "[ -e once ] || {{ : > once; [ $1 = {verb} ] && cut={cut}; }}\ncase $1 in"
                ),
                1,
            );
            let body = body
                .replace(
                    "echo $2 > next;",
                    "[ \"$cut\" = 1 ] && kill -9 $$; echo $2 > next;",
                )
                .replace(
                    "echo no > trial",
                    "[ \"$cut\" = 2 ] && kill -9 $$; echo no > trial",
                )
                .replace(
                    "echo yes > trial",
                    "[ \"$cut\" = 2 ] && kill -9 $$; echo yes > trial",
                );
            let (dir, script) = script(&body);
            let (next, trial) = if verb == "set-try" {
                ("a", "no")
            } else {
                ("b", "yes")
            };
            for (name, value) in [("running", "unknown"), ("next", next), ("trial", trial)] {
                std::fs::write(dir.path().join(name), value).unwrap();
            }
            let call = async || match verb {
                "set-try" => script.try_next(Side::B).await,
                "commit" => script.commit(Side::B).await,
                _ => script.go_back(Side::A).await,
            };
            let error = call().await.unwrap_err().to_string();
            assert!(error.contains("signal 9"), "{verb} {cut}: {error}");
            call().await.unwrap();
            let state = script.state(None).await.unwrap();
            let wanted = match verb {
                "set-try" => (Some(Side::B), true),
                "commit" => (Some(Side::B), false),
                _ => (Some(Side::A), false),
            };
            assert_eq!((state.side, state.trial), wanted, "{verb} {cut}");
        }
    }
}

#[tokio::test]
async fn the_self_test_names_what_is_wrong_with_the_script() {
    let file_system = |_: &std::path::Path| None;
    let board = Board {
        slots: None,
        reboot_command: &[],
        file_system: &file_system,
    };
    let (dir, mut good) = keeping();
    let findings = good.check(&board).await;
    assert!(
        findings[0].good && findings[0].text.contains("slot a runs"),
        "{findings:?}"
    );
    good.program = dir.path().join("running");
    let findings = good.check(&board).await;
    assert!(
        !findings[0].good && findings[0].text.contains("not executable"),
        "{findings:?}"
    );
    good.program = "script".into();
    let findings = good.check(&board).await;
    assert!(findings[0].text.contains("absolute"), "{findings:?}");
    let (_dir, wrong) = script("echo trial=maybe");
    let findings = wrong.check(&board).await;
    assert!(
        !findings[0].good && findings[0].text.contains("wrong answer"),
        "{findings:?}"
    );
}
