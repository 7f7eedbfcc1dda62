//! Messages a second within an instance and between two that share a NATS server on this machine:
//! `cargo run --release -p ambidex-bus --example bus_throughput`.
#![expect(
    clippy::unwrap_used,
    reason = "a measurement that cannot be made may stop"
)]

use std::time::{Duration, Instant};

use ambidex_bus::{Bus, BusError};
use ambidex_harness::Nats;
use bytes::Bytes;

const LIMIT: Duration = Duration::from_secs(10);
const REQUESTS: usize = 5000;
/// The subscriber confirms after so many messages, so that the producer never runs away from it.
const WINDOW: usize = 1000;

#[tokio::main]
async fn main() {
    let bus = Bus::local();
    measure("one instance", &bus, &bus, 1_000_000).await;
    let dir = tempfile::tempdir().unwrap();
    match Nats::start(dir.path(), &[]).await.unwrap() {
        None => println!("no nats-server: only one instance measured"),
        Some(nats) => {
            let one = Bus::nats(&nats.url()).await.unwrap();
            let two = Bus::nats(&nats.url()).await.unwrap();
            measure("two instances, NATS", &one, &two, 200_000).await;
        }
    }
}

async fn measure(what: &str, from: &Bus, to: &Bus, count: usize) {
    for bytes in [128, 8192] {
        let seconds = stream(from, to, count, bytes).await;
        let rate = count as f64 / seconds;
        println!(
            "{what}: {rate:.0} messages/s of {bytes} bytes, {:.0} MiB/s",
            rate * bytes as f64 / f64::from(1 << 20)
        );
    }
    let mut times = requests(from, to).await;
    times.sort_unstable();
    println!(
        "{what}: request and answer p50 {:?}, p99 {:?}",
        times[REQUESTS / 2],
        times[REQUESTS * 99 / 100]
    );
}

async fn stream(from: &Bus, to: &Bus, count: usize, bytes: usize) -> f64 {
    let mut messages = to.subscribe("bench.stream").await.unwrap();
    let mut confirmed = from.subscribe("bench.confirmed").await.unwrap();
    let receiver = tokio::spawn({
        let to = to.clone();
        async move {
            for number in 1..=count {
                messages.next().await.unwrap();
                if number % WINDOW == 0 {
                    to.send("bench.confirmed", Bytes::new()).await.unwrap();
                }
            }
        }
    });
    let payload = Bytes::from(vec![7; bytes]);
    let started = Instant::now();
    for number in 1..=count {
        from.send("bench.stream", payload.clone()).await.unwrap();
        if number % WINDOW == 0 && number > WINDOW {
            confirmed.next().await.unwrap();
        }
    }
    receiver.await.unwrap();
    started.elapsed().as_secs_f64()
}

async fn requests(from: &Bus, to: &Bus) -> Vec<Duration> {
    let mut asked = to.subscribe("bench.ask").await.unwrap();
    let answerer = tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            message.respond(message.payload.clone()).await?;
        }
        Ok::<(), BusError>(())
    });
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let started = Instant::now();
        let question = Bytes::from_static(b"x");
        from.request("bench.ask", question, LIMIT).await.unwrap();
        times.push(started.elapsed());
    }
    answerer.abort();
    times
}
