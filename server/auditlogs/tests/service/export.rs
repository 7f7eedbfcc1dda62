//! `GET /logs/export`.

use axum::body::Body;
use futures_util::StreamExt as _;
use http::Request;
use tower::ServiceExt as _;

use crate::{EXPORT, World};

const HEADER: &str = "action,actor.id,actor.type,actor.email,actor.identity_data,object.id,object.type,object.user.email,object.deployment.name,object.deployment.artifact_name,change,time";

#[tokio::test]
async fn the_export_is_a_table() {
    let world = World::new();
    world
        .event(0, |e| e.change = Some("one\ntwo, \"three\"".to_owned()))
        .await;
    world.event(1, |_| ()).await;
    let answer = world.get(EXPORT).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/csv");
    assert_eq!(
        answer.text,
        format!(
            "{HEADER}\r\n\
             create,alice,user,alice@.example.com,,o1,deployment,,production,app-1,,2021-02-01T10:00:01Z\r\n\
             create,alice,user,alice@.example.com,,o0,deployment,,production,app-1,\"one\ntwo, \"\"three\"\"\",2021-02-01T10:00:00Z\r\n"
        )
    );
    let asked = world
        .get(&format!(
            "{EXPORT}?format_separator=_&ignore=actor.id&ignore=time,change&sort=asc&limit=1&object_type=deployment"
        ))
        .await;
    assert_eq!(
        asked.text,
        "action,actor_type,actor_email,actor_identity_data,object_id,object_type,object_user_email,object_deployment_name,object_deployment_artifact_name\r\n\
         create,user,alice@.example.com,,o0,deployment,,production,app-1\r\n"
    );
    let none = world.get(&format!("{EXPORT}?actor_id=nobody")).await;
    assert_eq!(none.text, format!("{HEADER}\r\n"));
    for (query, text) in [
        ("limit=x", "Can't parse param limit"),
        ("limit=0", "Param limit is out of bounds"),
        ("limit=-1", "Param limit is out of bounds"),
        ("sort=up", "sort: must be asc or desc"),
        (
            "format_separator=012345678901234567890123456789012",
            "format_separator: the length must be no more than 32.",
        ),
    ] {
        let answer = world.get(&format!("{EXPORT}?{query}")).await;
        assert_eq!((answer.status, answer.error()), (400, text.to_owned()));
    }
}

#[tokio::test]
async fn a_long_export_comes_in_pieces_and_misses_nothing() {
    const EVENTS: i64 = 1_234;
    let world = World::new();
    for number in 0..EVENTS {
        // Three events share each second.
        world
            .event(number / 3, |e| e.object.id = format!("n{number}"))
            .await;
    }
    for (sort, limit) in [
        ("asc", 1_100),
        ("desc", i64::MAX),
        ("asc", 1_000),
        ("desc", 500),
    ] {
        let token = world.token("", "enterprise");
        let request = Request::get(format!("{EXPORT}?sort={sort}&limit={limit}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        let response = world.public.clone().oneshot(request).await.unwrap();
        let mut pieces = response.into_body().into_data_stream();
        let (mut text, mut count) = (String::new(), 0);
        while let Some(piece) = pieces.next().await {
            text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
            count += 1;
        }
        let wanted = limit.min(EVENTS);
        assert_eq!(count, (wanted + 499) / 500, "pieces of 500 events");
        let mut ids: Vec<&str> = text
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(5).unwrap())
            .collect();
        assert_eq!(ids.len() as i64, wanted);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len() as i64, wanted, "no event comes twice");
        let mut times: Vec<&str> = text
            .lines()
            .skip(1)
            .map(|line| line.rsplit(',').next().unwrap())
            .collect();
        if sort == "desc" {
            times.reverse();
        }
        assert!(times.is_sorted());
    }
}
