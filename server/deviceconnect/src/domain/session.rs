//! The user's side of a session: a stream of messages to and from a device, wherever it is connected.
//!
//! [`open`] makes the pair of [`Outbound`] and [`Inbound`]. They are meant for two loops of one task:
//! `Inbound` must be polled all the time, because the room that `Outbound` waits for is announced there.
//! Dropping the pair tells the device's side.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambidex_access::TenantId;
use ambidex_bus::{Bus, BusError, Subscription};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::envelope::{
    CONSUMED_BYTES, Envelope, Kind, Open, Opened, WINDOW_BYTES, device_subject, session_subject,
};
use super::{OVERHEAD_BYTES, presence};
use crate::{DeviceconnectError, Inner};

/// How long the device's side may take to answer an open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// State that both halves share.
struct Shared {
    bus: Bus,
    device_subject: String,
    sid: Uuid,
    /// Bytes sent and not yet consumed.
    under_way: AtomicU64,
    room: Notify,
    /// Why the user's side left; told to the device.
    farewell: Mutex<String>,
    /// The device's side already knows that it is over.
    over: std::sync::atomic::AtomicBool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if *self.over.get_mut() {
            return;
        }
        let farewell = self
            .farewell
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let bye = Envelope::encode(Kind::Bye, self.sid, 0, farewell.as_bytes());
        let (bus, subject) = (self.bus.clone(), std::mem::take(&mut self.device_subject));
        // Outside of a runtime there is nobody left to tell.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = bus.send(&subject, bye).await;
            });
        }
    }
}

/// To the device.
#[derive(Clone)]
pub(crate) struct Outbound {
    shared: Arc<Shared>,
    sent: Arc<AtomicU64>,
    /// Largest message that the device reads.
    pub(crate) message_bytes_max: usize,
    stall: Duration,
}

/// What comes from the device.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message.
    Data(Bytes),
    /// The session is over: why.
    Gone(String),
}

/// From the device.
pub(crate) struct Inbound {
    shared: Arc<Shared>,
    subscription: Subscription,
    received: u64,
    consumed: u64,
    heard: Instant,
    /// When somebody last waited for an event.
    listened: Instant,
    next_alive: Instant,
    keepalive: Duration,
    silence: Duration,
}

/// Begins a session of `user_id` with a device. The id of the session is made here.
pub(crate) async fn open(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
    user_id: &str,
) -> Result<(Outbound, Inbound), DeviceconnectError> {
    let sid = presence::session_id();
    let device_subject = device_subject(tenant, device);
    // Listening before asking: the device may speak at once.
    let subscription = inner.bus.subscribe(&session_subject(tenant, sid)).await?;
    let payload = serde_json::to_vec(&Open {
        user_id: user_id.to_owned(),
    })
    .unwrap_or_default();
    let open = Envelope::encode(Kind::Open, sid, 0, &payload);
    let answer = match inner.bus.request(&device_subject, open, OPEN_TIMEOUT).await {
        Ok(answer) => answer,
        Err(BusError::NoResponders(_) | BusError::Timeout(_) | BusError::Subject(_)) => {
            return Err(DeviceconnectError::NotConnected);
        }
        Err(error) => return Err(error.into()),
    };
    let Ok(opened) = serde_json::from_slice::<Opened>(&answer) else {
        return Err(DeviceconnectError::NotConnected);
    };
    if let Some(reason) = opened.refused {
        return Err(DeviceconnectError::Busy(reason));
    }
    let shared = Arc::new(Shared {
        bus: inner.bus.clone(),
        device_subject,
        sid,
        under_way: AtomicU64::new(0),
        room: Notify::new(),
        farewell: Mutex::new("user disconnected".to_owned()),
        over: false.into(),
    });
    let now = Instant::now();
    let settings = &inner.settings;
    let outbound = Outbound {
        shared: Arc::clone(&shared),
        sent: Arc::default(),
        message_bytes_max: opened.message_bytes_max,
        stall: settings.write_stall,
    };
    let inbound = Inbound {
        shared,
        subscription,
        received: 0,
        consumed: 0,
        heard: now,
        listened: now,
        next_alive: now + settings.keepalive,
        keepalive: settings.keepalive,
        silence: settings.silence,
    };
    Ok((outbound, inbound))
}

impl Outbound {
    /// The session.
    pub(crate) fn sid(&self) -> Uuid {
        self.shared.sid
    }

    /// What the device is told when the user's side leaves.
    pub(crate) fn farewell(&self, reason: &str) {
        reason.clone_into(
            &mut self
                .shared
                .farewell
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Sends one message, waiting for room. The reason when the session is over.
    pub(crate) async fn send(&self, message: &[u8]) -> Result<(), String> {
        let cost = message.len() as u64 + OVERHEAD_BYTES;
        let room = async {
            loop {
                let room = self.shared.room.notified();
                if self.shared.under_way.load(Ordering::Acquire) < WINDOW_BYTES {
                    return;
                }
                room.await;
            }
        };
        if tokio::time::timeout(self.stall, room).await.is_err() {
            return Err("the device takes no more data".to_owned());
        }
        self.shared.under_way.fetch_add(cost, Ordering::AcqRel);
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let envelope = Envelope::encode(Kind::Data, self.shared.sid, number, message);
        match self
            .shared
            .bus
            .send(&self.shared.device_subject, envelope)
            .await
        {
            Ok(()) => Ok(()),
            Err(BusError::NoResponders(_)) => Err("device disconnected".to_owned()),
            Err(error) => {
                tracing::warn!(%error, "a session's message was not sent");
                Err("the connection to the device was interrupted".to_owned())
            }
        }
    }
}

impl Inbound {
    /// The next event. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Event {
        if self.listened.elapsed() > self.keepalive {
            // Nobody has listened: that is no silence of the device's side.
            self.heard = Instant::now();
        }
        loop {
            self.listened = Instant::now();
            let deadline = self.next_alive.min(self.heard + self.silence);
            let message = tokio::select! {
                biased;
                message = self.subscription.next() => Some(message),
                () = tokio::time::sleep_until(deadline) => None,
            };
            match message {
                Some(Some(message)) => {
                    self.heard = Instant::now();
                    if let Some(event) = self.take(&message.payload) {
                        return event;
                    }
                }
                Some(None) => return Event::Gone("the connection is too slow".to_owned()),
                None => {
                    let now = Instant::now();
                    if now >= self.heard + self.silence {
                        return Event::Gone("device disconnected".to_owned());
                    }
                    if now >= self.next_alive {
                        self.next_alive = now + self.keepalive;
                        self.tell(Kind::Alive, 0);
                    }
                }
            }
        }
    }

    fn take(&mut self, bytes: &Bytes) -> Option<Event> {
        let envelope = Envelope::decode(bytes)?;
        match envelope.kind {
            Kind::Data if envelope.number == self.received => {
                self.received += 1;
                Some(Event::Data(envelope.payload))
            }
            Kind::Data => Some(Event::Gone(
                "the connection to the device was interrupted".to_owned(),
            )),
            Kind::Consumed => {
                let under_way = &self.shared.under_way;
                let _ = under_way.fetch_update(Ordering::AcqRel, Ordering::Acquire, |bytes| {
                    Some(bytes.saturating_sub(envelope.number))
                });
                self.shared.room.notify_one();
                None
            }
            Kind::Gone => {
                self.shared.over.store(true, Ordering::Relaxed);
                Some(Event::Gone(
                    String::from_utf8_lossy(&envelope.payload).into_owned(),
                ))
            }
            _ => None,
        }
    }

    /// Tells that a message of this size has left for the user, so that the device's side may send more.
    pub(crate) fn consumed(&mut self, bytes: usize) {
        self.consumed += bytes as u64 + OVERHEAD_BYTES;
        if self.consumed >= CONSUMED_BYTES {
            let consumed = std::mem::take(&mut self.consumed);
            self.tell(Kind::Consumed, consumed);
        }
    }

    /// In the background: these small messages must not hold up the stream, and arrive in any order.
    fn tell(&self, kind: Kind, number: u64) {
        let envelope = Envelope::encode(kind, self.shared.sid, number, b"");
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let _ = shared.bus.send(&shared.device_subject, envelope).await;
        });
    }
}
