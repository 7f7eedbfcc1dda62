//! The login of this device, offered to add-ons over the system's message bus.
//!
//! The reference's add-ons (its terminal daemon, for one) ask here for the token and the server's URL. A task
//! beside the daemon's loop. Owns: name, object and interface, and staying on the bus. Does not own: logging in
//! (`Link`), who may ask (the bus's policy: `support/io.mender.AuthenticationManager.conf`).
//!
//! Source: reference agent, section 9; a bus that is started anew is found again (W13). A device without a
//! message bus loses nothing: it is looked for at every login, never by a timer alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use zbus::{Connection, connection, object_server::SignalEmitter};

use crate::{
    api::{Link, Session},
    deployment::Stop,
};

const NAME: &str = "io.mender.AuthenticationManager";
const PATH: &str = "/io/mender/AuthenticationManager";

/// The first wait before a bus that went away is looked for; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Looks for a bus that went away, about four minutes of them. After that, the next login.
const LOOKS: u32 = 8;

/// Runs until the daemon is asked to stop.
pub(crate) async fn run(link: Link, stop: Stop) {
    tokio::select! {
        () = stop.requested() => {}
        () = stay(&link) => {}
    }
}

async fn stay(link: &Link) {
    let mut sessions = link.sessions();
    let mut looks = 0;
    loop {
        let (failures, failed) = mpsc::channel(1);
        match offer(link, failures).await {
            Ok(connection) => {
                log::info!("add-ons find the device's login on the message bus");
                serve(&connection, &mut sessions, failed).await;
                log::warn!("the message bus has gone away");
                looks = LOOKS;
            }
            Err(error) => complain(&error),
        }
        let wait = looks
            .checked_sub(1)
            .map(|left| FIRST_WAIT * 2_u32.pow(LOOKS - 1 - left));
        looks = looks.saturating_sub(1);
        tokio::select! {
            () = next_login(&mut sessions) => {}
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

/// Connects, takes the name, and answers calls from then on.
async fn offer(link: &Link, failures: mpsc::Sender<()>) -> zbus::Result<Connection> {
    let service = Authentication {
        link: link.clone(),
        fetching: Arc::default(),
        failures,
    };
    connection::Builder::system()
        .serve_at(PATH, service)
        .name(NAME)
        .build()
        .await
}

fn complain(error: &zbus::Error) {
    match error {
        zbus::Error::NameTaken => log::warn!(
            "add-ons get no login: another program owns {NAME} on the message bus; stop the reference's mender-authd"
        ),
        zbus::Error::MethodError(..) => log::warn!(
            "add-ons get no login: the message bus refuses {NAME}: {error}; is its policy installed?"
        ),
        // most likely there is none
        _ => log::debug!("no message bus: {error}"),
    }
}

/// Tells every change of the login, until the bus goes away.
async fn serve(
    connection: &Connection,
    sessions: &mut watch::Receiver<Option<Session>>,
    mut failed: mpsc::Receiver<()>,
) {
    loop {
        let told = tokio::select! {
            () = connection.closed() => return,
            () = next_login(sessions) => {
                let session = sessions.borrow().clone();
                tell(connection, session.as_ref()).await
            }
            Some(()) = failed.recv() => tell(connection, None).await,
        };
        if let Err(error) = told {
            log::debug!("add-ons were not told of the login: {error}");
        }
    }
}

/// Waits until the device has logged in anew.
async fn next_login(sessions: &mut watch::Receiver<Option<Session>>) {
    loop {
        if sessions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if sessions.borrow_and_update().is_some() {
            return;
        }
    }
}

async fn tell(connection: &Connection, session: Option<&Session>) -> zbus::Result<()> {
    let (token, server) = texts(session);
    let emitter = SignalEmitter::new(connection, PATH)?;
    Authentication::jwt_token_state_change(&emitter, token, server).await
}

/// Token and URL, empty without a login.
fn texts(session: Option<&Session>) -> (&str, &str) {
    session.map_or(("", ""), |session| (session.token(), session.server()))
}

/// The object on the bus.
struct Authentication {
    link: Link,
    /// Whether somebody's login is under way.
    fetching: Arc<AtomicBool>,
    /// Takes a login that failed.
    failures: mpsc::Sender<()>,
}

#[zbus::interface(name = "io.mender.Authentication1")]
impl Authentication {
    /// Token and server as known now, empty before the device is accepted.
    #[zbus(out_args("token", "server_url"))]
    fn get_jwt_token(&self) -> (String, String) {
        let session = self.link.sessions().borrow().clone();
        let (token, server) = texts(session.as_ref());
        (token.to_owned(), server.to_owned())
    }

    /// Logs in anew; the outcome comes as the signal. `true`: it is under way.
    fn fetch_jwt_token(&self) -> bool {
        if !self.fetching.swap(true, Ordering::AcqRel) {
            let (link, fetching) = (self.link.clone(), Arc::clone(&self.fetching));
            let failures = self.failures.clone();
            tokio::spawn(async move {
                if let Err(error) = link.authorize().await {
                    log::warn!("asked by an add-on: {error}");
                    // full: a failure waits to be told already
                    let _ = failures.try_send(());
                }
                fetching.store(false, Ordering::Release);
            });
        }
        true
    }

    /// The login has changed; empty texts when it failed.
    #[zbus(signal)]
    async fn jwt_token_state_change(
        emitter: &SignalEmitter<'_>,
        token: &str,
        server_url: &str,
    ) -> zbus::Result<()>;
}
