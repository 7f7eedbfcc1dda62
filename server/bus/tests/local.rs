//! Routing within one instance.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::time::Duration;

use ambidex_bus::{Bus, BusError, PAYLOAD_BYTES_MAX};
use bytes::Bytes;

const SOON: Duration = Duration::from_secs(20);

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn every_subscriber_of_a_subject_gets_each_message_in_order() {
    let bus = Bus::local();
    let mut first = bus.subscribe("a.b").await.unwrap();
    let mut second = bus.subscribe("a.b").await.unwrap();
    let mut other = bus.subscribe("a.c").await.unwrap();
    for n in 0..100u8 {
        bus.publish("a.b", Bytes::from(vec![n])).await.unwrap();
    }
    bus.publish("a.c", text("x")).await.unwrap();
    for subscription in [&mut first, &mut second] {
        for n in 0..100u8 {
            let message = subscription.next().await.unwrap();
            assert_eq!(
                (message.subject.as_str(), &message.payload[..]),
                ("a.b", &[n][..])
            );
        }
    }
    assert_eq!(other.next().await.unwrap().payload, text("x"));
    bus.publish("nobody", text("x")).await.unwrap();
    assert_eq!(
        bus.send("nobody", text("x")).await,
        Err(BusError::NoResponders("nobody".to_owned()))
    );
    bus.ping().await.unwrap();
    assert!(!bus.is_shared());
}

#[tokio::test]
async fn dropping_a_subscription_ends_it() {
    let bus = Bus::local();
    let subscription = bus.subscribe("a").await.unwrap();
    bus.send("a", text("x")).await.unwrap();
    drop(subscription);
    assert!(bus.send("a", text("x")).await.is_err());
    let mut again = bus.subscribe("a").await.unwrap();
    bus.send("a", text("y")).await.unwrap();
    assert_eq!(
        again.next().await.unwrap().payload,
        text("y"),
        "no leftovers"
    );
}

#[tokio::test]
async fn requests_are_answered_or_say_why_not() {
    let bus = Bus::local();
    let ask = |payload| bus.request("ask", payload, SOON);
    assert_eq!(
        ask(text("x")).await,
        Err(BusError::NoResponders("ask".to_owned()))
    );
    let mut subscription = bus.subscribe("ask").await.unwrap();
    let answerer = tokio::spawn(async move {
        while let Some(message) = subscription.next().await {
            let mut answer = message.payload.to_vec();
            answer.reverse();
            message.respond(Bytes::from(answer)).await.unwrap();
        }
    });
    assert_eq!(ask(text("abc")).await, Ok(text("cba")));
    let many = (0..50).map(|n| ask(Bytes::from(vec![n, 0])));
    for (n, answer) in futures_util::future::join_all(many)
        .await
        .iter()
        .enumerate()
    {
        assert_eq!(answer.as_deref().unwrap(), [0, n as u8]);
    }
    answerer.abort();
    let _ = answerer.await;
    assert!(matches!(
        ask(text("x")).await,
        Err(BusError::NoResponders(_))
    ));

    let mut deaf = bus.subscribe("ask").await.unwrap();
    let short = bus.request("ask", text("x"), Duration::from_millis(20));
    assert_eq!(short.await, Err(BusError::Timeout("ask".to_owned())));
    let late = deaf.next().await.unwrap();
    late.respond(text("late")).await.unwrap();
    bus.publish("ask", text("x")).await.unwrap();
    let plain = deaf.next().await.unwrap();
    assert_eq!(plain.respond(text("x")).await, Err(BusError::NoReply));
}

#[tokio::test]
async fn limits_hold() {
    let bus = Bus::local();
    let largest = Bytes::from(vec![0; PAYLOAD_BYTES_MAX]);
    let mut subscription = bus.subscribe("a").await.unwrap();
    bus.publish("a", largest.clone()).await.unwrap();
    assert_eq!(
        subscription.next().await.unwrap().payload.len(),
        PAYLOAD_BYTES_MAX
    );
    let larger = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
    assert_eq!(
        bus.publish("a", larger).await,
        Err(BusError::TooLarge {
            bytes: PAYLOAD_BYTES_MAX + 1,
            bytes_max: PAYLOAD_BYTES_MAX
        })
    );
    for bad in ["", "a b", "a.*", "_local.0"] {
        assert!(matches!(
            bus.publish(bad, text("x")).await,
            Err(BusError::Subject(_))
        ));
        assert!(matches!(
            bus.subscribe(bad).await,
            Err(BusError::Subject(_))
        ));
    }
}

/// More messages than a queue holds, more than its bytes, and a consumer that is always nearly asleep.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn producers_wait_for_room_and_no_wake_up_is_lost() {
    const PRODUCERS: usize = 8;
    const EACH: usize = 5000;
    let bus = Bus::local();
    let mut subscription = bus.subscribe("a").await.unwrap();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    let mut payload = vec![0; 8 + (n % 7) * 1500];
                    payload[..4].copy_from_slice(&(producer as u32).to_be_bytes());
                    payload[4..8].copy_from_slice(&(n as u32).to_be_bytes());
                    bus.send("a", Bytes::from(payload)).await.unwrap();
                }
            })
        })
        .collect();
    let mut next = [0u32; PRODUCERS];
    for count in 0..PRODUCERS * EACH {
        let message = tokio::time::timeout(SOON, subscription.next())
            .await
            .expect("a wake-up was lost")
            .unwrap();
        let number =
            |at: usize| u32::from_be_bytes(message.payload[at..at + 4].try_into().unwrap());
        assert_eq!(number(4), next[number(0) as usize], "order of one producer");
        next[number(0) as usize] += 1;
        if count % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for producer in producers {
        producer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_takes_nothing_is_cut_off_and_told() {
    let bus = Bus::local();
    let mut stuck = bus.subscribe("a").await.unwrap();
    let mut sent = 0;
    while bus.send("a", text("x")).await.is_ok() {
        sent += 1;
    }
    assert!(sent >= 256, "a queue of {sent} messages");
    // Nobody waits for it a second time.
    let again = tokio::time::Instant::now();
    assert!(bus.send("a", text("x")).await.is_err());
    assert!(again.elapsed() < Duration::from_secs(1));
    for _ in 0..sent {
        assert!(stuck.next().await.is_some(), "what waited is handed out");
    }
    assert!(stuck.next().await.is_none());
    assert!(stuck.lagged());
}

/// A future of `next` that is dropped (in `select!`) must not take a message with it.
#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let bus = Bus::local();
    let mut subscription = bus.subscribe("a").await.unwrap();
    for n in 0..1000u32 {
        let publish = bus.send("a", Bytes::copy_from_slice(&n.to_be_bytes()));
        tokio::select! {
            biased;
            _ = subscription.next() => panic!("nothing was published yet"),
            sent = publish => sent.unwrap(),
        }
        let message = tokio::time::timeout(SOON, subscription.next())
            .await
            .unwrap();
        assert_eq!(message.unwrap().payload[..], n.to_be_bytes());
    }
}
