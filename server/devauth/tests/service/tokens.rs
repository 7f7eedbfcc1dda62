use axum::body::Body;
use http::{Method, Request};

use ambidex_access::{Identity, TenantId};

use crate::rig::{DEVICES, Device, INTERNAL, Rig};

const TOKENS: &str = "/api/management/v2/devauth/tokens";

#[tokio::test]
async fn d34_revoked_tokens_end_at_once_and_can_be_renewed() {
    let rig = Rig::new();
    let device = Device::new("d34");
    let (_, set, token) = rig.accepted(&device).await;
    rig.user(Method::DELETE, &format!("{TOKENS}/{set}"), None)
        .await
        .ok(204);
    assert_eq!(rig.verify(&token).await, 401);
    rig.user(Method::DELETE, &format!("{TOKENS}/{set}"), None)
        .await
        .ok(404);
    rig.user(Method::DELETE, &format!("{TOKENS}/not-a-uuid"), None)
        .await
        .ok(404);
    let renewed = rig.authenticate(&device).await.ok(200).text;
    assert_eq!(rig.verify(&renewed).await, 200);
}

#[tokio::test]
async fn d36_expired_tokens_are_told_apart() {
    let rig = Rig::new();
    let device = Device::new("d36");
    let (_, _, token) = rig.accepted(&device).await;
    rig.clock.advance(604_799_000);
    assert_eq!(rig.verify(&token).await, 200);
    let renewed = rig.authenticate(&device).await.ok(200).text;
    rig.clock.advance(1_000);
    assert_eq!(rig.verify(&token).await, 403);
    assert_eq!(
        rig.verify(&renewed).await,
        200,
        "the end of one token is not the end of the next"
    );
}

#[tokio::test]
async fn verification_refuses_everything_that_is_no_device_token() {
    let rig = Rig::new();
    let (_, _, token) = rig.accepted(&Device::new("v")).await;
    assert_eq!(rig.verify(&rig.user_token("")).await, 401);
    assert_eq!(rig.verify("").await, 401);
    assert_eq!(rig.verify("a.b.c").await, 401);
    let tampered = format!("{}x", &token[..token.len() - 1]);
    assert_eq!(rig.verify(&tampered).await, 401);
    let path = format!("{INTERNAL}/tokens/verify");
    assert_eq!(
        rig.internal(Method::POST, &path, None).await.error(401),
        "no authorization header"
    );
    assert_eq!(
        rig.internal(Method::GET, &path, None).await.error(401),
        "no authorization header"
    );
    let basic = Request::post(&path)
        .header("authorization", format!("Basic {token}"))
        .body(Body::empty())
        .unwrap();
    let internal = ambidex_kit::front(rig.devauth.internal_routes());
    assert_eq!(rig.send(&internal, basic).await.status, 401);
}

#[tokio::test]
async fn d37_all_tokens_of_a_device_or_a_tenant_end() {
    let rig = Rig::new();
    let path = format!("{INTERNAL}/tokens");
    assert_eq!(
        rig.internal(Method::DELETE, &path, None).await.error(400),
        "tenant_id must be provided"
    );
    rig.internal(Method::DELETE, &format!("{path}?tenant_id=t1"), None)
        .await
        .ok(204);
    let (id, _, first) = rig.accepted(&Device::new("a")).await;
    let (_, _, second) = rig.accepted(&Device::new("b")).await;
    rig.internal(
        Method::DELETE,
        &format!("{path}?tenant_id=t1&device_id={id}"),
        None,
    )
    .await
    .ok(204);
    assert_eq!(
        rig.verify(&first).await,
        200,
        "another tenant's revocation does not reach here"
    );
    rig.devauth
        .revoke_tokens(&TenantId::default(), Some(&id))
        .await
        .unwrap();
    assert_eq!(
        (rig.verify(&first).await, rig.verify(&second).await),
        (401, 200)
    );
    rig.devauth
        .revoke_tokens(&TenantId::default(), None)
        .await
        .unwrap();
    assert_eq!(rig.verify(&second).await, 401);
}

#[tokio::test]
async fn connections_are_told_of_every_revocation() {
    let rig = Rig::new();
    let device = Device::new("connected");
    let (id, set, _) = rig.accepted(&device).await;
    let told = || rig.neighbours.revoked.lock().unwrap().drain(..).count();
    assert_eq!(told(), 0, "nothing was revoked yet");
    rig.set_status(&id, &set, "rejected").await.ok(204);
    assert_eq!(told(), 1);
    rig.set_status(&id, &set, "pending").await.ok(204);
    rig.set_status(&id, &set, "accepted").await.ok(204);
    assert_eq!(told(), 0, "it had no token");
    rig.authenticate(&device).await.ok(200);
    rig.user(Method::DELETE, &format!("{TOKENS}/{set}"), None)
        .await
        .ok(204);
    assert_eq!(told(), 1);
    rig.authenticate(&device).await.ok(200);
    let rekeyed = device.rekeyed();
    rig.authenticate(&rekeyed).await.ok(401);
    let (_, second) = rig.find(&rekeyed).await;
    rig.set_status(&id, &second, "accepted").await.ok(204);
    assert_eq!(told(), 1, "the old key's");
    rig.user(
        Method::DELETE,
        &format!("{DEVICES}/{id}/auth/{second}"),
        None,
    )
    .await
    .ok(204);
    assert_eq!(told(), 1);
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}"), None)
        .await
        .ok(204);
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn c1_c2_operators_and_devices_have_their_own_tokens() {
    let rig = Rig::new();
    let (_, _, token) = rig.accepted(&Device::new("c2")).await;
    let request = |token: Option<&str>| {
        let mut request = Request::get(DEVICES);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Body::empty()).unwrap()
    };
    rig.public(request(None)).await.error(401);
    rig.public(request(Some(&token))).await.error(401);
    rig.public(request(Some("x"))).await.error(401);
}

#[tokio::test]
async fn check_ins_are_recorded_hourly_and_told_daily() {
    let rig = Rig::new();
    let (id, _, token) = rig.accepted(&Device::new("seen")).await;
    assert!(rig.device(&id).await.get("check_in_time").is_none());
    let recorded = rig.devauth.record_check_ins().await.unwrap();
    assert_eq!(recorded, 1, "seen when it asked for the token");
    assert_eq!(
        rig.device(&id).await["check_in_time"],
        "2023-11-14T22:13:20Z"
    );
    assert_eq!(rig.neighbours.seen.lock().unwrap().len(), 1);
    rig.clock.advance(3_599_999);
    assert_eq!(rig.verify(&token).await, 200);
    assert_eq!(
        rig.devauth.record_check_ins().await.unwrap(),
        0,
        "not yet an hour"
    );
    rig.clock.advance(1);
    rig.verify(&token).await;
    assert_eq!(rig.devauth.record_check_ins().await.unwrap(), 1);
    assert_eq!(rig.neighbours.seen.lock().unwrap().len(), 1, "the same day");
    rig.clock.advance(86_400_000);
    rig.verify(&token).await;
    rig.devauth.record_check_ins().await.unwrap();
    assert_eq!(rig.neighbours.seen.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rejection_during_the_issue_of_a_token_wins() {
    let rig = std::sync::Arc::new(Rig::new());
    let device = std::sync::Arc::new(Device::new("race"));
    let (id, set, _) = rig.accepted(&device).await;
    for _ in 0..10 {
        rig.set_status(&id, &set, "accepted").await.ok(204);
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let (rig, device) = (rig.clone(), device.clone());
                tokio::spawn(async move { rig.authenticate(&device).await })
            })
            .collect();
        rig.set_status(&id, &set, "rejected").await.ok(204);
        for task in asking {
            let answer = task.await.unwrap();
            if answer.status == 200 {
                assert_eq!(
                    rig.verify(&answer.text).await,
                    401,
                    "no token outlives the rejection"
                );
            }
        }
    }
    // The token itself is genuine: only its record is gone.
    let token = {
        rig.set_status(&id, &set, "accepted").await.ok(204);
        rig.authenticate(&device).await.ok(200).text
    };
    assert!(matches!(
        rig.keys.verify(&token).unwrap().identity(),
        Some(Identity::Device(_))
    ));
}
