//! One connected device: its socket on one side, the bus on the other.
//!
//! One task a device, with two loops in it: [`read`] takes messages from the device to the sessions,
//! [`Writer::run`] what comes from the bus to the device. They share [`Sessions`] behind a mutex that is
//! never held across an await. Neither loop waits for the other, so a device that writes while it does
//! not read cannot lock the two ends up. An idle device costs its socket's buffers and the two waiting
//! loops; rarely used parts are boxed so that they do not count.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ambidex_access::DeviceIdentity;
use ambidex_bus::{Message as BusMessage, Subscription};
use ambidex_kit::Upgraded;
use ambidex_wire::session::{Message, MessageRef, PROTO_CONTROL, PROTO_SHELL, control, shell};
use bytes::Bytes;
use futures_util::{Sink, Stream, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::OVERHEAD_BYTES;
use super::envelope::{
    CONSUMED_BYTES, Envelope, Kind, Open, Opened, WINDOW_BYTES, device_subject, session_subject,
};
use super::presence::{self, Claim, Standing};
use super::socket::{self, End, Frame, PING, Socket, SocketError};
use crate::Inner;

/// A session, as the device's side sees it.
struct Session {
    user_id: String,
    /// Messages sent to the user's side.
    sent: u64,
    /// Bytes of them that the user's side has not consumed.
    under_way: u64,
    /// Messages received from the user's side.
    received: u64,
    /// Bytes of them that we have not told of yet.
    consumed: u64,
    heard: Instant,
    shell: bool,
    opened: bool,
}

struct Side<'a> {
    inner: &'a Inner,
    device: &'a DeviceIdentity,
    message_bytes_max: usize,
    sessions: Mutex<HashMap<Uuid, Session>>,
    room: Notify,
    started: Instant,
    /// Milliseconds after `started` at which the device last gave a sign of life.
    heard_ms: AtomicU64,
}

/// Serves a device until it goes, or has to go.
pub(crate) async fn serve<S: Socket>(
    inner: &Inner,
    device: &DeviceIdentity,
    message_bytes_max: usize,
    mut socket: S,
    held: Upgraded,
) {
    let _counted = inner.devices.count();
    let side = Side {
        inner,
        device,
        message_bytes_max,
        sessions: Mutex::default(),
        room: Notify::new(),
        started: Instant::now(),
        heard_ms: AtomicU64::new(0),
    };
    let Listening {
        subscription,
        claim,
        version,
    } = match Box::pin(side.listen()).await {
        Ok(listening) => listening,
        Err(end) => return Box::pin(socket::close(&mut socket, &end)).await,
    };
    let (sink, stream) = socket.split();
    let (end, sink, stream) = side
        .run(sink, stream, subscription, version, &claim, &held)
        .await;
    // Both halves come from the same socket.
    let Ok(mut socket) = sink.reunite(stream) else {
        return;
    };
    tracing::debug!(device = %device.device_id, ?end, "device disconnected");
    let last = async {
        side.dismiss().await;
        if !held.is_stopping() {
            let released =
                presence::release(inner, &device.tenant, &device.device_id, &claim).await;
            if let Err(error) = released {
                tracing::error!(%error, "a device's end of connection cannot be recorded");
            }
        }
        socket::close(&mut socket, &end).await;
    };
    Box::pin(last).await;
}

impl Side<'_> {
    fn sessions(&self) -> MutexGuard<'_, HashMap<Uuid, Session>> {
        // Nothing in here panics half way through a change.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Takes the device's place on the bus and in the records, and drives older connections out.
    ///
    /// The order matters. Who listens before it claims is reached as soon as it is seen to be connected,
    /// and hears of every claim that is made after its own.
    async fn listen(&self) -> Result<Listening, End> {
        let (tenant, id) = (&self.device.tenant, self.device.device_id.as_str());
        let subject = device_subject(tenant, id);
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a device cannot be made reachable");
            End::internal()
        };
        let bus = &self.inner.bus;
        let subscription = bus.subscribe(&subject).await.map_err(|e| failed(&e))?;
        let claim = presence::claim(self.inner, tenant, id)
            .await
            .map_err(|e| failed(&e))?;
        let standing = presence::standing(self.inner, tenant, id, &claim)
            .await
            .map_err(|e| failed(&e))?;
        let version = match standing {
            Standing::Owner(version) => version,
            Standing::Replaced => return Err(replaced()),
            Standing::Removed => return Err(End::policy(presence::REMOVED)),
        };
        let replace = Envelope::encode(Kind::Replaced, Uuid::nil(), version, b"");
        if let Err(error) = bus.publish(&subject, replace).await {
            tracing::warn!(%error, "other instances were not told of a device's connection");
        }
        Ok(Listening {
            subscription,
            claim,
            version,
        })
    }

    async fn run<T, R>(
        &self,
        sink: T,
        mut stream: R,
        subscription: Subscription,
        version: u64,
        claim: &Claim,
        held: &Upgraded,
    ) -> (End, T, R)
    where
        T: Sink<Frame, Error = SocketError> + Unpin,
        R: Stream<Item = Result<Frame, SocketError>> + Unpin,
    {
        let mut writer = Writer {
            side: self,
            sink,
            subscription,
            version,
            epoch: self.inner.epoch.load(Ordering::Relaxed),
        };
        let end = tokio::select! {
            end = self.read(&mut stream) => end,
            end = writer.run(claim) => end,
            () = held.stopping() => End::away("the server is stopping"),
        };
        (end, writer.sink, stream)
    }

    async fn read<R>(&self, stream: &mut R) -> End
    where
        R: Stream<Item = Result<Frame, SocketError>> + Unpin,
    {
        loop {
            let frame = match stream.next().await {
                None => return End::Peer,
                Some(Err(error)) => return error.into(),
                Some(Ok(frame)) => frame,
            };
            self.heard();
            match frame {
                Frame::Binary(bytes) => {
                    if let Err(end) = self.take_from_device(&bytes).await {
                        return end;
                    }
                }
                Frame::Text => return End::unsupported(),
                Frame::Ping(_) | Frame::Pong => {}
                Frame::Close(..) => return End::Peer,
            }
        }
    }

    /// Takes a message of the device to its session; one of no session is dropped, as by the reference.
    async fn take_from_device(&self, bytes: &Bytes) -> Result<(), End> {
        let message = MessageRef::decode(bytes).map_err(|error| End::malformed(&error))?;
        let Ok(sid) = Uuid::parse_str(message.sid) else {
            return Ok(());
        };
        let cost = bytes.len() as u64 + OVERHEAD_BYTES;
        let ended = message.proto == PROTO_SHELL && message.typ == shell::STOP;
        let number = match self.reserve(sid, cost, ended) {
            Reserved::Unknown => return Ok(()),
            Reserved::Number(number) => number,
            Reserved::Full => match Box::pin(self.wait_for_room(sid, cost, ended)).await {
                Some(number) => number,
                None => return Ok(()),
            },
        };
        let envelope = Envelope::encode(Kind::Data, sid, number, bytes);
        let subject = session_subject(&self.device.tenant, sid);
        if let Err(error) = self.inner.bus.send(&subject, envelope).await {
            tracing::debug!(%error, "a session is gone");
            self.give_up(sid, "user disconnected").await;
        }
        Ok(())
    }

    /// Ends a session from the reading loop: the writing loop does it.
    async fn give_up(&self, sid: Uuid, reason: &str) {
        let bye = Envelope::encode(Kind::Bye, sid, 0, reason.as_bytes());
        let subject = device_subject(&self.device.tenant, &self.device.device_id);
        // If it does not arrive, the session's silence ends it.
        let _ = self.inner.bus.send(&subject, bye).await;
    }

    fn reserve(&self, sid: Uuid, cost: u64, ended: bool) -> Reserved {
        let mut sessions = self.sessions();
        let Some(session) = sessions.get_mut(&sid) else {
            return Reserved::Unknown;
        };
        if session.under_way >= WINDOW_BYTES {
            return Reserved::Full;
        }
        session.under_way += cost;
        session.sent += 1;
        if ended {
            session.shell = false;
        }
        Reserved::Number(session.sent - 1)
    }

    /// While a user's side takes nothing, the device is not read: its own socket holds it back. A session
    /// that takes nothing for too long is ended, so that it does not hold up the others for ever.
    async fn wait_for_room(&self, sid: Uuid, cost: u64, ended: bool) -> Option<u64> {
        let deadline = Instant::now() + self.inner.settings.write_stall;
        loop {
            let room = self.room.notified();
            match self.reserve(sid, cost, ended) {
                Reserved::Number(number) => return Some(number),
                Reserved::Unknown => return None,
                Reserved::Full => {}
            }
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                let reason = "the connection is too slow";
                self.tell_gone(sid, reason).await;
                self.give_up(sid, reason).await;
                return None;
            }
        }
    }

    async fn tell_gone(&self, sid: Uuid, reason: &str) {
        let gone = Envelope::encode(Kind::Gone, sid, 0, reason.as_bytes());
        let subject = session_subject(&self.device.tenant, sid);
        // If that does not arrive, the user's side notices the silence.
        let _ = self.inner.bus.send(&subject, gone).await;
    }

    /// Tells all sessions that the device has left.
    async fn dismiss(&self) {
        let sids: Vec<Uuid> = self.sessions().drain().map(|(sid, _)| sid).collect();
        for sid in sids {
            self.tell_gone(sid, "device disconnected").await;
        }
    }
}

/// A device that can be reached.
struct Listening {
    subscription: Subscription,
    claim: Claim,
    version: u64,
}

enum Reserved {
    Number(u64),
    Full,
    Unknown,
}

fn replaced() -> End {
    End::policy("replaced by a newer connection of the same device")
}

/// Moves messages from the bus to the device, and keeps time.
struct Writer<'a, T> {
    side: &'a Side<'a>,
    sink: T,
    subscription: Subscription,
    version: u64,
    epoch: u64,
}

impl<T: Sink<Frame, Error = SocketError> + Unpin> Writer<'_, T> {
    async fn run(&mut self, claim: &Claim) -> End {
        let settings = &self.side.inner.settings;
        let mut next_ping = self.side.started + settings.ping;
        let mut next_check = self.side.started + settings.recheck;
        loop {
            let heard_ms = self.side.heard_ms.load(Ordering::Relaxed);
            let heard = self.side.started + std::time::Duration::from_millis(heard_ms);
            let deadline = next_ping.min(heard + settings.silence);
            let outcome = tokio::select! {
                message = self.subscription.next() => match message {
                    Some(message) => Box::pin(self.take(&message)).await,
                    None => Err(End::policy("the connection is too slow")),
                },
                () = sleep_until(deadline) => {
                    let now = Instant::now();
                    let heard_ms = self.side.heard_ms.load(Ordering::Relaxed);
                    let heard = self.side.started + std::time::Duration::from_millis(heard_ms);
                    if now >= heard + settings.silence {
                        Err(End::policy("no sign of life"))
                    } else if now >= next_ping {
                        next_ping = now + settings.ping;
                        let check = now >= next_check;
                        if check {
                            next_check = now + settings.recheck;
                        }
                        Box::pin(self.tick(claim, check)).await
                    } else {
                        Ok(())
                    }
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), End> {
        let stall = self.side.inner.settings.write_stall;
        socket::send(&mut self.sink, Frame::Binary(bytes), stall).await
    }

    async fn tick(&mut self, claim: &Claim, check: bool) -> Result<(), End> {
        let side = self.side;
        let (inner, device) = (side.inner, side.device);
        socket::send(
            &mut self.sink,
            Frame::Ping(PING),
            inner.settings.write_stall,
        )
        .await?;
        let epoch = inner.epoch.load(Ordering::Relaxed);
        if epoch != self.epoch {
            self.epoch = epoch;
            let reasserted =
                presence::reassert(inner, &device.tenant, &device.device_id, claim).await;
            if let Err(error) = reasserted {
                tracing::warn!(%error, "a device's connection cannot be recorded again");
            }
        }
        if check {
            self.check_token().await?;
        }
        let silent = Instant::now().checked_sub(inner.settings.silence);
        let lost: Vec<Uuid> = side
            .sessions()
            .iter()
            .filter(|(_, session)| silent.is_some_and(|silent| session.heard < silent))
            .map(|(sid, _)| *sid)
            .collect();
        for sid in lost {
            self.leave(sid, "user disconnected").await?;
        }
        Ok(())
    }

    async fn check_token(&self) -> Result<(), End> {
        let (inner, device) = (self.side.inner, self.side.device);
        match inner.neighbours.device_counts(device).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::policy("the device's token was revoked")),
            Err(error) => {
                tracing::warn!(%error, "a device's token cannot be checked");
                Ok(())
            }
        }
    }

    async fn take(&mut self, message: &BusMessage) -> Result<(), End> {
        let Some(envelope) = Envelope::decode(&message.payload) else {
            return Ok(());
        };
        let sid = envelope.sid;
        match envelope.kind {
            Kind::Open => self.open(sid, &envelope.payload, message).await,
            Kind::Data => self.data(envelope).await?,
            Kind::Consumed => {
                if let Some(session) = self.side.sessions().get_mut(&sid) {
                    session.heard = Instant::now();
                    session.under_way = session.under_way.saturating_sub(envelope.number);
                }
                self.side.room.notify_one();
            }
            Kind::Alive => self.alive(sid).await,
            Kind::Bye => {
                let reason = String::from_utf8_lossy(&envelope.payload).into_owned();
                self.leave(sid, &reason).await?;
            }
            Kind::Replaced if envelope.number > self.version => return Err(replaced()),
            Kind::Command => {
                self.send(envelope.payload).await?;
                let _ = message.respond(Bytes::new()).await;
            }
            Kind::Kick => {
                return Err(End::policy(&String::from_utf8_lossy(&envelope.payload)));
            }
            Kind::Check => Box::pin(self.check_token()).await?,
            Kind::Replaced | Kind::Gone => {}
        }
        Ok(())
    }

    async fn open(&self, sid: Uuid, payload: &[u8], message: &BusMessage) {
        let refused = match serde_json::from_slice::<Open>(payload) {
            Err(_) => Some("not understood by another instance of the server".to_owned()),
            Ok(open) => {
                let sessions_max = self.side.inner.settings.sessions_per_device;
                let mut sessions = self.side.sessions();
                if sessions.len() >= sessions_max {
                    Some(format!("the device has {sessions_max} sessions already"))
                } else {
                    sessions.insert(
                        sid,
                        Session {
                            user_id: open.user_id,
                            sent: 0,
                            under_way: 0,
                            received: 0,
                            consumed: 0,
                            heard: Instant::now(),
                            shell: false,
                            opened: false,
                        },
                    );
                    None
                }
            }
        };
        let opened = Opened {
            refused,
            message_bytes_max: self.side.message_bytes_max,
        };
        let answer = serde_json::to_vec(&opened).unwrap_or_default();
        if message.respond(answer.into()).await.is_err() {
            self.side.sessions().remove(&sid);
        }
    }

    async fn data(&mut self, envelope: Envelope) -> Result<(), End> {
        let sid = envelope.sid;
        let Ok(message) = MessageRef::decode(&envelope.payload) else {
            return Ok(());
        };
        let in_order = self.side.sessions().get_mut(&sid).map(|session| {
            session.heard = Instant::now();
            let in_order = envelope.number == session.received;
            session.received += 1;
            match (message.proto, message.typ) {
                (PROTO_SHELL, shell::NEW) => session.shell = true,
                (PROTO_SHELL, shell::STOP) => session.shell = false,
                (PROTO_SHELL, _) => {}
                (PROTO_CONTROL, control::CLOSE) => session.opened = false,
                _ => session.opened = true,
            }
            in_order
        });
        let Some(in_order) = in_order else {
            self.side.tell_gone(sid, "device disconnected").await;
            return Ok(());
        };
        if !in_order {
            let reason = "the connection to the device was interrupted";
            self.side.tell_gone(sid, reason).await;
            return self.leave(sid, reason).await;
        }
        let cost = envelope.payload.len() as u64 + OVERHEAD_BYTES;
        self.send(envelope.payload).await?;
        let consumed = self.side.sessions().get_mut(&sid).and_then(|session| {
            session.consumed += cost;
            (session.consumed >= CONSUMED_BYTES).then(|| std::mem::take(&mut session.consumed))
        });
        if let Some(consumed) = consumed {
            self.answer(sid, Kind::Consumed, consumed).await;
        }
        Ok(())
    }

    async fn alive(&self, sid: Uuid) {
        let known = match self.side.sessions().get_mut(&sid) {
            Some(session) => {
                session.heard = Instant::now();
                true
            }
            None => false,
        };
        if known {
            self.answer(sid, Kind::Alive, 0).await;
        } else {
            self.side.tell_gone(sid, "device disconnected").await;
        }
    }

    async fn answer(&self, sid: Uuid, kind: Kind, number: u64) {
        let envelope = Envelope::encode(kind, sid, number, b"");
        let subject = session_subject(&self.side.device.tenant, sid);
        // The user's side keeps its queue empty; should it be stuck, its silence ends the session.
        let patience = self.side.inner.settings.write_stall;
        let _ = timeout(patience, self.side.inner.bus.send(&subject, envelope)).await;
    }

    /// Ends what the user's side has left running on the device.
    async fn leave(&mut self, sid: Uuid, reason: &str) -> Result<(), End> {
        let Some(session) = self.side.sessions().remove(&sid) else {
            return Ok(());
        };
        // A reader that waits for room in this session must not wait on.
        self.side.room.notify_one();
        let sid = sid.to_string();
        if session.shell {
            let stop = shell::message(shell::STOP, &sid, shell::STATUS_ERROR, reason.as_bytes())
                .prop(shell::USER_ID, session.user_id.as_str());
            self.send(stop.encode().into()).await?;
        }
        if session.opened {
            let close: Message =
                control::close(&sid).prop(shell::USER_ID, session.user_id.as_str());
            self.send(close.encode().into()).await?;
        }
        Ok(())
    }
}
