//! A whole fleet in the embedded database: what each call of a device costs when a million of them are known.
//!
//! The devices that call are enrolled through the public API. The rest is copied from them row by row while
//! the server is stopped, because enrolling a million devices would take a quarter of an hour; the copies
//! differ in identity and ids, as real devices would.

mod seed;
mod swarm;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::enrol::{self, Member};
use crate::server::Server;
use swarm::{Figures, Load, Request};

/// What the command line asks for.
pub struct Options {
    pub server_bin: PathBuf,
    pub devices: usize,
    /// Of them, those that call.
    pub active: usize,
    pub connections: usize,
    pub seconds: u64,
}

const JSON: &str = "Content-Type: application/json\r\n";
const ARTIFACT: &str = "fleet-2";
const TYPE: &str = "qemux86-64";
/// How long polls are watched while a deployment to everybody is made.
const CREATION_SECONDS: u64 = 20;

pub async fn run(options: &Options) -> anyhow::Result<Value> {
    let mut server = Server::start(&options.server_bin).await?;
    let members = enrol::members(&server, options.active, options.connections.min(32)).await?;
    eprintln!("{} devices enrolled", members.len());
    server.settle().await?;
    server.stop().await?;
    let seeded = Instant::now();
    let rest = options.devices.saturating_sub(options.active);
    seed::copy_devices(&server.database(), rest)?;
    eprintln!(
        "{rest} devices copied in {:.0} s",
        seeded.elapsed().as_secs_f64()
    );
    let start_ms = server.start_again().await?.as_millis();
    eprintln!("the server answers after {start_ms} ms");

    let load = |rate: u64, seconds: u64| Load {
        connections: options.connections,
        seconds,
        rate,
    };
    let mut rows = Vec::new();
    let full = swarm::drive(&server, &members, &load(0, options.seconds), poll).await?;
    let half = (full.per_second / 2.0) as u64;
    rows.push(row("idle polls, as many as possible", &full));
    let figures = swarm::drive(&server, &members, &load(half, options.seconds), poll).await?;
    rows.push(row("idle polls, half of that", &figures));
    let figures = swarm::drive(&server, &members, &load(0, options.seconds), inventory).await?;
    rows.push(row("inventory updates", &figures));
    let figures = swarm::drive(&server, &members, &load(0, options.seconds), authenticate).await?;
    rows.push(row("auth requests", &figures));
    let idle_rss = server.rss_mib()?;

    let mut connection = Connection::open(&server.address).await?;
    upload(&server, &mut connection).await?;
    let created = create(
        &server,
        &mut connection,
        &json!({
            "name": "to the callers", "artifact_name": ARTIFACT,
            "devices": members.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(),
        }),
    )
    .await?;
    swarm::once(&server, &members, options.connections, &|member, _| {
        take(member)
    })
    .await?;
    let report = move |member: &Member, number: u64| status(member, &created, number);
    let figures = swarm::drive(&server, &members, &load(0, options.seconds), report).await?;
    rows.push(row("status reports", &figures));

    let (figures, took) = creation(&server, &members, half.min(4000), options).await?;
    rows.push(row("polls beside a deployment to everybody", &figures));
    Ok(json!({
        "measurement": "fleet",
        "devices": options.devices,
        "active": options.active,
        "connections": options.connections,
        "start_ms": u64::try_from(start_ms).unwrap_or(u64::MAX),
        "rss_mib_after_polls": idle_rss,
        "rss_mib_at_the_end": server.rss_mib()?,
        "creation_s": took.as_secs_f64(),
        "rows": rows,
    }))
}

/// Polls while a deployment to all devices is created; also how long its creation took.
async fn creation(
    server: &Server,
    members: &[Member],
    rate: u64,
    options: &Options,
) -> anyhow::Result<(Figures, Duration)> {
    let load = Load {
        connections: options.connections,
        seconds: CREATION_SECONDS,
        rate,
    };
    let mut connection = Connection::open(&server.address).await?;
    let create = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started = Instant::now();
        create(
            server,
            &mut connection,
            &json!({
                "name": "to everybody", "artifact_name": ARTIFACT, "all_devices": true,
            }),
        )
        .await?;
        anyhow::Ok(started.elapsed())
    };
    let (figures, took) = tokio::join!(swarm::drive(server, members, &load, poll_any), create);
    Ok((figures?, took?))
}

fn row(name: &str, figures: &Figures) -> Value {
    eprintln!(
        "{name}: {:.0} a second, p99 {:.1} ms",
        figures.per_second, figures.p99_ms
    );
    json!({
        "calls": name,
        "per_second": figures.per_second.round(),
        "p50_ms": figures.p50_ms,
        "p99_ms": figures.p99_ms,
        "max_ms": figures.max_ms,
        "server_cpu_us": figures.server_cpu_us,
    })
}

fn bearer(member: &Member) -> String {
    format!("Authorization: Bearer {}\r\n{JSON}", member.token)
}

const NEXT: &str = "/api/devices/v2/deployments/device/deployments/next";

fn next(member: &Member, expected: &'static [u16]) -> Request {
    Request {
        method: "POST",
        path: NEXT.to_owned(),
        headers: bearer(member),
        body: format!(
            r#"{{"device_provides":{{"artifact_name":"release-1","device_type":"{TYPE}"}}}}"#
        )
        .into_bytes(),
        expected,
    }
}

fn poll(member: &Member, _: u64) -> Request {
    next(member, &[204])
}

fn poll_any(member: &Member, _: u64) -> Request {
    next(member, &[200, 204])
}

fn take(member: &Member) -> Request {
    next(member, &[200])
}

fn inventory(member: &Member, number: u64) -> Request {
    Request {
        method: "PATCH",
        path: "/api/devices/v1/inventory/device/attributes".to_owned(),
        headers: bearer(member),
        body: format!(
            r#"[{{"name":"device_type","value":"{TYPE}"}},{{"name":"artifact_name","value":"release-1"}},{{"name":"uptime","value":{number}}},{{"name":"ipv4_eth0","value":"192.0.2.{}/24"}}]"#,
            number % 250
        )
        .into_bytes(),
        expected: &[200],
    }
}

fn authenticate(member: &Member, _: u64) -> Request {
    Request {
        method: "POST",
        path: "/api/devices/v1/authentication/auth_requests".to_owned(),
        headers: format!("X-MEN-Signature: {}\r\n{JSON}", member.signature),
        body: member.request.clone().into_bytes(),
        expected: &[200],
    }
}

fn status(member: &Member, deployment: &str, number: u64) -> Request {
    const WORDS: [&str; 3] = ["downloading", "installing", "rebooting"];
    let word = WORDS[(number % 3) as usize];
    Request {
        method: "PUT",
        path: format!("/api/devices/v1/deployments/device/deployments/{deployment}/status"),
        headers: bearer(member),
        body: format!(r#"{{"status":"{word}"}}"#).into_bytes(),
        expected: &[204],
    }
}

async fn upload(server: &Server, connection: &mut Connection) -> anyhow::Result<()> {
    let artifact = artifact()?;
    let mut body = Vec::new();
    body.extend_from_slice(
        b"--fleet\r\ncontent-disposition: form-data; name=\"artifact\"; filename=\"a\"\r\n\r\n",
    );
    body.extend_from_slice(&artifact);
    body.extend_from_slice(b"\r\n--fleet--\r\n");
    let headers = format!(
        "Authorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=fleet\r\n",
        server.user_token
    );
    let path = "/api/management/v1/deployments/artifacts";
    let answer = connection.call("POST", path, &headers, &body).await?;
    if answer.status != 201 {
        bail!("the upload was answered {}", answer.status);
    }
    Ok(())
}

fn artifact() -> anyhow::Result<Vec<u8>> {
    use ambidex_artifact::{ArtifactSpec, Payload, PayloadSource, write};
    let spec = ArtifactSpec::new(Payload::RootfsImage, ARTIFACT, vec![TYPE.to_owned()]);
    let source = PayloadSource::from_bytes("image", &[7; 4096]);
    let mut file = std::io::Cursor::new(Vec::new());
    write(&spec, &[source], None, &mut file, &mut |_| {}).context("writing an artifact")?;
    Ok(file.into_inner())
}

/// Creates a deployment and returns its id.
async fn create(
    server: &Server,
    connection: &mut Connection,
    body: &Value,
) -> anyhow::Result<String> {
    let headers = format!("Authorization: Bearer {}\r\n{JSON}", server.user_token);
    let path = "/api/management/v1/deployments/deployments";
    let body = body.to_string();
    let answer = connection
        .call("POST", path, &headers, body.as_bytes())
        .await?;
    if answer.status != 201 {
        bail!(
            "the deployment was answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
    let location = answer.location.context("the answer has no location")?;
    Ok(location.rsplit('/').next().unwrap_or_default().to_owned())
}
