//! `bootstrap`: make the key, log in once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{api::Link, config::Config, identity::DeviceKey};

/// How long the device waits to be accepted (reference agent, section 1).
const WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(3);

pub(super) async fn run(config: Arc<Config>, force: bool) -> Result<u8, String> {
    if force {
        DeviceKey::create(&config).map_err(|error| error.to_string())?;
    }
    let link = Link::new(Arc::clone(&config));
    link.ensure_key().map_err(|error| error.to_string())?;
    if config.servers.is_empty() {
        super::print(
            "The device key is ready. No server is configured, so the device was not announced.\n",
        );
        return Ok(0);
    }
    let deadline = Instant::now() + WAIT;
    loop {
        let error = match link.authorize().await {
            Ok(()) => {
                super::print("The server has accepted this device.\n");
                return Ok(0);
            }
            Err(error) => error,
        };
        if Instant::now() + PAUSE > deadline {
            return Err(error.to_string());
        }
        log::info!(
            "{error}; trying for another {} s",
            (deadline - Instant::now()).as_secs()
        );
        tokio::time::sleep(PAUSE).await;
    }
}
