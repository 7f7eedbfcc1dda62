//! What is left when nobody has said goodbye.

use std::time::Duration;

use ambidex_connect::End;
use ambidex_wire::session::{PROTO_SHELL, file, shell};

use crate::peer::{Peer, eventually, is_alive};
use crate::shell::{number, pid};

/// What an agent that was killed leaves is ended by the next one, and nothing else is.
#[tokio::test]
async fn a_job_that_was_left_over_is_ended_at_the_next_start() {
    let mut peer = Peer::with(|settings| settings.sessions.max_per_user = 2).await;
    let records = peer.path("state/shells");
    let mut jobs = Vec::new();
    for sid in ["s1", "s2"] {
        peer.shell(sid).await;
        peer.keys(sid, "nohup sleep 1000 >/dev/null 2>&1 &\n").await;
        let job = number(&mut peer, sid, "$!").await;
        let runs =
            || std::fs::read_to_string(format!("/proc/{job}/comm")).is_ok_and(|c| c == "sleep\n");
        eventually("the job runs", runs).await;
        let shell = pid(&mut peer, sid).await;
        let mark = std::fs::read_to_string(records.join(shell.to_string())).unwrap();
        assert_eq!(mark, format!("AMBIDEX_SESSION={sid}"));
        peer.keys(sid, "exit\n").await;
        peer.until(PROTO_SHELL, shell::STOP).await;
        assert!(is_alive(job));
        jobs.push((job, shell, mark));
    }
    let left = || std::fs::read_dir(&records).unwrap().count();
    eventually("no record is left", || left() == 0).await;
    // as if it had been killed; the second record is of a session that had the same number before
    for ((_, shell, mark), made) in jobs.iter().zip([true, false]) {
        let mark = if made { mark } else { "AMBIDEX_SESSION=other" };
        std::fs::write(records.join(shell.to_string()), mark).unwrap();
    }
    peer.remote.clean_up();
    eventually("the job is gone", || !is_alive(jobs[0].0)).await;
    assert!(is_alive(jobs[1].0), "another session was ended");
    assert_eq!(left(), 0);
    let pid = nix::unistd::Pid::from_raw(jobs[1].0);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// A network that swallows everything without a word.
#[tokio::test]
async fn a_server_that_says_nothing_any_more_is_left() {
    let mut peer = Peer::with(|settings| {
        settings.times.socket_ping = Duration::from_millis(200);
        settings.times.socket_silence = Duration::from_millis(1000);
    })
    .await;
    peer.shell("s1").await;
    let shell = pid(&mut peer, "s1").await;
    let folder = peer.path("target");
    std::fs::create_dir(&folder).unwrap();
    let put = file::PutFile {
        path: folder.join("f").display().to_string(),
        ..file::PutFile::default()
    };
    peer.send(put.message("s2")).await;
    let entries = || std::fs::read_dir(&folder).unwrap().count();
    eventually("the upload has begun", || entries() == 1).await;
    // nothing is read from here on, so no ping is answered
    eventually("the shell and the file are gone", || {
        !is_alive(shell) && entries() == 0
    })
    .await;
    let end = peer.end().await;
    assert!(matches!(end, End::Lost(_)), "{end:?}");
}
