//! `ambidex-server serve`: from the data directory to a graceful stop.

use std::net::SocketAddr;
use std::time::Duration;

use ambidex_bus::Bus;
use ambidex_kit::{Limits, Shutdown, Tls, serve as serve_listener, stop_signal};
use anyhow::Context as _;
use tokio::task::{JoinHandle, JoinSet};

use crate::address;
use crate::config::Serve;
use crate::data_dir::{self, ListenFile};
use crate::hints::Hints;
use crate::services::{Options, Services};

/// File descriptors kept for the database, artifacts and logs.
const DESCRIPTORS_RESERVED: usize = 256;
/// Before background work that failed is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Connections of neighbours and operators' tools to the internal listener.
const INTERNAL_CONNECTIONS: usize = 256;

pub(crate) async fn run(config: Serve) -> anyhow::Result<()> {
    // Listening for the signal from the beginning: a stop during the start is a stop, not a crash.
    let mut signal = tokio::spawn(stop_signal());
    let tls = config
        .tls
        .as_ref()
        .map(|(cert, key)| Tls::from_files(cert, key))
        .transpose()?;
    data_dir::prepare(&config.store.data_dir)?;
    let _lock = data_dir::lock(&config.store.data_dir)?;
    ListenFile::clear(&config.store.data_dir)?;
    let public = address::bind("--listen", config.listen).await?;
    let internal = address::bind("--internal-listen", config.internal_listen).await?;
    let bus = match &config.nats {
        Some(url) => Bus::nats(&url.0).await.context("--nats-url")?,
        None => Bus::local(),
    };
    let services = Services::open(
        &config.store,
        Options {
            public_url: config.public_url.clone(),
            multi_tenant: config.multi_tenant,
            bus,
            tenancy: config.tenancy.clone(),
            mailer: config.mailer.clone(),
            workflow_binaries: config.workflow_binaries.clone(),
        },
    )
    .await?;
    services.connect()?;
    services
        .recover()
        .await
        .context("recovering after the last stop")?;

    let (public_at, internal_at) = (public.local_addr()?, internal.local_addr()?);
    greet(&config, public_at, internal_at, &services).await?;
    let listen_file = ListenFile::write(&config.store.data_dir, public_at, internal_at)?;

    let shutdown = Shutdown::new();
    let (connections, upgraded) = connections_max();
    let limits = Limits {
        connections,
        upgraded,
        ..Limits::default()
    };
    let internal_limits = Limits {
        connections: INTERNAL_CONNECTIONS.min(limits.connections),
        upgraded: 0,
        ..Limits::default()
    };
    let listeners = [
        tokio::spawn(serve_listener(
            public,
            services.public()?,
            tls,
            limits,
            shutdown.clone(),
        )),
        tokio::spawn(serve_listener(
            internal,
            services.internal()?,
            None,
            internal_limits,
            shutdown.clone(),
        )),
    ];
    let background = background(&services);

    let name = (&mut signal).await?.context("cannot listen for signals")?;
    tracing::info!("{name}: finishing requests in flight");
    drop(listen_file);
    shutdown.trigger();
    for listener in listeners {
        let cut = listener.await.context("a listener failed")?;
        if cut > 0 {
            tracing::warn!("{cut} connections were still busy and were cut off");
        }
    }
    for task in background {
        task.abort();
    }
    if let Err(error) = services.devauth.record_check_ins().await {
        tracing::warn!(%error, "the last check-in times were not recorded");
    }
    if let Err(error) = services.deviceconnect.leave().await {
        tracing::warn!(%error, "the end of the devices' connections was not recorded");
    }
    services.db.close().await.context("closing the database")?;
    tracing::info!("stopped");
    Ok(())
}

/// Work that goes on beside requests. Each of them may be dropped at any moment.
fn background(services: &Services) -> Vec<JoinHandle<()>> {
    let devauth = services.devauth.clone();
    let jobs = services.jobs.clone();
    let deployments = services.deployments.clone();
    let auditlogs = services.auditlogs.clone();
    let workflows = services.workflows.clone();
    let (blobs, clock) = (services.blobs.clone(), services.clock.clone());
    let hints = Hints::new(services.bus.clone(), services.jobs.clone());
    let deviceconnect = services.deviceconnect.clone();
    let tenantadm = services.tenantadm.clone();
    vec![
        keep_running("tenantadm", move || {
            let tenantadm = tenantadm.clone();
            async move { tenantadm.run().await }
        }),
        keep_running("devauth", move || {
            let devauth = devauth.clone();
            async move { devauth.run().await }
        }),
        keep_running("deployments", move || {
            let deployments = deployments.clone();
            async move { deployments.run().await }
        }),
        keep_running("jobs", move || {
            let jobs = jobs.clone();
            async move { jobs.run().await }
        }),
        keep_running("unfinished uploads", move || {
            Services::remove_unfinished_uploads(blobs.clone(), clock.clone())
        }),
        keep_running("job hints", move || {
            let hints = hints.clone();
            async move { hints.run().await }
        }),
        keep_running("auditlogs", move || {
            let auditlogs = auditlogs.clone();
            async move { auditlogs.run().await }
        }),
        keep_running("deviceconnect", move || {
            let deviceconnect = deviceconnect.clone();
            async move { deviceconnect.run().await }
        }),
        keep_running("workflows", move || {
            let workflows = workflows.clone();
            async move { workflows.run().await }
        }),
    ]
}

/// A task that panics is a mistake to be found in the log, not the end of its work.
fn keep_running<F>(name: &'static str, task: impl Fn() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            // Dropped together with this task, so that a stop reaches the work itself.
            let mut work = JoinSet::new();
            work.spawn(task());
            if let Some(Err(error)) = work.join_next().await {
                tracing::error!(%error, "background work of {name} failed and is started again");
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    })
}

async fn greet(
    config: &Serve,
    public: SocketAddr,
    internal: SocketAddr,
    services: &Services,
) -> anyhow::Result<()> {
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let url = config
        .public_url
        .clone()
        .unwrap_or_else(|| format!("{scheme}://{public}"));
    tracing::info!(
        "serving {url} (listening on {public}, internal API on {internal}, data in {})",
        config.store.data_dir.display()
    );
    if config.tls.is_none() && !public.ip().is_loopback() {
        tracing::warn!(
            "{public} speaks plain http: passwords and tokens can be read on the network; give --tls-cert and --tls-key, or put a TLS proxy in front and listen on a loopback address"
        );
    }
    if !internal.ip().is_loopback() {
        tracing::warn!(
            "the internal API on {internal} asks for no credentials: make sure that only this server's neighbours can reach it"
        );
    }
    if !services.useradm.any_user().await? {
        let data_dir = config.store.data_dir.display();
        tracing::info!(
            "there is no user yet; create one with: ambidex-server user create --data-dir {data_dir} --email you@example.com"
        );
    }
    Ok(())
}

/// As many as the process may open files for, less a reserve: requests, and websockets besides.
fn connections_max() -> (usize, usize) {
    let wanted = Limits::default();
    let limit = std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("Max open files"))?;
            line.split_whitespace().nth(3)?.parse::<usize>().ok()
        });
    let all = wanted.connections + wanted.upgraded + DESCRIPTORS_RESERVED;
    match limit {
        Some(files) if files < all => {
            let (connections, upgraded) = shares(files, &wanted);
            tracing::info!(
                "at most {connections} requests and {upgraded} remote sessions at the same time, because the process may open {files} files only; raise it with ulimit -n or LimitNOFILE= for more"
            );
            (connections, upgraded)
        }
        _ => (wanted.connections, wanted.upgraded),
    }
}

/// Half of the descriptors for requests, of which a transfer of an artifact holds two each, and the rest
/// for websockets, of which every device holds one.
fn shares(files: usize, wanted: &Limits) -> (usize, usize) {
    let free = files.saturating_sub(DESCRIPTORS_RESERVED);
    let connections = (free / 4).clamp(64, wanted.connections);
    let upgraded = free.saturating_sub(2 * connections);
    (connections, upgraded.clamp(64, wanted.upgraded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out() {
        let wanted = Limits::default();
        for (files, share) in [
            (100, (64, 64)),
            (1024, (192, 384)),
            (20_000, (4936, 9872)),
            (65_536, (16_320, 32_640)),
            (80_000, (16_384, 46_976)),
        ] {
            assert_eq!(shares(files, &wanted), share, "{files}");
        }
    }
}
