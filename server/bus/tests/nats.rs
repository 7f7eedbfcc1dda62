//! Instances that share a real NATS server.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::path::Path;
use std::time::Duration;

use ambidex_bus::{Bus, BusError};
use ambidex_harness::{Nats, wait_for};
use bytes::Bytes;

const SOON: Duration = Duration::from_secs(20);

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn next(subscription: &mut ambidex_bus::Subscription) -> Bytes {
    tokio::time::timeout(SOON, subscription.next())
        .await
        .expect("a message must arrive")
        .unwrap()
        .payload
}

async fn works_again(bus: &Bus) {
    wait_for("the connection to NATS", SOON, async || {
        Ok(bus.ping().await.ok())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn messages_reach_all_instances_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some(nats) = Nats::start(dir.path(), &[]).await.unwrap() else {
        return;
    };
    let (one, two) = (
        Bus::nats(&nats.url()).await.unwrap(),
        Bus::nats(&nats.url()).await.unwrap(),
    );
    let stranger = Bus::nats(&format!("{}?prefix=other", nats.url()))
        .await
        .unwrap();
    assert!(one.is_shared());
    let mut here = one.subscribe("a").await.unwrap();
    let mut there = two.subscribe("a").await.unwrap();
    let mut elsewhere = stranger.subscribe("a").await.unwrap();
    let publisher = tokio::spawn({
        let one = one.clone();
        async move {
            for n in 0..500u32 {
                let payload = Bytes::copy_from_slice(&n.to_be_bytes());
                one.publish("a", payload).await.unwrap();
            }
        }
    });
    stranger.publish("a", text("theirs")).await.unwrap();
    for n in 0..500u32 {
        assert_eq!(next(&mut here).await[..], n.to_be_bytes());
        assert_eq!(next(&mut there).await[..], n.to_be_bytes());
    }
    publisher.await.unwrap();
    assert_eq!(next(&mut elsewhere).await, text("theirs"));

    // To one receiver: the one here, if there is one.
    one.send("a", text("near")).await.unwrap();
    assert_eq!(next(&mut here).await, text("near"));
    drop(here);
    one.send("a", text("far")).await.unwrap();
    assert_eq!(next(&mut there).await, text("far"), "nothing arrived twice");
}

#[tokio::test]
async fn a_subscription_stands_when_it_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(nats) = Nats::start(dir.path(), &[]).await.unwrap() else {
        return;
    };
    let (one, two) = (
        Bus::nats(&nats.url()).await.unwrap(),
        Bus::nats(&nats.url()).await.unwrap(),
    );
    for n in 0..300 {
        let subject = format!("s.{n}");
        let mut subscription = one.subscribe(&subject).await.unwrap();
        two.publish(&subject, text("x")).await.unwrap();
        assert_eq!(next(&mut subscription).await, text("x"), "{n}");
    }
}

#[tokio::test]
async fn requests_cross_instances() {
    let dir = tempfile::tempdir().unwrap();
    let Some(nats) = Nats::start(dir.path(), &[]).await.unwrap() else {
        return;
    };
    let (one, two) = (
        Bus::nats(&nats.url()).await.unwrap(),
        Bus::nats(&nats.url()).await.unwrap(),
    );
    let ask = || one.request("ask", text("abc"), SOON);
    let started = std::time::Instant::now();
    assert_eq!(ask().await, Err(BusError::NoResponders("ask".to_owned())));
    assert!(started.elapsed() < SOON / 2, "it is known at once");
    let mut subscription = two.subscribe("ask").await.unwrap();
    let answerer = tokio::spawn(async move {
        while let Some(message) = subscription.next().await {
            let mut answer = message.payload.to_vec();
            answer.reverse();
            message.respond(Bytes::from(answer)).await.unwrap();
        }
    });
    assert_eq!(ask().await, Ok(text("cba")));
    assert_eq!(
        two.request("ask", text("ab"), SOON).await,
        Ok(text("ba")),
        "from next door"
    );
    answerer.abort();
    let _ = answerer.await;
    let mut deaf = two.subscribe("ask").await.unwrap();
    let short = one.request("ask", text("x"), Duration::from_millis(50));
    assert_eq!(short.await, Err(BusError::Timeout("ask".to_owned())));
    assert_eq!(next(&mut deaf).await, text("x"));
    drop(deaf);
    wait_for("the end of the subscription", SOON, async || {
        let short = one.request("ask", text("x"), Duration::from_millis(200));
        Ok(matches!(short.await, Err(BusError::NoResponders(_))).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_outage_is_told_and_overcome() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut nats) = Nats::start(dir.path(), &[]).await.unwrap() else {
        return;
    };
    let (one, two) = (
        Bus::nats(&nats.url()).await.unwrap(),
        Bus::nats(&nats.url()).await.unwrap(),
    );
    let mut here = one.subscribe("a").await.unwrap();
    let mut there = two.subscribe("a").await.unwrap();
    nats.kill().await.unwrap();
    wait_for("the outage to be noticed", SOON, async || {
        Ok(one.ping().await.err())
    })
    .await
    .unwrap();
    assert!(matches!(
        one.publish("a", text("x")).await,
        Err(BusError::Unavailable(_))
    ));
    assert_eq!(next(&mut here).await, text("x"), "this instance works on");
    one.send("a", text("y")).await.unwrap();
    assert_eq!(next(&mut here).await, text("y"));
    assert!(one.request("b", text("x"), SOON).await.is_err());
    // A newcomer is served here at once and there later.
    let mut late = two.subscribe("late").await.unwrap();

    nats.restart().await.unwrap();
    works_again(&one).await;
    works_again(&two).await;
    one.publish("a", text("again")).await.unwrap();
    assert_eq!(next(&mut here).await, text("again"));
    assert_eq!(
        next(&mut there).await,
        text("again"),
        "nothing stale came before"
    );
    one.publish("late", text("z")).await.unwrap();
    assert_eq!(next(&mut late).await, text("z"));
}

#[tokio::test]
async fn an_instance_starts_without_nats_and_joins_later() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut nats) = Nats::start(dir.path(), &[]).await.unwrap() else {
        return;
    };
    nats.kill().await.unwrap();
    let bus = Bus::nats(&nats.url()).await.unwrap();
    let mut subscription = bus.subscribe("a").await.unwrap();
    assert!(bus.ping().await.is_err());
    nats.restart().await.unwrap();
    works_again(&bus).await;
    let other = Bus::nats(&nats.url()).await.unwrap();
    other.publish("a", text("x")).await.unwrap();
    assert_eq!(next(&mut subscription).await, text("x"));
}

#[tokio::test]
async fn a_subscriber_that_falls_behind_other_instances_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let Some(nats) = Nats::start(dir.path(), &[]).await.unwrap() else {
        return;
    };
    let (one, two) = (
        Bus::nats(&nats.url()).await.unwrap(),
        Bus::nats(&nats.url()).await.unwrap(),
    );
    let mut stuck = two.subscribe("a").await.unwrap();
    for n in 0..20_000u32 {
        one.publish("a", Bytes::copy_from_slice(&n.to_be_bytes()))
            .await
            .unwrap();
    }
    wait_for("the end of patience", SOON, async || {
        Ok(stuck.lagged().then_some(()))
    })
    .await
    .unwrap();
    let mut seen = 0u32;
    while let Some(message) = stuck.next().await {
        assert_eq!(message.payload[..], seen.to_be_bytes(), "no gap");
        seen += 1;
    }
    assert_eq!(seen, 8192);
}

#[tokio::test]
async fn passwords_and_tokens_open_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--user", "am@bi", "--pass", "p/w d"];
    let Some(nats) = Nats::start(dir.path(), &options).await.unwrap() else {
        return;
    };
    let with = |user: &str| format!("nats://{user}@{}", nats.address());
    let bus = Bus::nats(&with("am%40bi:p%2Fw%20d")).await.unwrap();
    bus.ping().await.unwrap();
    let refused = Bus::nats(&with("ambi:wrong")).await.unwrap();
    let error = refused.ping().await.unwrap_err().to_string();
    assert!(!error.contains("wrong"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let Some(nats) = Nats::start(dir.path(), &["--auth", "s3cret"])
        .await
        .unwrap()
    else {
        return;
    };
    let bus = Bus::nats(&format!("nats://s3cret@{}", nats.address()))
        .await
        .unwrap();
    bus.ping().await.unwrap();
}

#[tokio::test]
async fn encryption_with_an_own_certificate_authority() {
    let dir = tempfile::tempdir().unwrap();
    let Some((cert, key)) = ambidex_harness::tls::self_signed(dir.path()).unwrap() else {
        return;
    };
    let text_of = |path: &Path| path.to_string_lossy().into_owned();
    let (cert, key) = (text_of(&cert), text_of(&key));
    let options = ["--tls", "--tlscert", &cert, "--tlskey", &key];
    let Some(nats) = Nats::start(dir.path(), &options).await.unwrap() else {
        return;
    };
    let url = format!("tls://localhost:{}", nats.port());
    let bus = Bus::nats(&format!("{url}?ca={cert}")).await.unwrap();
    bus.ping().await.unwrap();
    let distrustful = Bus::nats(&url).await.unwrap();
    assert!(distrustful.ping().await.is_err(), "an unknown certificate");
    let absent = Bus::nats(&format!("{url}?ca={}", text_of(&dir.path().join("none")))).await;
    assert!(matches!(absent, Err(BusError::Config(_))));
}
