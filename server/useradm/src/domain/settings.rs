//! Settings of tenants and users. User interfaces keep things there that this server does not know: they are
//! stored as they came.

use ambidex_access::UserIdentity;
use ambidex_db::DbError;
use ambidex_kit::new_id;
use serde_json::{Map, Value};

use super::two_factor;
use crate::store::settings::Owner;
use crate::{Inner, UseradmError, store};

/// Limits of the newer reference (user administration 4.1).
const KEYS_MAX: usize = 1024;
const KEY_CHARS_MAX: usize = 128;
const TEXT_CHARS_MAX: usize = 4096;

/// Whose settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Tenant,
    Own,
}

impl Whose {
    fn owner(self, caller: &UserIdentity) -> Owner<'_> {
        Owner {
            tenant: caller.tenant.as_str(),
            user: (self == Whose::Own).then_some(caller.user_id.as_str()),
        }
    }
}

/// The settings and their entity tag; none were saved: an empty object without one.
pub(crate) async fn get(
    inner: &Inner,
    caller: &UserIdentity,
    whose: Whose,
) -> Result<(String, Option<String>), UseradmError> {
    let found = store::settings::get(inner.db(), whose.owner(caller)).await?;
    Ok(match found {
        Some((text, etag)) => (text, Some(etag).filter(|etag| !etag.is_empty())),
        None => ("{}".to_owned(), None),
    })
}

/// Replaces the settings. `seen` is the entity tag of those that the caller has read.
///
/// # Errors
/// [`UseradmError::Changed`] if they are others by now.
pub(crate) async fn put(
    inner: &Inner,
    caller: &UserIdentity,
    whose: Whose,
    body: &[u8],
    seen: Option<&str>,
) -> Result<(), UseradmError> {
    let refused = || UseradmError::Invalid("cannot parse request body as json".to_owned());
    let parsed: Map<String, Value> = serde_json::from_slice(body).map_err(|_| refused())?;
    let text = std::str::from_utf8(body).map_err(|_| refused())?;
    check(&parsed)?;
    let etag = new_id().to_string();
    let mut batch = vec![store::settings::put(whose.owner(caller), text, &etag, seen)];
    if whose == Whose::Tenant {
        let word = |key: &str| parsed.get(key).and_then(Value::as_str);
        let own = word(&format!("{}_2fa", caller.user_id)).map(str::to_owned);
        let general = word("2fa");
        batch.extend(two_factor::by_settings(inner, caller, general, own.as_deref()).await?);
    }
    match inner.db().apply(batch).await {
        Ok(_) => Ok(()),
        Err(DbError::Conflict { index: 0 }) => Err(UseradmError::Changed),
        Err(other) => Err(other.into()),
    }
}

fn check(settings: &Map<String, Value>) -> Result<(), UseradmError> {
    let invalid = |text: String| Err(UseradmError::Invalid(text));
    if settings.len() > KEYS_MAX {
        return invalid(format!("settings: there can be at most {KEYS_MAX} keys."));
    }
    for (key, value) in settings {
        if key.chars().count() > KEY_CHARS_MAX {
            return invalid(format!(
                "settings: a key can have at most {KEY_CHARS_MAX} characters."
            ));
        }
        if value
            .as_str()
            .is_some_and(|text| text.chars().count() > TEXT_CHARS_MAX)
        {
            return invalid(format!(
                "{key}: the length must be no more than {TEXT_CHARS_MAX}."
            ));
        }
    }
    Ok(())
}
