//! Where requests are sent from.
//!
//! On the task that asks, mostly. Where the client certificate's key is in a token, TLS asks it for a signature in the middle
//! of a handshake and cannot wait: that blocks its thread for as long as the token takes. Then connections live on a thread
//! of their own, so that everything else of the agent goes on meanwhile.

use std::sync::OnceLock;

use reqwest::{RequestBuilder, Response};
use tokio::{
    runtime::{Builder, Handle},
    task::JoinHandle,
};

use crate::config::{KeySource, TlsConfig};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    /// Made when it is first needed; `None`: there is no need.
    thread: OnceLock<Option<Handle>>,
}

impl Dispatch {
    pub async fn send(
        &self,
        tls: &TlsConfig,
        request: RequestBuilder,
    ) -> reqwest::Result<Response> {
        let thread = self.thread.get_or_init(|| {
            let client = tls.client.as_ref()?;
            match client.key {
                KeySource::Token(_) => start(),
                KeySource::File(_) => None,
            }
        });
        match thread {
            None => request.send().await,
            Some(thread) => elsewhere(thread, request).await,
        }
    }
}

async fn elsewhere(thread: &Handle, request: RequestBuilder) -> reqwest::Result<Response> {
    let mut task = Abandoned(thread.spawn(request.send()));
    match (&mut task.0).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // only whoever waits here could have ended it
            Err(_) => std::future::pending().await,
        },
    }
}

/// A task that ends when nobody waits for it any more.
struct Abandoned(JoinHandle<reqwest::Result<Response>>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A thread that lives as long as the process. Without it the agent's own thread has to do.
fn start() -> Option<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| log::warn!("connections get no thread of their own: {error}"))
        .ok()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("connections".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(|error| log::warn!("connections get no thread of their own: {error}"))
        .ok()?;
    Some(handle)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[tokio::test]
    async fn an_exchange_on_the_other_thread_is_one_and_can_be_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .unwrap();
            let (mut silent, _) = listener.accept().unwrap();
            let _ = silent.read(&mut [0; 4096]).unwrap();
            // closed by whoever gave up
            silent.read_to_end(&mut Vec::new()).unwrap_or_default()
        });
        let thread = start().unwrap();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(
                crate::api::tls::client_config(&TlsConfig::default()).unwrap(),
            )
            .build()
            .unwrap();
        let answer = elsewhere(&thread, client.get(&url)).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "ok");
        let silent = elsewhere(&thread, client.get(&url));
        let limit = std::time::Duration::from_millis(300);
        assert!(tokio::time::timeout(limit, silent).await.is_err());
        server.join().unwrap();
    }
}
