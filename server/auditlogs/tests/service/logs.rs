//! `GET /logs`.

use ambidex_wire::management::auditlogs::{Actor, Object};
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::{EXPORT, LOGS, NOW_S, World};

#[tokio::test]
async fn an_event_is_shown_whole() {
    let world = World::new();
    world
        .event(0, |e| e.change = Some("all of it".to_owned()))
        .await;
    let answer = world.get(LOGS).await;
    assert_eq!(
        answer.json(),
        json!([{
            "actor": {"id": "alice", "type": "user", "email": "alice@.example.com"},
            "time": "2021-02-01T10:00:00Z",
            "action": "create",
            "object": {
                "id": "o0", "type": "deployment",
                "deployment": {"name": "production", "artifact_name": "app-1"},
            },
            "change": "all of it",
        }])
    );
}

#[tokio::test]
async fn pages_are_of_ten_and_linked() {
    let world = World::new();
    for second in 0..25 {
        world.event(second, |_| ()).await;
    }
    let first = world.get(LOGS).await;
    let newest: Vec<String> = (15..25).rev().map(|n| format!("o{n}")).collect();
    assert_eq!(first.objects(), newest);
    assert_eq!(first.header("x-total-count"), "25");
    let second = world
        .get(&format!("{LOGS}?sort=asc&page=2&per_page=3"))
        .await;
    assert_eq!(second.objects(), ["o3", "o4", "o5"]);
    let links: Vec<_> = second
        .headers
        .get_all("link")
        .iter()
        .map(|link| link.to_str().unwrap())
        .collect();
    assert_eq!(
        links,
        [
            format!("<{LOGS}?page=1&per_page=3&sort=asc>; rel=\"first\""),
            format!("<{LOGS}?page=1&per_page=3&sort=asc>; rel=\"prev\""),
            format!("<{LOGS}?page=3&per_page=3&sort=asc>; rel=\"next\""),
        ]
    );
    let beyond = world.get(&format!("{LOGS}?page=10")).await;
    assert_eq!(beyond.objects(), [""; 0]);
    let links = beyond.headers.get_all("link").iter();
    assert!(
        links
            .into_iter()
            .all(|link| !link.to_str().unwrap().contains("next"))
    );
    assert_eq!(
        world
            .get(&format!("{LOGS}?per_page=500"))
            .await
            .objects()
            .len(),
        25
    );
    for (query, text) in [
        ("page=0", "Param page is out of bounds"),
        ("per_page=501", "Param per_page is out of bounds"),
        ("per_page=x", "Can't parse param per_page"),
        ("created_after=x", "Can't parse param created_after"),
        ("created_before=1.5", "Can't parse param created_before"),
        ("sort=up", "sort: must be asc or desc"),
    ] {
        let answer = world.get(&format!("{LOGS}?{query}")).await;
        assert_eq!((answer.status, answer.error()), (400, text.to_owned()));
    }
}

#[tokio::test]
async fn events_of_one_moment_keep_their_order() {
    let world = World::new();
    let tenant = ambidex_access::TenantId::default();
    for number in 0..5 {
        let mut event = crate::event(0);
        event.object.id = format!("n{number}");
        let statement = ambidex_jobs::audit(&world.jobs, tenant.as_str(), &event);
        world.db.apply(vec![statement]).await.unwrap();
    }
    world.jobs.run_due().await.unwrap();
    let newest_first = world.get(LOGS).await.objects();
    assert_eq!(newest_first, ["n4", "n3", "n2", "n1", "n0"]);
}

#[tokio::test]
async fn filters_are_exact_and_all_must_hold() {
    let world = World::new();
    world.event(0, |_| ()).await;
    world
        .event(1, |e| e.object = Object::user("bob", "bob@example.com"))
        .await;
    world
        .event(2, |e| {
            e.actor = Actor::user_with_email("carol", "c@example.com")
        })
        .await;
    world
        .event(3, |e| {
            e.actor = Actor::device("d1", None);
            e.object = Object::device("d2", None);
        })
        .await;
    world
        .event(4, |e| {
            e.object = Object::deployment("o4", "staging", "app-1");
        })
        .await;
    for (query, expected) in [
        ("actor_id=carol", &["o2"][..]),
        ("actor_id=car", &[]),
        ("actor_type=device", &["d2"]),
        ("actor_type=user&object_type=user", &["bob"]),
        ("actor_email=c%40example.com", &["o2"]),
        ("object_id=bob", &["bob"]),
        ("object_type=deployment", &["o4", "o2", "o0"]),
        ("object_deployment_name=staging", &["o4"]),
        ("object_deployment_name=staging&actor_id=carol", &[]),
        ("actor_id=", &["o4", "d2", "o2", "bob", "o0"]),
        ("actor_type=robot", &[]),
    ] {
        let answer = world.get(&format!("{LOGS}?{query}")).await;
        assert_eq!(answer.objects(), expected, "{query}");
        assert_eq!(answer.header("x-total-count"), expected.len().to_string());
    }
}

#[tokio::test]
async fn the_bounds_of_time_belong_to_the_range() {
    let world = World::new();
    for second in 0..4 {
        world.event(second, |_| ()).await;
    }
    // Half a second after a bound is after it.
    world
        .event(4, |e| e.time = "2021-02-01T10:00:02.5Z".to_owned())
        .await;
    let (after, before) = (NOW_S + 1, NOW_S + 2);
    for (query, expected) in [
        (
            format!("created_after={after}"),
            &["o3", "o4", "o2", "o1"][..],
        ),
        (format!("created_before={before}"), &["o2", "o1", "o0"]),
        (
            format!("created_after={after}&created_before={before}&sort=asc"),
            &["o1", "o2"],
        ),
        (format!("created_after={}", NOW_S + 9), &[]),
        ("created_before=-1".to_owned(), &[]),
        (format!("created_after={}", i64::MAX), &[]),
    ] {
        let answer = world.get(&format!("{LOGS}?{query}")).await;
        assert_eq!(answer.objects(), expected, "{query}");
    }
}

#[tokio::test]
async fn only_users_of_the_enterprise_plan_may_read() {
    let world = World::new();
    for uri in [LOGS, EXPORT] {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        assert_eq!(world.send(&world.public, request).await.status, 401);
        assert_eq!(world.get_as("t1", "enterprise", uri).await.status, 200);
        for plan in ["os", "professional", ""] {
            let answer = world.get_as("t1", plan, uri).await;
            assert_eq!(answer.status, 403, "{plan}");
            assert_eq!(answer.error(), "Feature not available in your Plan.");
        }
        // A server without tenants has no plans.
        assert_eq!(world.get_as("", "os", uri).await.status, 200);
    }
}

#[tokio::test]
async fn a_link_in_a_page_works_with_the_cookie() {
    let world = World::new();
    let token = world.token("", "enterprise");
    for uri in [LOGS, EXPORT] {
        let request = Request::get(uri)
            .header("cookie", format!("JWT={token}"))
            .body(Body::empty())
            .unwrap();
        assert_eq!(world.send(&world.public, request).await.status, 200);
    }
}

#[tokio::test]
async fn tenants_see_their_own_events_only() {
    let world = World::new();
    for tenant in ["t1", "t2"] {
        let mut event = crate::event(0);
        event.object.id = format!("of {tenant}");
        let id = ambidex_access::TenantId::new(tenant);
        world.auditlogs.record(&id, "same", event).await.unwrap();
    }
    for tenant in ["t1", "t2"] {
        let answer = world.get_as(tenant, "enterprise", LOGS).await;
        assert_eq!(answer.objects(), [format!("of {tenant}")]);
        let export = world.get_as(tenant, "enterprise", EXPORT).await;
        assert_eq!(export.text.matches("of t").count(), 1);
        assert!(export.text.contains(&format!("of {tenant}")));
    }
    assert_eq!(world.get(LOGS).await.objects(), [""; 0]);
}
