//! Device sockets: what an idle one costs, and what the server adds to a keystroke.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ambidex_wire::session::{Message, PROTO_SHELL, shell};
use anyhow::{Context, bail};
use tokio::task::{JoinHandle, JoinSet};

use crate::server::Server;
use crate::{enrol, socket::Socket};

const CONNECT: &str = "/api/devices/v1/deviceconnect/connect";
/// Handshakes at the same time.
const AT_ONCE: usize = 64;
/// After the last connection, until memory is read: what the handshakes have left behind is freed.
const SETTLE: Duration = Duration::from_secs(10);
/// Keystrokes before the measured ones.
const WARM_UP: usize = 200;

/// What the command line asks for.
pub struct Options {
    pub server_bin: PathBuf,
    /// Devices that stay connected.
    pub devices: usize,
    /// Keystrokes to measure.
    pub keystrokes: usize,
}

/// Lets this process and the server it starts have many open files, as far as the system allows.
pub fn raise_limits(sockets: usize) -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // the server keeps half of its files for requests
    let wanted = 2 * sockets as u64 + 1000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).with_context(|| {
        format!("this process may open {soft} files; {wanted} are needed (hard limit {hard})")
    })
}

/// Connects the devices and keeps them alive in the background.
async fn connect(
    server: &Server,
    tokens: Vec<String>,
    alive: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut opening = JoinSet::new();
    for (number, token) in tokens.into_iter().enumerate() {
        if opening.len() >= AT_ONCE {
            let socket = opening.join_next().await.context("a handshake")??;
            keep(alive, socket?);
        }
        let address = server.address.clone();
        opening.spawn(async move { Socket::open(&address, CONNECT, &token, number).await });
    }
    while let Some(socket) = opening.join_next().await {
        keep(alive, socket??);
    }
    Ok(started.elapsed().as_secs_f64())
}

fn keep(alive: &mut JoinSet<anyhow::Result<()>>, mut socket: Socket) {
    alive.spawn(async move {
        loop {
            socket.next().await?;
        }
    });
}

/// A device's connection may end while others are measured; that is a failure of the measurement.
fn all_alive(alive: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match alive.try_join_next() {
        None => Ok(()),
        Some(ended) => ended?.context("a device lost its connection"),
    }
}

/// Memory of idle sockets.
pub async fn idle_sockets(options: &Options) -> anyhow::Result<serde_json::Value> {
    raise_limits(options.devices)?;
    let server = Server::start(&options.server_bin).await?;
    let tokens = enrol::enrol(&server, options.devices, 32).await?;
    eprintln!("{} devices enrolled", tokens.len());
    server.settle().await?;
    let before_kib = server.rss_kib()?;
    let mut alive = JoinSet::new();
    let seconds = connect(&server, tokens, &mut alive).await?;
    eprintln!("{} devices connected in {seconds:.1} s", options.devices);
    tokio::time::sleep(SETTLE).await;
    all_alive(&mut alive)?;
    let after_kib = server.rss_kib()?;
    // Through two rounds of pings.
    let ticks = server.cpu_ticks()?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    all_alive(&mut alive)?;
    let cpu_s = (server.cpu_ticks()? - ticks) as f64 / 100.0;
    let later_kib = server.rss_kib()?;
    let each = |kib: u64| kib.saturating_sub(before_kib) as f64 / options.devices as f64;
    Ok(serde_json::json!({
        "measurement": "idle-sockets",
        "devices": options.devices,
        "connected_per_second": (options.devices as f64 / seconds).round(),
        "server_rss_mib_before": before_kib / 1024,
        "server_rss_mib_connected": after_kib / 1024,
        "kib_per_socket": (each(after_kib) * 100.0).round() / 100.0,
        "kib_per_socket_after_a_minute": (each(later_kib) * 100.0).round() / 100.0,
        "server_cpu_percent_idle": (cpu_s / 60.0 * 1000.0).round() / 10.0,
    }))
}

/// A keystroke's way to a device and back, with others connected.
pub async fn echo(options: &Options) -> anyhow::Result<serde_json::Value> {
    raise_limits(options.devices)?;
    let server = Server::start(&options.server_bin).await?;
    let mut tokens = enrol::enrol(&server, options.devices.max(1), 32).await?;
    let token = tokens.pop().context("no device")?;
    let mut alive = JoinSet::new();
    connect(&server, tokens, &mut alive).await?;
    let mut device = Socket::open(&server.address, CONNECT, &token, 0).await?;
    let id = device_id(&token)?;
    let path = format!("/api/management/v1/deviceconnect/devices/{id}/connect");
    let mut user = None;
    for _ in 0..500 {
        match Socket::open(&server.address, &path, &server.user_token, 0).await {
            Ok(socket) => {
                user = Some(socket);
                break;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    let mut user = user.context("the device cannot be reached")?;
    let answering: JoinHandle<anyhow::Result<()>> = tokio::spawn(async move {
        loop {
            let message = Message::decode(&device.next().await?)?;
            let answer = match message.typ.as_str() {
                shell::NEW | shell::SHELL => shell::message(
                    &message.typ,
                    &message.sid,
                    shell::STATUS_NORMAL,
                    &message.body,
                ),
                _ => continue,
            };
            device.send(&answer.encode()).await?;
        }
    });
    user.send(&Message::new(PROTO_SHELL, shell::NEW, "").encode())
        .await?;
    user.next().await?;
    let key = Message::new(PROTO_SHELL, shell::SHELL, "")
        .body("x")
        .encode();
    let mut micros = Vec::with_capacity(options.keystrokes);
    for number in 0..options.keystrokes + WARM_UP {
        let started = Instant::now();
        user.send(&key).await?;
        let echo = Message::decode(&user.next().await?)?;
        if echo.body != b"x" {
            bail!("no echo but {echo:?}");
        }
        if number >= WARM_UP {
            micros.push(started.elapsed().as_micros() as u64);
        }
        // People do not type without a pause; the output limit of a session is far away.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answering.abort();
    all_alive(&mut alive)?;
    micros.sort_unstable();
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    Ok(serde_json::json!({
        "measurement": "echo",
        "devices": options.devices,
        "keystrokes": micros.len(),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }))
}

/// The subject of a token.
fn device_id(token: &str) -> anyhow::Result<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = token.split('.').nth(1).context("no token")?;
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    Ok(claims["sub"].as_str().context("no subject")?.to_owned())
}
