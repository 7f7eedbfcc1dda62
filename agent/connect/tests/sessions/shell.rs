//! Shells. They are real ones, so real time passes; waits are for events.

use std::time::Duration;

use ambidex_connect::Settings;
use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_SHELL, control, shell};

use crate::peer::{Peer, USER, eventually, is_alive, new_shell, user};

fn stopped(message: &Message) -> (i64, String) {
    assert_eq!(
        (message.proto, message.typ.as_str()),
        (PROTO_SHELL, shell::STOP)
    );
    let text = String::from_utf8_lossy(&message.body).into_owned();
    (message.props.int(shell::STATUS).unwrap(), text)
}

async fn refused(peer: &mut Peer, sid: &str, user: &str) -> String {
    peer.send(new_shell(sid, user)).await;
    let answer = peer.until(PROTO_SHELL, shell::NEW).await;
    assert_eq!(answer.sid, sid);
    assert_eq!(answer.props.int(shell::STATUS), Some(shell::STATUS_ERROR));
    String::from_utf8(answer.body).unwrap()
}

/// What a shell says to `echo`; the words of the command itself do not look like it.
pub async fn number(peer: &mut Peer, sid: &str, word: &str) -> i32 {
    peer.keys(sid, &format!("echo number'='{word}'='\n")).await;
    let text = peer.output("=\r\n").await;
    let found = text.rsplit("number=").next().unwrap();
    found.split('=').next().unwrap().parse().unwrap()
}

/// The process id of the shell.
pub async fn pid(peer: &mut Peer, sid: &str) -> i32 {
    number(peer, sid, "$$").await
}

/// CN-10.
#[tokio::test]
async fn a_shell_starts_echoes_resizes_and_stops() {
    let mut peer = Peer::start().await;
    peer.send(new_shell("s1", USER)).await;
    let answer = peer.message().await;
    assert_eq!(
        answer,
        shell::message(shell::NEW, "s1", 1, b"Shell started")
    );
    peer.keys("s1", "stty size\n").await;
    peer.output("17 91\r\n").await;
    let resize = Message::new(PROTO_SHELL, shell::RESIZE, "s1");
    peer.send(
        resize
            .clone()
            .prop(shell::WIDTH, 120)
            .prop(shell::HEIGHT, 33),
    )
    .await;
    peer.keys("s1", "stty size\n").await;
    peer.output("33 120\r\n").await;
    // half a size is none
    peer.send(resize.prop(shell::WIDTH, 5)).await;
    peer.keys("s1", "stty size\n").await;
    peer.output("33 120\r\n").await;
    let pid = pid(&mut peer, "s1").await;
    peer.send(shell::message(shell::STOP, "s1", 1, b"")).await;
    let stop = peer.until(PROTO_SHELL, shell::STOP).await;
    assert_eq!(stopped(&stop).0, shell::STATUS_NORMAL);
    eventually("the shell is gone", || !is_alive(pid)).await;
    // the place is free again
    peer.shell("s1").await;
}

#[tokio::test]
async fn a_shell_has_the_users_environment_and_groups_and_nothing_else() {
    let mut peer = Peer::start().await;
    peer.shell("s1").await;
    let keys = "set +o emacs 2>/dev/null; echo \"<$HOME|$USER|$LOGNAME|$SHELL|$TERM|$PATH|$(pwd)|$0>\"; id -Gn; env | grep -c CARGO; echo don''e\n";
    peer.keys("s1", keys).await;
    let text = peer.output("done\r\n").await;
    let account = ambidex_platform::account::Account::lookup(&user())
        .unwrap()
        .unwrap();
    let home = account.home.display();
    let wanted = format!(
        "<{home}|{name}|{name}|/bin/sh|xterm-256color|",
        name = account.name
    );
    assert!(text.contains(&wanted), "{text}");
    assert!(text.contains(&format!("|{home}|-sh>")), "{text}");
    assert!(
        text.contains("\r\n0\r\n"),
        "the agent's environment is visible: {text}"
    );
}

/// As root only: another user's shell is that user's, with all groups and a terminal of its own.
#[tokio::test]
async fn a_shell_runs_as_the_configured_user() {
    if !ambidex_platform::account::is_root() {
        ambidex_harness::skip("needs root, to start a shell as another user");
        return;
    }
    let mut peer = Peer::with(|settings| settings.terminal.user = Some("nobody".to_owned())).await;
    peer.shell("s1").await;
    peer.keys(
        "s1",
        "id -un; id -u; id -G; stat -c %U $(tty); cat /etc/shadow; echo don''e\n",
    )
    .await;
    let text = peer.output("done\r\n").await;
    let nobody = ambidex_platform::account::Account::lookup("nobody")
        .unwrap()
        .unwrap();
    let groups: Vec<String> = nobody.groups.iter().map(u32::to_string).collect();
    for wanted in [
        "\r\nnobody\r\n".to_owned(),
        format!("\r\n{}\r\n", nobody.uid),
        format!("\r\n{}\r\n", groups.join(" ")),
    ] {
        assert!(text.contains(&wanted), "{wanted:?} in {text}");
    }
    assert_eq!(text.matches("nobody").count(), 2, "{text}");
    assert!(text.contains("ermission denied"), "{text}");
}

/// CN-11.
#[tokio::test]
async fn one_shell_a_user_and_sixteen_in_all() {
    let mut peer = Peer::start().await;
    peer.shell("s1").await;
    assert_eq!(
        refused(&mut peer, "s1", "u9").await,
        "failed to start shell: shell is already running"
    );
    assert_eq!(
        refused(&mut peer, "s2", USER).await,
        "user has too many open sessions"
    );
    for number in 2..=16 {
        peer.send(new_shell(&format!("s{number}"), &format!("u{number}")))
            .await;
        peer.until(PROTO_SHELL, shell::NEW).await;
    }
    assert_eq!(
        refused(&mut peer, "s17", "u17").await,
        "too many shells spawned"
    );
    // without a session, all of a user
    let stop = Message::new(PROTO_SHELL, shell::STOP, "");
    peer.send(stop.clone()).await;
    let (status, text) = stopped(&peer.until(PROTO_SHELL, shell::STOP).await);
    assert_eq!(status, shell::STATUS_ERROR);
    assert_eq!(
        text,
        "StopShellMessage: sessionId not given and userId empty"
    );
    peer.send(stop.prop(shell::USER_ID, "u5")).await;
    assert_eq!(peer.until(PROTO_SHELL, shell::STOP).await.sid, "s5");
    peer.send(new_shell("s17", "u17")).await;
    let answer = peer.until(PROTO_SHELL, shell::NEW).await;
    assert_eq!(answer.props.int(shell::STATUS), Some(1));
}

#[tokio::test]
async fn messages_to_no_shell_are_answered() {
    let mut peer = Peer::start().await;
    for typ in [shell::SHELL, shell::STOP] {
        peer.send(Message::new(PROTO_SHELL, typ, "s1").body("x"))
            .await;
        let answer = peer.message().await;
        assert_eq!(answer, shell::message(typ, "s1", 2, b"session not found"));
    }
    peer.send(Message::new(PROTO_SHELL, "sing", "s1")).await;
    let answer = peer.message().await;
    assert_eq!(answer.body, b"unknown message protocol and type: 1/sing");
    let mut nobody =
        Peer::with(|settings| settings.terminal.user = Some("no-such-user".into())).await;
    let reason = refused(&mut nobody, "s1", USER).await;
    assert!(reason.contains("no-such-user"), "{reason}");
}

fn impatient(settings: &mut Settings) {
    settings.times.shell_ping = Duration::from_millis(200);
    settings.times.shell_silence = Duration::from_millis(500);
}

/// CN-12.
#[tokio::test]
async fn a_silent_user_is_asked_and_then_loses_the_shell() {
    let mut peer = Peer::with(impatient).await;
    peer.shell("s1").await;
    let pid = pid(&mut peer, "s1").await;
    let ping = peer.until(PROTO_SHELL, shell::PING).await;
    assert_eq!(ping.props.int(shell::STATUS), Some(shell::STATUS_CONTROL));
    assert_eq!(
        ping.props.int(shell::TIMEOUT),
        Some(0),
        "whole seconds of the limit"
    );
    // a sign of life counts
    peer.send(shell::message(shell::PONG, "s1", 3, b"")).await;
    let stop = peer.until(PROTO_SHELL, shell::STOP).await;
    let (status, text) = stopped(&stop);
    assert_eq!(status, shell::STATUS_ERROR);
    assert!(text.contains("no sign of life"), "{text}");
    assert!(!is_alive(pid));
    peer.shell("s2").await;
}

/// CN-13.
#[tokio::test]
async fn a_shell_without_input_expires() {
    let mut peer = Peer::with(|settings| {
        settings.sessions.expire_after_idle = Some(Duration::from_millis(300));
    })
    .await;
    peer.shell("s1").await;
    let (status, text) = stopped(&peer.until(PROTO_SHELL, shell::STOP).await);
    assert_eq!(status, shell::STATUS_ERROR);
    assert!(text.contains("expired"), "{text}");
    let mut peer = Peer::with(|settings| {
        settings.sessions.expire_after_idle = None;
        settings.sessions.expire_after = Some(Duration::from_millis(300));
    })
    .await;
    peer.shell("s1").await;
    peer.keys("s1", "cat\n").await;
    let (_, text) = stopped(&peer.until(PROTO_SHELL, shell::STOP).await);
    assert!(text.contains("expired"), "{text}");
}

/// CN-14.
#[tokio::test]
async fn the_end_of_a_shell_is_told_and_frees_its_place() {
    let mut peer = Peer::start().await;
    for code in [0, 7] {
        peer.shell("s1").await;
        peer.keys("s1", &format!("echo last; exit {code}\n")).await;
        peer.output("last\r\n").await;
        let (status, text) = stopped(&peer.until(PROTO_SHELL, shell::STOP).await);
        assert_eq!(status, shell::STATUS_NORMAL);
        assert_eq!(text, format!("the shell ended with code {code}"));
    }
    // what was told to live on does
    peer.shell("s1").await;
    peer.keys("s1", "nohup sleep 1000 >/dev/null 2>&1 &\n")
        .await;
    let job = number(&mut peer, "s1", "$!").await;
    // until then it is still the shell's copy, which does not ignore anything
    let runs =
        || std::fs::read_to_string(format!("/proc/{job}/comm")).is_ok_and(|c| c == "sleep\n");
    eventually("the job runs", runs).await;
    peer.keys("s1", "exit\n").await;
    peer.until(PROTO_SHELL, shell::STOP).await;
    assert!(is_alive(job));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(job),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

/// CN-15: a shell that does not want to end, and one that does not read, hold up nobody.
#[tokio::test]
async fn a_stuck_shell_blocks_nobody() {
    let mut peer = Peer::with(|settings| settings.sessions.max_per_user = 2).await;
    peer.shell("stuck").await;
    peer.keys(
        "stuck",
        "stty raw -echo; exec sh -c 'trap \"\" HUP TERM INT; echo re\"\"ady; while :; do sleep 0.1; done'\n",
    )
    .await;
    peer.output("ready").await;
    peer.shell("other").await;
    peer.send(shell::message(shell::STOP, "stuck", 1, b""))
        .await;
    // it has two seconds to end, and takes them; all the others go on
    peer.keys("other", "echo st''ill\n").await;
    peer.output("still").await;
    for message in peer.quiet("a session").await {
        assert_ne!(message.typ, shell::STOP, "it ended too early for this test");
    }
    let stop = peer.until(PROTO_SHELL, shell::STOP).await;
    assert_eq!((stop.sid.as_str(), stopped(&stop).0), ("stuck", 1));
}

#[tokio::test]
async fn input_that_is_not_read_ends_the_shell_at_a_limit() {
    let mut peer = Peer::with(|settings| settings.sessions.max_per_user = 2).await;
    peer.shell("s1").await;
    peer.keys("s1", "stty raw -echo; echo re''ady; sleep 1000\n")
        .await;
    peer.output("ready").await;
    let piece = "x".repeat(60_000);
    for _ in 0..40 {
        peer.keys("s1", &piece).await;
    }
    let stop = peer.until(PROTO_SHELL, shell::STOP).await;
    let (status, text) = stopped(&stop);
    assert_eq!(status, shell::STATUS_ERROR);
    assert!(text.contains("input"), "{text}");
    peer.shell("s2").await;
}

/// A pasted text arrives whole.
#[tokio::test]
async fn much_input_arrives_whole() {
    let mut peer = Peer::start().await;
    peer.shell("s1").await;
    peer.keys(
        "s1",
        "stty raw -echo; echo re''ady; head -c 20000 | md5sum; stty sane\n",
    )
    .await;
    peer.output("ready").await;
    let text = "0123456789".repeat(2000);
    for piece in text.as_bytes().chunks(7000) {
        peer.keys("s1", std::str::from_utf8(piece).unwrap()).await;
    }
    // md5 of the text
    let wanted = md5_of(&text);
    peer.output(&wanted).await;
}

fn md5_of(text: &str) -> String {
    use std::io::Write as _;
    let mut child = std::process::Command::new("md5sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    String::from_utf8(output)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned()
}

/// What the network does to a shell, and what the agent's end does.
#[tokio::test]
async fn no_shell_outlives_its_connection() {
    let mut peer = Peer::start().await;
    peer.shell("s1").await;
    peer.keys("s1", "set -m; (trap '' HUP; sleep 1000) & \n")
        .await;
    let pid_cut = pid(&mut peer, "s1").await;
    let job = number(&mut peer, "s1", "$!").await;
    assert!(is_alive(pid_cut) && is_alive(job));
    let _kept = peer.cut().await;
    assert!(!is_alive(pid_cut), "the shell lives");
    eventually("the job is gone", || !is_alive(job)).await;

    let mut peer = Peer::start().await;
    peer.shell("s1").await;
    let pid_left = pid(&mut peer, "s1").await;
    peer.leave("the device's agent is stopping");
    let (status, text) = stopped(&peer.until(PROTO_SHELL, shell::STOP).await);
    assert_eq!(
        (status, text.as_str()),
        (shell::STATUS_ERROR, "the device's agent is stopping")
    );
    peer.end().await;
    assert!(!is_alive(pid_left));
}

/// A flood of output is held back, not gathered.
#[tokio::test]
async fn output_waits_for_the_reader() {
    let mut peer = Peer::start().await;
    peer.shell("s1").await;
    peer.keys("s1", "yes 0123456789abcdef\n").await;
    peer.output("0123456789abcdef\r\n0123456789abcdef").await;
    // nobody reads now; then all that comes is whole lines in their order
    tokio::time::sleep(Duration::from_millis(100)).await;
    peer.send(shell::message(shell::STOP, "s1", 1, b"")).await;
    let mut bytes = 0;
    loop {
        let message = peer.message().await;
        match message.typ.as_str() {
            shell::SHELL => {
                assert!(message.body.len() <= 4096);
                bytes += message.body.len();
            }
            shell::STOP => break,
            other => panic!("{other}"),
        }
    }
    assert!(bytes < 2 << 20, "{bytes} bytes had been gathered");
    assert!(
        peer.quiet("c")
            .await
            .iter()
            .all(|m| m.proto != PROTO_CONTROL || m.typ == control::PONG)
    );
}
