//! The extractors that handlers name to demand a device or a user.

use std::sync::Arc;

use ambidex_kit::{ApiError, BoxFuture, Clock, note_tenant};
use axum::extract::FromRequestParts;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;

use crate::{
    Authorization, Claims, DeviceIdentity, Grants, Identity, Keys, TokenError, UserIdentity,
    authorization,
};

/// Why a token with a good signature does not let its bearer in.
#[derive(Debug)]
pub enum Denied {
    /// 401: revoked, unknown, or its owner is no longer accepted.
    Unauthorized(String),
    /// 403: the owner may not do this.
    Forbidden(String),
    /// 429: too many calls.
    TooManyRequests {
        /// Seconds until the next call may succeed.
        retry_after_s: u64,
    },
    /// 500: the check itself failed.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

/// Whether a token still counts. Implemented by `server/main`, which asks the services that store tokens.
/// `request` is the request's head, for rules about paths and methods.
pub trait TokenCheck: Send + Sync {
    /// The token of a device: its record exists and its auth set is still accepted.
    fn device<'a>(
        &'a self,
        device: &'a DeviceIdentity,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<(), Denied>>;
    /// The token of a user: its record exists and the user's roles permit the request. The answer is what
    /// the roles leave of the fleet.
    fn user<'a>(
        &'a self,
        user: &'a UserIdentity,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Grants, Denied>>;
}

/// What the extractors need; `server/main` puts it into every request with
/// `router.layer(axum::Extension(access))`.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    keys: Arc<Keys>,
    clock: Clock,
    check: Arc<dyn TokenCheck>,
}

impl Access {
    /// Verifies with `keys` and `clock`, then asks `check`.
    pub fn new(keys: Arc<Keys>, clock: Clock, check: Arc<dyn TokenCheck>) -> Access {
        Access(Arc::new(Inner { keys, clock, check }))
    }

    /// Signature and time only.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn claims(&self, token: &str) -> Result<Claims, TokenError> {
        let claims = self.0.keys.verify(token)?;
        claims.check_time(self.0.clock.now_ms())?;
        Ok(claims)
    }
}

/// Demands a device. Put it first among a handler's arguments: who may not enter must not learn whether
/// the rest of the request was right.
#[derive(Debug, Clone)]
pub struct DeviceAuth(pub DeviceIdentity);

/// Demands a user. Put it first among a handler's arguments.
#[derive(Debug, Clone)]
pub struct UserAuth(pub UserIdentity);

impl<S: Sync> FromRequestParts<S> for DeviceAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<DeviceAuth, ApiError> {
        const REALM: &str = "Bearer realm=\"DeviceJWT\"";
        let access = access(parts)?;
        match identify(&access, parts, REALM)? {
            Identity::Device(device) => match access.0.check.device(&device, parts).await {
                Ok(()) => Ok(DeviceAuth(device)),
                Err(denied) => Err(answer(denied, REALM)),
            },
            Identity::User(_) => Err(unauthorized("unauthorized", REALM)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for UserAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<UserAuth, ApiError> {
        const REALM: &str = "Bearer realm=\"ManagementJWT\"";
        let access = access(parts)?;
        match identify(&access, parts, REALM)? {
            Identity::User(user) => match access.0.check.user(&user, parts).await {
                Ok(grants) => Ok(UserAuth(UserIdentity { grants, ..user })),
                Err(denied) => Err(answer(denied, REALM)),
            },
            Identity::Device(_) => Err(unauthorized("unauthorized", REALM)),
        }
    }
}

fn access(parts: &Parts) -> Result<Access, ApiError> {
    parts
        .extensions
        .get::<Access>()
        .cloned()
        .ok_or_else(|| ApiError::internal("the routes lack the Access extension"))
}

fn identify(access: &Access, parts: &Parts, realm: &'static str) -> Result<Identity, ApiError> {
    let token = match authorization(&parts.headers) {
        Authorization::Bearer(token) => token,
        Authorization::Missing => {
            return Err(unauthorized("Authorization not present in header", realm));
        }
        Authorization::Malformed => {
            return Err(unauthorized("malformed Authorization header", realm));
        }
        Authorization::OtherScheme(scheme) => {
            let text = format!("unknown Authorization method {scheme}");
            return Err(unauthorized(text, realm));
        }
    };
    match access.claims(token) {
        Ok(claims) => {
            let identity = claims
                .identity()
                .ok_or_else(|| unauthorized("unauthorized", realm))?;
            note_tenant(match &identity {
                Identity::Device(device) => device.tenant.as_str(),
                Identity::User(user) => user.tenant.as_str(),
            });
            Ok(identity)
        }
        Err(TokenError::Expired) => Err(unauthorized("token expired", realm)),
        Err(_) => Err(unauthorized("unauthorized", realm)),
    }
}

fn unauthorized(text: impl Into<String>, realm: &'static str) -> ApiError {
    ApiError::unauthorized(text).header(WWW_AUTHENTICATE, HeaderValue::from_static(realm))
}

fn answer(denied: Denied, realm: &'static str) -> ApiError {
    match denied {
        Denied::Unauthorized(text) => unauthorized(text, realm),
        other => other.into(),
    }
}
