//! The one place that builds the HTTP client.
//!
//! HTTP/1.1, kept alive for a moment, a deadline on everything. Redirects are followed a few times,
//! never from https to http; the token stays with the host it was sent to.

use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::ClientConfig;

use super::{proxy, tls};
use crate::{VERSION, config::Config};

/// Long enough for the calls of one poll; before a longer wait the daemon closes it.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 5;

/// Builds the client, on the TLS side of an earlier one if there is one.
///
/// # Errors
/// Text that names the key or variable that is wrong, and the remedy.
pub(super) fn build(
    config: &Config,
    earlier: Option<ClientConfig>,
) -> Result<(Client, ClientConfig), String> {
    let tls = match earlier {
        Some(tls) => tls,
        None => tls::client_config(&config.tls)?,
    };
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(format!("Ambidex/{VERSION}"))
        .http1_only()
        .referer(false)
        .redirect(redirect::Policy::custom(follow))
        .connect_timeout(config.http.connect_timeout)
        .tcp_keepalive(TCP_KEEPALIVE)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE_CONNECTION)
        // the environment is read by our own rules
        .no_proxy();
    for proxy in proxy::from_environment(&|name| std::env::var(name).ok())? {
        builder = builder.proxy(proxy);
    }
    let client = builder
        .build()
        .map_err(|error| format!("the HTTP client cannot be set up: {error:?}"))?;
    Ok((client, tls))
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_secure = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        attempt.error("the server redirects from https to http, which is refused")
    } else if attempt.previous().len() > REDIRECTS_MAX {
        attempt.error("the server redirects too often")
    } else {
        attempt.follow()
    }
}
