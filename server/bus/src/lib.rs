//! Messages within an instance and between instances.
//!
//! A [`Bus`] carries live streams (terminal sessions) and hints ("there is a job"). What must not be lost
//! lives in the database; a message that does not arrive costs time, never data. Within an instance a
//! message goes from hand to hand, with or without other instances; between instances it goes through a
//! NATS server. This crate knows no HTTP, no tenant and no service.
//!
//! Subscribers: each has a queue of bounded length. A producer of the same instance waits for room in it
//! (at most ten seconds); a stream from another instance cannot be held up, so a subscriber that falls
//! behind by more than its queue is cut off. Either way a subscriber never sees a gap: it sees the end of
//! its subscription, and [`Subscription::lagged`] tells why. Do not publish from the only task that takes
//! messages out of a queue that waits for you in turn.

#![forbid(unsafe_code)]

mod error;
mod nats;
mod queue;
mod routes;
mod subject;

pub use error::BusError;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use nats::Nats;
use queue::Queue;
use routes::{LOCAL_INBOX, Routes};

/// Largest payload of one message, with or without other instances: what a NATS server takes unless
/// told otherwise.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Where messages go. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    routes: Routes,
    nats: Option<Nats>,
}

impl Bus {
    /// A bus for one instance alone.
    pub fn local() -> Bus {
        Bus(Arc::new(Inner {
            routes: Routes::default(),
            nats: None,
        }))
    }

    /// A bus that joins the instances connected to the same NATS servers.
    ///
    /// `url` is `nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]`, or `tls://` to insist on encryption; several
    /// servers of a cluster are divided by commas. Behind the last one a query may name files:
    /// `?ca=FILE` (certificates to trust beside the system's), `cert=FILE&key=FILE` (client certificate),
    /// `credentials=FILE` (a NATS `.creds` file) and `prefix=WORD` (first word of all subjects, by
    /// default `ambidex`; installations that share a NATS server need different ones).
    ///
    /// Returns when the connection stands, or after some seconds without it: then it is tried again in
    /// the background for as long as it takes, like a connection that breaks later.
    ///
    /// # Errors
    /// [`BusError::Config`] for an address or option that cannot work.
    pub async fn nats(url: &str) -> Result<Bus, BusError> {
        Ok(Bus(Arc::new(Inner {
            routes: Routes::default(),
            nats: Some(Nats::connect(url).await?),
        })))
    }

    /// Sends to all subscribers of `subject` in all instances. `Ok` does not mean that anybody listens.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when other instances cannot be reached at the moment (subscribers of
    /// this one have got the message); [`BusError::TooLarge`], [`BusError::Subject`].
    pub async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check(subject, &payload)?;
        let message = self.message(subject, None, payload.clone());
        self.0.routes.deliver(message).await;
        match &self.0.nats {
            Some(nats) => nats.publish(subject, payload).await,
            None => Ok(()),
        }
    }

    /// Sends to the subscribers of `subject` in this instance or, if there are none here, to those in
    /// other instances: for a stream with one receiver, which then takes no detour.
    ///
    /// # Errors
    /// As [`Bus::publish`]; within one instance [`BusError::NoResponders`] when nobody took it.
    pub async fn send(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check(subject, &payload)?;
        let message = self.message(subject, None, payload.clone());
        if self.0.routes.deliver(message).await > 0 {
            return Ok(());
        }
        match &self.0.nats {
            Some(nats) => nats.publish(subject, payload).await,
            None => Err(BusError::NoResponders(subject.to_owned())),
        }
    }

    /// Listens to `subject`. Everything that is published after the answer arrives, in this instance and
    /// from those that are connected.
    ///
    /// # Errors
    /// [`BusError::Subject`]; [`BusError::Unavailable`] when the connection to NATS has ended for good.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, BusError> {
        subject::check(subject)?;
        let mut subscription = self.subscribe_here(subject);
        if let Some(nats) = &self.0.nats {
            let queue = Arc::clone(&subscription.queue);
            subscription.remote = Some(nats.subscribe(subject, queue, self).await?);
        }
        Ok(subscription)
    }

    fn subscribe_here(&self, subject: &str) -> Subscription {
        Subscription {
            queue: self.0.routes.add(subject),
            subject: subject.to_owned(),
            bus: self.clone(),
            remote: None,
        }
    }

    /// Asks the subscriber of `subject`, in this instance if there is one, else in others, and waits for
    /// its [`Message::respond`].
    ///
    /// # Errors
    /// [`BusError::NoResponders`] at once when nobody listens; [`BusError::Timeout`] after `timeout`;
    /// those of [`Bus::publish`].
    pub async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, BusError> {
        check(subject, &payload)?;
        if !self.0.routes.has(subject) {
            return match &self.0.nats {
                Some(nats) => nats.request(subject, payload, timeout).await,
                None => Err(BusError::NoResponders(subject.to_owned())),
            };
        }
        let inbox = self.subscribe_here(&self.0.routes.inbox());
        let message = self.message(subject, Some(inbox.subject.clone()), payload);
        let answer = async {
            if self.0.routes.deliver(message).await == 0 {
                return Err(BusError::NoResponders(subject.to_owned()));
            }
            match inbox.queue.next().await {
                Some(answer) => Ok(answer.payload),
                None => Err(BusError::Timeout(subject.to_owned())),
            }
        };
        tokio::time::timeout(timeout, answer)
            .await
            .unwrap_or_else(|_| Err(BusError::Timeout(subject.to_owned())))
    }

    /// Publishes under a subject of somebody else, exactly as given, to the NATS server (tasks of
    /// workflows that notify other programs).
    ///
    /// # Errors
    /// [`BusError::Config`] without a NATS server, else as [`Bus::publish`].
    pub async fn publish_external(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check(subject, &payload)?;
        match &self.0.nats {
            Some(nats) => nats.publish_raw(subject.to_owned(), payload).await,
            None => Err(BusError::Config(
                "there is no NATS server; start the server with --nats-url".to_owned(),
            )),
        }
    }

    /// Whether messages go to other instances.
    pub fn is_shared(&self) -> bool {
        self.0.nats.is_some()
    }

    /// Proves that messages get through at this moment (health checks).
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    pub async fn ping(&self) -> Result<(), BusError> {
        match &self.0.nats {
            Some(nats) => nats.ping().await,
            None => Ok(()),
        }
    }

    fn message(&self, subject: &str, reply: Option<String>, payload: Bytes) -> Message {
        Message {
            subject: subject.to_owned(),
            bus: reply.is_some().then(|| self.clone()),
            reply,
            payload,
        }
    }
}

impl Default for Bus {
    fn default() -> Bus {
        Bus::local()
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_shared() {
            "Bus::Nats"
        } else {
            "Bus::Local"
        })
    }
}

fn check(subject: &str, payload: &Bytes) -> Result<(), BusError> {
    subject::check(subject)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(BusError::TooLarge {
            bytes: payload.len(),
            bytes_max: PAYLOAD_BYTES_MAX,
        });
    }
    Ok(())
}

/// What a subscriber receives.
#[derive(Debug, Clone)]
pub struct Message {
    /// What it was published under.
    pub subject: String,
    /// Where an answer goes, if one is waited for.
    pub reply: Option<String>,
    /// The content.
    pub payload: Bytes,
    /// The way back.
    bus: Option<Bus>,
}

impl Message {
    /// Answers a request. The first answer counts.
    ///
    /// # Errors
    /// [`BusError::NoReply`] when no answer is waited for; those of [`Bus::publish`].
    pub async fn respond(&self, payload: Bytes) -> Result<(), BusError> {
        let (Some(reply), Some(bus)) = (&self.reply, &self.bus) else {
            return Err(BusError::NoReply);
        };
        if reply.starts_with(LOCAL_INBOX) {
            bus.0
                .routes
                .deliver(bus.message(reply, None, payload))
                .await;
            return Ok(());
        }
        match &bus.0.nats {
            Some(nats) => nats.publish_raw(reply.clone(), payload).await,
            None => Err(BusError::NoReply),
        }
    }
}

/// A standing interest in a subject. Ends when dropped.
pub struct Subscription {
    queue: Arc<Queue>,
    subject: String,
    bus: Bus,
    remote: Option<nats::Remote>,
}

impl Subscription {
    /// The next message. `None`: the subscriber was too slow and has been cut off, or the bus has ended;
    /// there will be no more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        self.queue.next().await
    }

    /// Whether this subscription was cut off because its messages were not taken in time.
    pub fn lagged(&self) -> bool {
        self.queue.lagged()
    }

    /// What it listens to.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        drop(self.remote.take());
        self.bus.0.routes.remove(&self.subject, &self.queue);
        self.queue.close();
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscription").field(&self.subject).finish()
    }
}
