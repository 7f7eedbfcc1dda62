//! What the server is told about tenants, and about calls that need no token.

use ambidex_kit::{AddressLimit, Clock, Network};
use ambidex_tenantadm::{Billing, RECAPTCHA_URL, Recaptcha, Settings};
use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use http::Method;

/// Options of `serve`; the configuration file has them under the same names.
#[derive(Default, Args)]
pub(crate) struct TenancyArgs {
    /// Let anybody create a tenant, on a server of several
    #[arg(long, env = "AMBIDEX_SELF_SIGN_UP")]
    pub(crate) self_sign_up: bool,
    /// Who takes money: nobody, or the operator outside of this server [default: none]
    #[arg(long, value_enum, value_name = "WHO", env = "AMBIDEX_BILLING")]
    pub(crate) billing: Option<BillingName>,
    /// Length of a trial [default: 30]
    #[arg(long, value_name = "DAYS", env = "AMBIDEX_TRIAL_DAYS")]
    pub(crate) trial_days: Option<u32>,
    /// From the cancellation of an account that is not on trial to its end [default: 30]
    #[arg(long, value_name = "DAYS", env = "AMBIDEX_NOTICE_DAYS")]
    pub(crate) notice_days: Option<u32>,
    /// Ask the reCAPTCHA service whether a person signs up
    #[arg(
        long,
        value_name = "SECRET",
        env = "AMBIDEX_RECAPTCHA_SECRET",
        hide_env_values = true
    )]
    pub(crate) recaptcha_secret: Option<String>,
    /// Where reCAPTCHA answers are checked
    #[arg(long, value_name = "URL", env = "AMBIDEX_RECAPTCHA_URL")]
    pub(crate) recaptcha_url: Option<String>,
    /// Who receives what tenants ask of the operator; needs --smtp-url
    #[arg(long, value_name = "EMAIL", env = "AMBIDEX_SUPPORT_EMAIL")]
    pub(crate) support_email: Option<String>,
    /// Tenant token of devices that bring none, on a server of several tenants
    #[arg(
        long,
        value_name = "TOKEN",
        env = "AMBIDEX_DEFAULT_TENANT_TOKEN",
        hide_env_values = true
    )]
    pub(crate) default_tenant_token: Option<String>,
    /// Calls without a token (logins, sign-ups, authentication of devices) a minute from one address
    /// [default: no limit]
    #[arg(long, value_name = "CALLS", env = "AMBIDEX_RATE_LIMIT_PER_ADDRESS")]
    pub(crate) rate_limit_per_address: Option<u64>,
    /// Proxy whose X-Forwarded-For is believed: an address or a range such as 10.0.0.0/8; may be repeated
    #[arg(
        long = "trusted-proxy",
        value_name = "NET",
        env = "AMBIDEX_TRUSTED_PROXY",
        value_delimiter = ','
    )]
    pub(crate) trusted_proxies: Vec<String>,
}

impl std::fmt::Debug for TenancyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TenancyArgs")
    }
}

/// Names of the ways to take money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BillingName {
    None,
    Manual,
}

/// What is to be done about it.
#[derive(Clone, Default)]
pub(crate) struct Tenancy {
    pub(crate) settings: Settings,
    pub(crate) default_tenant_token: Option<String>,
    address_limit: Option<(u64, Vec<Network>)>,
}

impl std::fmt::Debug for Tenancy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenancy")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Tenancy {
    /// The command line wins over the file.
    pub(crate) fn merge(
        args: TenancyArgs,
        file: TenancyArgs,
        multi_tenant: bool,
        mail: bool,
    ) -> anyhow::Result<Tenancy> {
        let self_sign_up = args.self_sign_up || file.self_sign_up;
        if self_sign_up && !multi_tenant {
            bail!(
                "--self-sign-up needs --multi-tenant: a server of one tenant has no place for more"
            );
        }
        let default_tenant_token = args.default_tenant_token.or(file.default_tenant_token);
        if default_tenant_token.is_some() && !multi_tenant {
            bail!(
                "--default-tenant-token needs --multi-tenant: a server of one tenant asks for no tenant token"
            );
        }
        let support_email = args.support_email.or(file.support_email);
        if support_email.is_some() && !mail {
            bail!("--support-email needs --smtp-url, the mail server");
        }
        let recaptcha_url = args.recaptcha_url.or(file.recaptcha_url);
        let recaptcha = match args.recaptcha_secret.or(file.recaptcha_secret) {
            Some(secret) => {
                let url = recaptcha_url.as_deref().unwrap_or(RECAPTCHA_URL);
                Some(Recaptcha::new(&secret, url).context("--recaptcha-secret")?)
            }
            None => None,
        };
        let proxies = match args.trusted_proxies.is_empty() {
            true => file.trusted_proxies,
            false => args.trusted_proxies,
        };
        let proxies = proxies
            .iter()
            .map(|text| {
                Network::parse(text)
                    .with_context(|| format!("--trusted-proxy {text}: not an address or a range"))
            })
            .collect::<anyhow::Result<_>>()?;
        let limit = args.rate_limit_per_address.or(file.rate_limit_per_address);
        let defaults = Settings::default();
        Ok(Tenancy {
            settings: Settings {
                multi_tenant,
                self_sign_up,
                billing: match args.billing.or(file.billing) {
                    Some(BillingName::Manual) => Billing::Manual,
                    Some(BillingName::None) | None => Billing::None,
                },
                trial_days: args
                    .trial_days
                    .or(file.trial_days)
                    .unwrap_or(defaults.trial_days),
                notice_days: args
                    .notice_days
                    .or(file.notice_days)
                    .unwrap_or(defaults.notice_days),
                recaptcha,
                support_email,
            },
            default_tenant_token,
            address_limit: limit
                .filter(|calls| *calls > 0)
                .map(|calls| (calls, proxies)),
        })
    }

    /// The limit on calls without a token, if one is wanted.
    pub(crate) fn address_limit(&self, clock: Clock) -> Option<AddressLimit> {
        let (calls, proxies) = self.address_limit.clone()?;
        Some(AddressLimit::new(calls, proxies, needs_no_token, clock))
    }
}

/// Routes that anybody may call.
fn needs_no_token(method: &Method, path: &str) -> bool {
    if method == Method::OPTIONS {
        return false;
    }
    let Some(rest) = path.strip_prefix("/api/") else {
        return false;
    };
    rest.starts_with("devices/v1/authentication/")
        || rest
            .strip_prefix("management/")
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(_, rest)| {
                rest == "useradm/auth/login"
                    || rest.starts_with("useradm/auth/password-reset/")
                    || rest.starts_with("useradm/auth/verify-email/")
                    || rest.starts_with("useradm/oauth2/")
                    || rest.starts_with("tenantadm/tenants")
            })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn merged(args: TenancyArgs, multi_tenant: bool) -> anyhow::Result<Tenancy> {
        Tenancy::merge(args, TenancyArgs::default(), multi_tenant, false)
    }

    #[test]
    fn what_does_not_go_together_is_refused_without_secrets() {
        let with = |change: fn(&mut TenancyArgs)| {
            let mut args = TenancyArgs::default();
            change(&mut args);
            args
        };
        for (args, multi_tenant) in [
            (with(|a| a.self_sign_up = true), false),
            (
                with(|a| a.default_tenant_token = Some("secret".to_owned())),
                false,
            ),
            (
                with(|a| a.support_email = Some("ops@example.com".to_owned())),
                true,
            ),
            (
                with(|a| a.trusted_proxies = vec!["10.0.0.0/99".to_owned()]),
                true,
            ),
        ] {
            let error = merged(args, multi_tenant).unwrap_err().to_string();
            assert!(
                error.starts_with("--") && !error.contains("secret"),
                "{error}"
            );
        }
        let tenancy = merged(with(|a| a.self_sign_up = true), true).unwrap();
        assert!(tenancy.settings.self_sign_up && tenancy.settings.trial_days == 30);
        assert!(tenancy.address_limit(Clock::manual(0)).is_none());
    }

    #[test]
    fn routes_without_a_token_are_known() {
        for (path, counted) in [
            ("/api/devices/v1/authentication/auth_requests", true),
            ("/api/management/v1/useradm/auth/login", true),
            ("/api/management/v1/useradm/auth/password-reset/start", true),
            ("/api/management/v2/tenantadm/tenants/trial", true),
            ("/api/management/v1/tenantadm/tenants", true),
            ("/api/management/v1/useradm/users", false),
            ("/api/devices/v1/deployments/device/deployments/next", false),
            ("/ui/", false),
        ] {
            assert_eq!(needs_no_token(&Method::POST, path), counted, "{path}");
        }
        assert!(!needs_no_token(
            &Method::OPTIONS,
            "/api/management/v1/useradm/auth/login"
        ));
    }
}
