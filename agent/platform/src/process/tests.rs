#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use super::*;

fn shell(script: &str) -> Command {
    Command::new("sh", Duration::from_secs(20))
        .arg("-c")
        .arg(script)
}

async fn lines_of(command: &Command) -> (Exit, Vec<(Stream, String)>) {
    let mut lines = Vec::new();
    let exit = run(command, &mut |stream, line| {
        lines.push((stream, line.to_owned()))
    })
    .await
    .unwrap();
    (exit, lines)
}

/// True while the process exists and is no zombie.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

async fn gone(pid: &str) {
    for _ in 0..200 {
        if !alive(pid) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("process {pid} is still alive");
}

#[tokio::test]
async fn output_environment_directory_and_code_come_through() {
    let dir = tempfile::tempdir().unwrap();
    let command = shell("pwd; echo $WORD >&2; printf tail; exit 7")
        .cwd(dir.path())
        .env("WORD", "spoken");
    let (exit, lines) = lines_of(&command).await;
    assert_eq!(
        exit,
        Exit {
            code: Some(7),
            signal: None,
            timed_out: false
        }
    );
    let of = |stream| -> Vec<&str> {
        lines
            .iter()
            .filter(|(from, _)| *from == stream)
            .map(|(_, line)| line.as_str())
            .collect()
    };
    let real = std::fs::canonicalize(dir.path()).unwrap();
    assert_eq!(of(Stream::Stdout), [real.to_str().unwrap(), "tail"]);
    assert_eq!(of(Stream::Stderr), ["spoken"]);
}

#[tokio::test]
async fn standard_input_is_fed_and_closed_or_empty() {
    let mut command = shell("cat");
    command.stdin = Some(b"one\ntwo\n".to_vec());
    assert_eq!(
        capture(&command, 100, &mut |_, _| {}).await.unwrap().stdout,
        b"one\ntwo\n"
    );
    assert_eq!(
        capture(&shell("cat"), 100, &mut |_, _| {})
            .await
            .unwrap()
            .stdout,
        b""
    );
    // more than a pipe holds, to a child that does not read it
    command.stdin = Some(vec![0; 1 << 20]);
    command.args = vec!["-c".into(), "exit 4".into()];
    assert_eq!(
        capture(&command, 0, &mut |_, _| {})
            .await
            .unwrap()
            .exit
            .code,
        Some(4)
    );
}

#[tokio::test]
async fn captured_output_is_bounded_and_the_child_is_not_blocked_by_it() {
    let captured = capture(
        &shell("head -c 300000 /dev/zero; echo done >&2"),
        1000,
        &mut |_, _| {},
    )
    .await
    .unwrap();
    assert!(captured.exit.success() && captured.overflowed);
    assert_eq!(captured.stdout.len(), 1000);
    let exact = capture(&shell("printf 12345"), 5, &mut |_, _| {})
        .await
        .unwrap();
    assert!(!exact.overflowed && exact.stdout == b"12345");
}

#[tokio::test]
async fn the_deadline_ends_the_whole_group() {
    let mut command = shell("sleep 300 & echo $!; wait");
    command.timeout = Duration::from_millis(300);
    let (exit, lines) = lines_of(&command).await;
    assert!(
        exit.timed_out && exit.signal == Some(Signal::SIGTERM as i32),
        "{exit:?}"
    );
    gone(&lines[0].1).await;
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_after_the_grace() {
    let mut command =
        shell("trap '' TERM; echo $$; sleep 300 & echo $!; while :; do sleep 1; done");
    command.timeout = Duration::from_millis(300);
    command.grace = Duration::from_millis(300);
    let (exit, lines) = lines_of(&command).await;
    assert!(
        exit.timed_out && exit.signal == Some(Signal::SIGKILL as i32),
        "{exit:?}"
    );
    for (_, pid) in lines {
        gone(&pid).await;
    }
}

#[tokio::test]
async fn a_member_that_outlives_a_polite_leader_is_killed_too() {
    let mut command = shell("(trap '' TERM; while :; do sleep 1; done) & echo $!; wait");
    command.timeout = Duration::from_millis(300);
    command.grace = Duration::from_millis(400);
    let (exit, lines) = lines_of(&command).await;
    assert!(exit.timed_out, "{exit:?}");
    gone(&lines[0].1).await;
}

#[tokio::test]
async fn dropping_the_future_kills_the_group_and_leaves_no_zombie() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let command = shell("sleep 300 & echo $$ $! > pids; wait").cwd(dir.path());
    let mut ignore = |_: Stream, _: &str| {};
    let mut running = Box::pin(run(&command, &mut ignore));
    let text = loop {
        assert!(
            timeout(Duration::from_millis(20), &mut running)
                .await
                .is_err()
        );
        match std::fs::read_to_string(&pids) {
            Ok(text) if text.ends_with('\n') => break text,
            _ => {}
        }
    };
    drop(running);
    for pid in text.split_whitespace() {
        gone(pid).await;
    }
    let leader = text.split_whitespace().next().unwrap();
    for _ in 0..200 {
        if !std::path::Path::new(&format!("/proc/{leader}")).exists() {
            return;
        }
        // the runtime reaps orphans when the next child changes state
        lines_of(&shell("true")).await;
    }
    panic!("{leader} is left as a zombie");
}

#[tokio::test]
async fn a_background_process_with_the_pipes_is_not_waited_for() {
    let started = Instant::now();
    let (exit, lines) = lines_of(&shell("sleep 30 & echo $!")).await;
    assert!(exit.success());
    assert!(started.elapsed() < Duration::from_secs(15));
    let pid = nix::unistd::Pid::from_raw(lines[0].1.parse().unwrap());
    assert!(alive(&lines[0].1), "only a time limit kills the group");
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn what_cannot_be_started_is_named() {
    let error = run(&Command::new("/no/such/program", GRACE), &mut |_, _| {})
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/no/such/program") && text.contains("No such file"),
        "{text}"
    );
}
