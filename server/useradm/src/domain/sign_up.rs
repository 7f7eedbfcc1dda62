//! What the sign-up of a tenant needs of users: to know beforehand whether its first user can be, to
//! create that user again and again until it is there, and to undo it.

use ambidex_access::TenantId;

use super::{Email, NewUser, Secret, password};
use crate::{Useradm, UseradmError, store};

/// Whether a user could be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vetted {
    /// Yes.
    Fine {
        /// As it would be stored.
        email: String,
        /// The password's hash, if there was one.
        password_hash: Option<String>,
    },
    /// The address belongs to a user already.
    Taken,
}

impl Useradm {
    /// Checks address and password of a user to be, and hashes the password. Stores nothing.
    ///
    /// # Errors
    /// [`UseradmError::Invalid`] and [`UseradmError::Unprocessable`] for a bad address or password.
    pub async fn vet_user(&self, email: &str, clear: Option<&str>) -> Result<Vetted, UseradmError> {
        let email = Email::parse(email)?;
        if let Some(clear) = clear {
            password::check(clear, &email)?;
        }
        let known = store::user::by_email(self.0.db(), email.as_str()).await?;
        if known.is_some() {
            return Ok(Vetted::Taken);
        }
        let password_hash = match clear {
            Some(clear) => Some(self.0.passwords.hash(clear.to_owned()).await?),
            None => None,
        };
        Ok(Vetted::Fine {
            email: email.as_str().to_owned(),
            password_hash,
        })
    }

    /// Creates the user with this id unless it is there already. Tenant administration knows of it.
    /// `false`: the address belongs to another user.
    ///
    /// # Errors
    /// As [`Useradm::create_user`].
    pub async fn ensure_user(
        &self,
        tenant: &TenantId,
        id: &str,
        email: &str,
        password_hash: Option<String>,
        login: Option<serde_json::Map<String, serde_json::Value>>,
    ) -> Result<bool, UseradmError> {
        let new = NewUser {
            id: Some(id.to_owned()),
            login,
            secret: password_hash.map_or(Secret::None, Secret::Hash),
            propagate: false,
            ..NewUser::with_password(email, "")
        };
        match self.create_user(tenant, new).await {
            Ok(_) => Ok(true),
            Err(UseradmError::Unprocessable(text)) => {
                let own = store::user::by_id(self.0.db(), tenant.as_str(), id).await?;
                if own.is_none() {
                    tracing::info!(%tenant, user = id, "a user cannot be created: {text}");
                }
                Ok(own.is_some())
            }
            Err(other) => Err(other),
        }
    }

    /// Removes every user of a tenant. Tenant administration knows of it.
    ///
    /// # Errors
    /// [`UseradmError::Db`].
    pub async fn remove_users(&self, tenant: &TenantId) -> Result<(), UseradmError> {
        let mut batch = vec![store::token::delete_all(tenant.as_str(), None)];
        for user in self.users(tenant).await? {
            batch.extend(super::user::removal(tenant, &user.id));
        }
        self.0.db().apply(batch).await?;
        Ok(())
    }
}
