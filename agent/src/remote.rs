//! Keeps remote access connected for as long as the daemon runs.
//!
//! A task beside the daemon's loop, so that a deployment in progress holds up no terminal. Owns: when to
//! connect, with which login, and when to leave. Does not own: logging in (the daemon does, and is nudged
//! when a token is refused), the sessions (`ambidex-connect`).

use std::time::Duration;

use ambidex_connect::{End, Remote, Wish, reconnect::Waits};
use tokio::{
    sync::{mpsc::Sender, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    api::{Link, LinkErrorKind, Session},
    deployment::Stop,
};

/// How long sessions go on while the device is not logged in: a new login takes a moment, and longer where
/// one of several servers has failed. A server that does not want the device any more closes them itself.
const LOGIN_PATIENCE: Duration = Duration::from_secs(120);

/// Shortest time between two looks for unfinished files that waited in vain to be continued.
const SWEEP: Duration = Duration::from_secs(60);

/// Runs until the daemon is asked to stop.
pub(crate) async fn run(remote: Remote, link: Link, wishes: Sender<Wish>, stop: Stop) {
    tokio::select! {
        () = stop.requested() => return,
        _ = beside(&remote, Remote::clean_up) => {}
    }
    tokio::select! {
        () = connected(&remote, &link, &wishes, &stop) => {}
        () = tidied(&remote) => {}
    }
}

/// Keeps the connection until the daemon is asked to stop.
async fn connected(remote: &Remote, link: &Link, wishes: &Sender<Wish>, stop: &Stop) {
    let mut sessions = link.sessions();
    let mut waits = Waits::default();
    let mut failures = 0_u32;
    loop {
        let session = tokio::select! {
            () = stop.requested() => return,
            session = logged_in(&mut sessions) => session,
        };
        let opened = tokio::select! {
            () = stop.requested() => return,
            opened = link.open_socket(&session) => opened,
        };
        let reason = match opened {
            Ok(stream) => {
                log::info!("remote access is connected with {}", session.server());
                failures = 0;
                let began = Instant::now();
                let end = remote
                    .serve(stream, leave(&mut sessions, &session, stop))
                    .await;
                if stop.is_requested() {
                    return;
                }
                waits.ended(
                    began.elapsed(),
                    matches!(end, End::Closed { code: 1000, .. }),
                );
                format!("remote access: {end}")
            }
            Err(error) => {
                if error.kind() == LinkErrorKind::Unauthorized {
                    // the daemon logs in anew before it asks
                    let _ = wishes.try_send(Wish::CheckUpdate);
                }
                failures = failures.saturating_add(1);
                error.to_string()
            }
        };
        let wait = waits.next(rand::random());
        let text = format!("{reason}; trying again in {:.1} s", wait.as_secs_f64());
        if failures <= 1 {
            log::warn!("{text}");
        } else {
            // said once: a server may offer no remote access at all
            log::debug!("{text}");
        }
        tokio::select! {
            () = stop.requested() => return,
            () = sleep(wait) => {}
        }
    }
}

/// Never ends. Wakes only while there is something to remove one day.
async fn tidied(remote: &Remote) {
    loop {
        match beside(remote, Remote::sweep).await.flatten() {
            Some(wait) => tokio::select! {
                () = sleep(wait.max(SWEEP)) => {}
                () = remote.left() => {}
            },
            None => remote.left().await,
        }
    }
}

/// Does what may wait for the disk on a thread of its own. `None` when that ended by a panic.
async fn beside<T: Send + 'static>(remote: &Remote, work: fn(&Remote) -> T) -> Option<T> {
    let remote = remote.clone();
    tokio::task::spawn_blocking(move || work(&remote))
        .await
        .ok()
}

/// Waits until the device is logged in.
async fn logged_in(sessions: &mut watch::Receiver<Option<Session>>) -> Session {
    loop {
        if let Some(session) = sessions.borrow_and_update().clone() {
            return session;
        }
        if sessions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for a reason to leave a connection.
async fn leave(
    sessions: &mut watch::Receiver<Option<Session>>,
    session: &Session,
    stop: &Stop,
) -> String {
    tokio::select! {
        () = stop.requested() => "the device's agent is stopping".to_owned(),
        reason = replaced(sessions, session) => reason.to_owned(),
    }
}

/// Waits until this login is not the device's any more.
async fn replaced(
    sessions: &mut watch::Receiver<Option<Session>>,
    session: &Session,
) -> &'static str {
    loop {
        let known = sessions.borrow_and_update().clone();
        match known {
            Some(known) if known == *session => {}
            Some(_) => return "the device has logged in anew",
            None => {
                if timeout(LOGIN_PATIENCE, logged_in(sessions)).await.is_err() {
                    return "the device is not authorized any more";
                }
                continue;
            }
        }
        if sessions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
