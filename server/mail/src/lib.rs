//! Sending mail.
//!
//! Owns the way to the mail server: its URL, encryption, time limits and the text of errors, which never
//! hold a password. Does not own texts (the services write them) nor repetition (a job that fails is
//! tried again by whoever runs jobs).

#![forbid(unsafe_code)]

mod address;
mod error;
mod message;
#[cfg(feature = "sink")]
pub mod sink;
mod smtp;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

pub use error::MailError;
pub use message::Mail;
use smtp::Smtp;

/// Sends mail one way or another. Cheap to clone; clones share the way.
#[derive(Clone)]
pub struct Mailer(Way);

#[derive(Clone)]
enum Way {
    None,
    Smtp(Arc<Smtp>),
    Memory(Arc<Memory>),
}

#[derive(Default)]
struct Memory {
    sent: Mutex<Vec<Mail>>,
    changed: Notify,
}

impl Mailer {
    /// A server that was not told of a mail server: every mail is refused with a clear text.
    pub fn none() -> Mailer {
        Mailer(Way::None)
    }

    /// Mail by SMTP. `url` is `smtp://[USER:PASSWORD@]HOST[:PORT][?OPTIONS]` or `smtps://…`, both parts of
    /// the credentials percent-encoded. Options:
    /// - `from=ADDRESS` (or `from=Name <ADDRESS>`): the sender of mails that name none
    /// - `starttls=required|opportunistic|never`: for `smtp://`. Unless told: `never` for this machine,
    ///   else `required` with credentials and `opportunistic` without
    /// - `ca=FILE`: certificates in PEM that are trusted besides the well-known ones
    ///
    /// `from` wins over the URL's option; without both the sender is `no-reply@HOST`.
    ///
    /// # Errors
    /// [`MailError::Setting`] when the URL is not of this form.
    pub fn smtp(url: &str, from: Option<&str>) -> Result<Mailer, MailError> {
        Ok(Mailer(Way::Smtp(Arc::new(Smtp::new(url, from)?))))
    }

    /// Keeps mails for [`Mailer::sent`] and [`Mailer::received`] (tests). Mails are checked as for SMTP.
    pub fn memory() -> Mailer {
        Mailer(Way::Memory(Arc::default()))
    }

    /// Whether mails have a chance: `false` only for [`Mailer::none`].
    pub fn is_configured(&self) -> bool {
        !matches!(self.0, Way::None)
    }

    /// Hands one mail over; when this returns, the mail server has taken it.
    ///
    /// # Errors
    /// [`MailError`], by what the caller can do.
    pub async fn send(&self, mail: Mail) -> Result<(), MailError> {
        match &self.0 {
            Way::None => Err(MailError::NotConfigured),
            Way::Smtp(smtp) => smtp.send(&mail).await,
            Way::Memory(memory) => {
                message::build(&mail, &address::mailbox("no-reply@localhost")?)?;
                let mut sent = memory.sent.lock().unwrap_or_else(PoisonError::into_inner);
                sent.push(mail);
                memory.changed.notify_waiters();
                Ok(())
            }
        }
    }

    /// What [`Mailer::memory`] was given so far; empty for other ways.
    pub fn sent(&self) -> Vec<Mail> {
        match &self.0 {
            Way::Memory(memory) => {
                let sent = memory.sent.lock().unwrap_or_else(PoisonError::into_inner);
                sent.clone()
            }
            _ => Vec::new(),
        }
    }

    /// Waits until [`Mailer::memory`] has `count` mails or more and returns them all. For other ways it
    /// returns at once with nothing.
    pub async fn received(&self, count: usize) -> Vec<Mail> {
        let Way::Memory(memory) = &self.0 else {
            return Vec::new();
        };
        loop {
            // Registered before looking, so that a mail in between is not missed.
            let mut changed = std::pin::pin!(memory.changed.notified());
            changed.as_mut().enable();
            let sent = self.sent();
            if sent.len() >= count {
                return sent;
            }
            changed.await;
        }
    }
}

impl Default for Mailer {
    /// As [`Mailer::none`].
    fn default() -> Mailer {
        Mailer::none()
    }
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Way::None => "Mailer::none",
            Way::Smtp(_) => "Mailer::smtp",
            Way::Memory(_) => "Mailer::memory",
        })
    }
}
