//! Mails with a link: to set a password, to prove an address.
//!
//! Asking for one writes a job and nothing else, whether there is such a user or not, so that neither the answer nor
//! its time tells. The job finds the user, makes the secret, keeps its hash and sends it: the secret itself is never
//! stored.

use std::sync::{Arc, Weak};

use ambidex_access::TenantId;
use ambidex_db::{DbError, Statement};
use ambidex_jobs::{Handler, Job, JobError};
use ambidex_kit::{BoxFuture, new_id};
use ambidex_mail::Mail;
use ring::digest::{SHA256, digest};
use serde_json::json;

use super::{Email, password};
use crate::{Inner, UseradmError, store};

const KIND: &str = "useradm.mail";
/// Two mails for the same purpose are this far apart, whoever asks for them.
const PAUSE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const INVALID: &str = "the secret is unknown, expired or was used before";

/// What a mail is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The user has forgotten the password.
    Reset,
    /// The user is new and sets a first password.
    Invite,
    /// The user proves that the address is right.
    Verify,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Reset => "reset",
            Purpose::Invite => "invite",
            Purpose::Verify => "verify",
        }
    }

    fn parse(name: &str) -> Option<Purpose> {
        [Purpose::Reset, Purpose::Invite, Purpose::Verify]
            .into_iter()
            .find(|purpose| purpose.name() == name)
    }

    /// What the secret is good for. Both kinds of mails about passwords have the same link.
    fn secret(self) -> &'static str {
        match self {
            Purpose::Reset | Purpose::Invite => PASSWORD,
            Purpose::Verify => ADDRESS,
        }
    }

    fn lifetime_ms(self) -> i64 {
        match self {
            Purpose::Reset => HOUR_MS,
            Purpose::Verify => 24 * HOUR_MS,
            // Whoever is invited on a Friday may come on Monday.
            Purpose::Invite => 72 * HOUR_MS,
        }
    }

    fn mail(self, to: &str, public_url: &str, secret: &str) -> Mail {
        let (subject, path, text, hours) = match self {
            Purpose::Reset => (
                "Reset your password",
                "password",
                "somebody, hopefully you, asked to reset the password of your account. To set a new one, open this link",
                self.lifetime_ms() / HOUR_MS,
            ),
            Purpose::Invite => (
                "Your new account",
                "password",
                "an account was made for you. To set its password, open this link",
                self.lifetime_ms() / HOUR_MS,
            ),
            Purpose::Verify => (
                "Verify your address",
                "activate",
                "to verify that this is your address, open this link",
                self.lifetime_ms() / HOUR_MS,
            ),
        };
        let hours = match hours {
            1 => "one hour".to_owned(),
            n => format!("{n} hours"),
        };
        Mail {
            to: vec![to.to_owned()],
            subject: subject.to_owned(),
            text: format!(
                "Hello,\n\n{text}:\n\n{public_url}/ui/#/{path}/{secret}\n\nIt works once, within {hours}. \
                 If you did not expect this mail, ignore it: nothing has changed.\n"
            ),
            ..Mail::default()
        }
    }
}

const PASSWORD: &str = "password";
const ADDRESS: &str = "address";

/// Whether mails with links have a chance.
pub(crate) fn possible(inner: &Inner) -> bool {
    inner.parts.mailer.is_configured() && inner.settings.public_url.is_some()
}

/// The statement that asks for a mail. Several at once for the same address are one.
pub(super) fn ask(inner: &Inner, email: &Email, purpose: Purpose) -> Statement {
    let payload = json!({"email": email.as_str(), "purpose": purpose.name()});
    let key = format!("{}/{}", purpose.name(), email.as_str());
    inner.parts.jobs.enqueue_unique(KIND, "", &payload, &key)
}

/// Asks for a mail on behalf of somebody unknown. The answer is the same for every address.
pub(crate) async fn start(
    inner: &Inner,
    email: &str,
    purpose: Purpose,
    caller: &str,
) -> Result<(), UseradmError> {
    let email = Email::parse(email)?;
    inner.throttles.mail.charge(caller, inner.now_ms())?;
    if !possible(inner) {
        tracing::warn!(
            "a user asked for a mail ({}) that cannot be sent: {}",
            purpose.name(),
            why_not(inner)
        );
        return Ok(());
    }
    inner.db().apply(vec![ask(inner, &email, purpose)]).await?;
    inner.parts.jobs.wake();
    Ok(())
}

fn why_not(inner: &Inner) -> &'static str {
    if inner.parts.mailer.is_configured() {
        "start the server with --public-url, which the link in the mail begins with"
    } else {
        "mail is not configured, start the server with --smtp-url and --public-url"
    }
}

pub(super) fn hash(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()))
}

async fn find(
    inner: &Inner,
    secret: &str,
    purpose: &str,
) -> Result<(String, store::secret::Stored), UseradmError> {
    let invalid = || UseradmError::Invalid(INVALID.to_owned());
    let hash = hash(secret);
    let found = store::secret::by_hash(inner.db(), &hash, purpose)
        .await?
        .filter(|found| found.expires_ms > inner.now_ms())
        .ok_or_else(invalid)?;
    Ok((hash, found))
}

/// Sets a password with the secret of a mail, which proves the address too. All sessions of the user end.
pub(crate) async fn complete_password(
    inner: &Inner,
    secret: &str,
    clear: String,
) -> Result<(), UseradmError> {
    let (secret_hash, found) = find(inner, secret, PASSWORD).await?;
    let email = Email::parse(&found.email)?;
    // Documented as a malformed request, other than for users who are logged in.
    password::check(&clear, &email).map_err(|error| UseradmError::Invalid(error.to_string()))?;
    let hash = inner.passwords.hash(clear).await?;
    let (tenant, user) = (found.tenant.as_str(), found.user.as_str());
    let batch = vec![
        store::secret::use_up(&secret_hash, PASSWORD),
        store::user::touch(tenant, user, inner.now_ms()),
        store::user::verify(tenant, user, &found.email),
        store::user::set_password(tenant, user, &hash),
        store::token::delete_all(tenant, Some(user)),
        store::secret::delete_user(tenant, user),
    ];
    inner.db().apply(batch).await.map_err(used)?;
    Ok(())
}

/// Takes the proof that an address is right.
pub(crate) async fn complete_address(inner: &Inner, secret: &str) -> Result<(), UseradmError> {
    let (hash, found) = find(inner, secret, ADDRESS).await?;
    let batch = vec![
        store::secret::use_up(&hash, ADDRESS),
        store::user::verify(&found.tenant, &found.user, &found.email),
    ];
    inner.db().apply(batch).await.map_err(used)?;
    Ok(())
}

/// Somebody was faster, or the user is gone or has another address.
fn used(error: DbError) -> UseradmError {
    match error {
        DbError::Conflict { .. } => UseradmError::Invalid(INVALID.to_owned()),
        other => other.into(),
    }
}

/// Lets the jobs find the service, without keeping it alive.
pub(crate) fn register(inner: &Arc<Inner>) {
    let handler = Arc::new(MailHandler(Arc::downgrade(inner)));
    inner.parts.jobs.handle(KIND, handler);
}

struct MailHandler(Weak<Inner>);

impl Handler for MailHandler {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            let inner = self
                .0
                .upgrade()
                .ok_or_else(|| JobError::retry(job, "the service is stopping"))?;
            send(&inner, job).await
        })
    }
}

async fn send(inner: &Inner, job: &Job) -> Result<(), JobError> {
    let field = |name: &str| job.payload[name].as_str().unwrap_or_default();
    let purpose = Purpose::parse(field("purpose"))
        .ok_or_else(|| JobError::failed("a mail of an unknown purpose"))?;
    let retry = |error: UseradmError| JobError::retry(job, error);
    let Some(public_url) = inner
        .settings
        .public_url
        .as_deref()
        .filter(|_| possible(inner))
    else {
        return Err(JobError::failed(why_not(inner)));
    };
    let Some(stored) = store::user::by_email(inner.db(), field("email"))
        .await
        .map_err(|e| retry(e.into()))?
    else {
        return Ok(());
    };
    let home = TenantId::new(stored.tenant.as_str());
    let facts = inner.parts.tenants.facts(&home).await;
    if facts.map_err(|e| retry(e.into()))?.is_none() {
        return Ok(());
    }
    let (tenant, user) = (stored.tenant.as_str(), stored.user.id.as_str());
    let now_ms = inner.now_ms();
    let last = store::secret::sent_ms(inner.db(), tenant, user, purpose.secret())
        .await
        .map_err(|e| retry(e.into()))?;
    if last.is_some_and(|at| now_ms.saturating_sub(at) < PAUSE_MS) {
        return Ok(());
    }
    let secret = new_id().to_string();
    let keep = store::secret::put(
        tenant,
        user,
        purpose.secret(),
        &hash(&secret),
        &stored.user.email,
        now_ms.saturating_add(purpose.lifetime_ms()),
    );
    inner
        .db()
        .apply(vec![keep])
        .await
        .map_err(|e| retry(e.into()))?;
    let mail = purpose.mail(&stored.user.email, public_url, &secret);
    match inner.parts.mailer.send(mail).await {
        Ok(()) => {}
        Err(error) if error.is_temporary() => return Err(JobError::retry(job, error)),
        Err(error) => return Err(JobError::failed(error)),
    }
    let sent = store::secret::mark_sent(tenant, user, purpose.secret(), now_ms);
    inner
        .db()
        .apply(vec![sent])
        .await
        .map_err(|e| retry(e.into()))?;
    Ok(())
}
