//! Quotas and bursts of a tenant's API (reference: tenants 5.1, api_limits).
//!
//! Owns the counting and the rules; what the limits of a tenant are is asked of whoever keeps tenants.
//!
//! A quota allows `max_calls` in each fixed window of `interval_sec`; a burst rule allows one call of
//! exactly this method and path in each window of `min_interval_sec`. A user or a device is counted, each
//! for itself, once its token was found good: what the handler answers does not matter. Every call counts
//! for the quota, also one that a burst rule refuses. Several instances of the server count each for
//! itself, so with n of them a caller that reaches all gets up to n times as much.

use std::sync::Arc;

use ambidex_kit::{ApiError, BoxFuture, Clock, Windows};
use http::Method;

use crate::{Denied, DeviceIdentity, TenantId, UserIdentity};

/// Limits of one kind of API; the default limits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// Calls in a window and its seconds; either 0: no limit.
    pub quota: (u64, u64),
    /// One call in each window.
    pub bursts: Vec<Burst>,
}

/// At most one call of a method and path in each window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burst {
    /// HTTP method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Seconds.
    pub interval_s: u64,
}

/// Limits of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Counted by user.
    pub management: CallLimits,
    /// Counted by device.
    pub devices: CallLimits,
}

impl TenantLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        let none = |limits: &CallLimits| {
            (limits.quota.0 == 0 || limits.quota.1 == 0) && limits.bursts.is_empty()
        };
        none(&self.management) && none(&self.devices)
    }
}

/// Knows the limits of tenants. Asked for every call, so it must not read a database each time.
pub trait LimitSource: Send + Sync {
    /// `None` when nothing is limited.
    fn limits<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Option<Arc<TenantLimits>>, Denied>>;
}

/// Counts calls against limits. Cheap to clone; clones share the counts. `server/main` puts it into the
/// requests of the internal listener, where gateways ask for verdicts about other requests.
#[derive(Clone)]
pub struct CallGate(Arc<Inner>);

struct Inner {
    source: Box<dyn LimitSource>,
    clock: Clock,
    windows: Windows,
}

#[derive(Hash)]
enum Rule<'a> {
    Quota,
    Burst(&'a str, &'a str),
}

#[derive(Clone, Copy, Hash)]
enum Caller<'a> {
    User(&'a str),
    Device(&'a str),
}

impl CallGate {
    /// Nothing counted yet.
    pub fn new(source: Box<dyn LimitSource>, clock: Clock) -> CallGate {
        CallGate(Arc::new(Inner {
            source,
            clock,
            windows: Windows::new(),
        }))
    }

    /// Counts a user's call.
    ///
    /// # Errors
    /// [`Denied::TooManyRequests`], or what the source failed with.
    pub async fn user(
        &self,
        user: &UserIdentity,
        method: &Method,
        path: &str,
    ) -> Result<(), Denied> {
        let Some(limits) = self.0.source.limits(&user.tenant).await? else {
            return Ok(());
        };
        let caller = Caller::User(&user.user_id);
        self.count(&limits.management, &user.tenant, caller, method, path)
    }

    /// Counts a device's call.
    ///
    /// # Errors
    /// As [`CallGate::user`].
    pub async fn device(
        &self,
        device: &DeviceIdentity,
        method: &Method,
        path: &str,
    ) -> Result<(), Denied> {
        let Some(limits) = self.0.source.limits(&device.tenant).await? else {
            return Ok(());
        };
        let caller = Caller::Device(&device.device_id);
        self.count(&limits.devices, &device.tenant, caller, method, path)
    }

    fn count(
        &self,
        limits: &CallLimits,
        tenant: &TenantId,
        caller: Caller<'_>,
        method: &Method,
        path: &str,
    ) -> Result<(), Denied> {
        let now_ms = self.0.clock.now_ms();
        let tenant = tenant.as_str();
        let count = |rule: Rule<'_>, max: u64, interval_s: u64| {
            self.0
                .windows
                .count(&(tenant, caller, rule), max, interval_s, now_ms)
                .map_err(|exceeded| Denied::TooManyRequests {
                    retry_after_s: exceeded.retry_after_s,
                })
        };
        let (max_calls, interval_s) = limits.quota;
        if max_calls > 0 {
            count(Rule::Quota, max_calls, interval_s)?;
        }
        for burst in &limits.bursts {
            if burst.path == path && method.as_str().eq_ignore_ascii_case(&burst.method) {
                count(Rule::Burst(&burst.method, &burst.path), 1, burst.interval_s)?;
            }
        }
        Ok(())
    }
}

impl From<Denied> for ApiError {
    /// Without the headers that name a way to authenticate.
    fn from(denied: Denied) -> ApiError {
        match denied {
            Denied::Unauthorized(text) => ApiError::unauthorized(text),
            Denied::Forbidden(text) => ApiError::forbidden(text),
            Denied::TooManyRequests { retry_after_s } => ApiError::slow_down(retry_after_s),
            Denied::Internal(cause) => ApiError::internal(cause),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    struct Fixed(Option<Arc<TenantLimits>>);

    impl LimitSource for Fixed {
        fn limits<'a>(
            &'a self,
            _: &'a TenantId,
        ) -> BoxFuture<'a, Result<Option<Arc<TenantLimits>>, Denied>> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    fn device(tenant: &str, id: &str) -> DeviceIdentity {
        DeviceIdentity {
            device_id: id.to_owned(),
            tenant: TenantId::new(tenant),
            jti: ambidex_kit::new_id(),
            plan: "os".to_owned(),
            addons: crate::OpenAddons::all(),
        }
    }

    const NEXT: &str = "/api/devices/v1/deployments/device/deployments/next";

    #[tokio::test]
    async fn quotas_and_bursts_are_counted_by_device() {
        let clock = Clock::manual(1_612_173_600_000);
        let limits = TenantLimits {
            management: CallLimits::default(),
            devices: CallLimits {
                quota: (3, 60),
                bursts: vec![Burst {
                    method: "POST".to_owned(),
                    path: NEXT.to_owned(),
                    interval_s: 10,
                }],
            },
        };
        let gate = CallGate::new(Box::new(Fixed(Some(Arc::new(limits)))), clock.clone());
        let call = async |id: &str, method: Method, path: &str| match gate
            .device(&device("t", id), &method, path)
            .await
        {
            Ok(()) => 0,
            Err(Denied::TooManyRequests { retry_after_s }) => retry_after_s,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(call("a", Method::POST, NEXT).await, 0);
        assert_eq!(call("a", Method::POST, NEXT).await, 10, "burst");
        assert_eq!(call("a", Method::GET, NEXT).await, 0, "another method");
        assert_eq!(call("a", Method::GET, "/x").await, 60, "quota");
        assert_eq!(call("b", Method::POST, NEXT).await, 0, "another device");
        clock.advance(60_000);
        assert_eq!(call("a", Method::POST, NEXT).await, 0);
        clock.advance(10_000);
        assert_eq!(call("a", Method::POST, NEXT).await, 0, "the next window");
    }

    #[tokio::test]
    async fn who_has_no_limits_is_not_counted() {
        let gate = CallGate::new(Box::new(Fixed(None)), Clock::manual(0));
        for _ in 0..5 {
            gate.device(&device("t", "a"), &Method::GET, "/x")
                .await
                .unwrap();
        }
        assert!(gate.0.windows.is_empty());
        assert!(TenantLimits::default().is_empty());
    }
}
