//! Many connections that call with the tokens of many devices.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::connection::Connection;
use crate::enrol::Member;
use crate::server::Server;

/// One call.
pub struct Request {
    pub method: &'static str,
    pub path: String,
    /// Whole lines with their CRLF.
    pub headers: String,
    pub body: Vec<u8>,
    pub expected: &'static [u16],
}

/// How much.
pub struct Load {
    pub connections: usize,
    pub seconds: u64,
    /// Calls per second to offer; 0 is as many as the server takes.
    pub rate: u64,
}

/// What was measured; latencies are of single calls, in milliseconds.
pub struct Figures {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// CPU time of the server a call, in microseconds.
    pub server_cpu_us: f64,
}

/// Calls until the time is over, each call for another device.
pub async fn drive<F>(
    server: &Server,
    members: &[Member],
    load: &Load,
    request: F,
) -> anyhow::Result<Figures>
where
    F: Fn(&Member, u64) -> Request + Clone + Send + 'static,
{
    let ticks = server.cpu_ticks()?;
    let started = Instant::now();
    let deadline = started + Duration::from_secs(load.seconds);
    // With a rate, every connection keeps its own timetable; latency counts from the due time, so that a
    // stalled server cannot hide behind a generator that waits with it.
    let gap = (load.rate > 0)
        .then(|| Duration::from_secs_f64(load.connections as f64 / load.rate as f64));
    let mut tasks = Vec::new();
    for share in shares(members, load.connections) {
        let (address, request) = (server.address.clone(), request.clone());
        tasks.push(tokio::spawn(call_until(
            address, share, deadline, gap, request,
        )));
    }
    let mut latencies_us: Vec<u32> = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let ticks = server.cpu_ticks()? - ticks;
    if latencies_us.is_empty() {
        bail!("no call was answered");
    }
    latencies_us.sort_unstable();
    let count = latencies_us.len() as f64;
    let at = |share: f64| f64::from(latencies_us[((count - 1.0) * share) as usize]) / 1000.0;
    Ok(Figures {
        per_second: count / elapsed,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
        server_cpu_us: (ticks as f64 * 10_000.0 / count).round(),
    })
}

/// One call for every device.
pub async fn once<F>(
    server: &Server,
    members: &[Member],
    connections: usize,
    request: &F,
) -> anyhow::Result<()>
where
    F: Fn(&Member, u64) -> Request + Clone + Send + 'static,
{
    let mut tasks = Vec::new();
    for share in shares(members, connections) {
        let (address, request) = (server.address.clone(), request.clone());
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            for member in &share {
                send(&mut connection, &request(member, 0)).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

fn shares(members: &[Member], connections: usize) -> Vec<Vec<Member>> {
    let mut shares = vec![Vec::new(); connections.min(members.len())];
    let count = shares.len();
    for (index, member) in members.iter().enumerate() {
        shares[index % count].push(member.clone());
    }
    shares
}

async fn call_until<F>(
    address: String,
    members: Vec<Member>,
    deadline: Instant,
    gap: Option<Duration>,
    request: F,
) -> anyhow::Result<Vec<u32>>
where
    F: Fn(&Member, u64) -> Request,
{
    let mut connection = Connection::open(&address).await?;
    let mut latencies = Vec::new();
    let mut due = Instant::now();
    let mut rounds = 0;
    loop {
        for member in &members {
            if Instant::now() >= deadline {
                return Ok(latencies);
            }
            match gap {
                Some(gap) => {
                    due += gap;
                    tokio::time::sleep_until(due.into()).await;
                }
                None => due = Instant::now(),
            }
            send(&mut connection, &request(member, rounds)).await?;
            latencies.push(due.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
        }
        rounds += 1;
    }
}

async fn send(connection: &mut Connection, request: &Request) -> anyhow::Result<()> {
    let answer = connection
        .call(
            request.method,
            &request.path,
            &request.headers,
            &request.body,
        )
        .await?;
    if !request.expected.contains(&answer.status) {
        bail!(
            "{} {} was answered {}: {}",
            request.method,
            request.path,
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
    Ok(())
}
