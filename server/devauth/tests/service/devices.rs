use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::rig::{DEVICES, Device, INTERNAL, Rig};

fn announcement(device: &Device) -> Option<Value> {
    Some(json!({"identity_data": device.identity(), "pubkey": device.pem()}))
}

#[tokio::test]
async fn d20_d21_preauthorisation_happens_once() {
    let rig = Rig::new();
    let device = Device::new("d20");
    let answer = rig
        .user(Method::POST, DEVICES, announcement(&device))
        .await
        .ok(201);
    assert_eq!(answer.text, "");
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let id = location.strip_prefix("devices/").unwrap();
    assert_eq!(rig.device(id).await["status"], "preauthorized");
    assert_eq!(
        rig.neighbours.known.lock().unwrap()[id].identity["mac"],
        "d20"
    );
    let conflict = rig
        .user(Method::POST, DEVICES, announcement(&device.rekeyed()))
        .await
        .ok(409)
        .json();
    assert_eq!(conflict["id"], id);
    assert_eq!(conflict["auth_sets"][0]["status"], "preauthorized");
}

#[tokio::test]
async fn preauthorisation_can_be_forced_on_a_known_device() {
    let rig = Rig::new();
    let device = Device::new("force");
    let (id, set, token) = rig.accepted(&device).await;
    let rekeyed = device.rekeyed();
    let mut body = announcement(&rekeyed).unwrap();
    body["force"] = json!(true);
    let answer = rig.user(Method::POST, DEVICES, Some(body)).await.ok(201);
    assert_eq!(answer.headers["location"], format!("devices/{id}").as_str());
    assert_eq!(
        rig.verify(&token).await,
        200,
        "the old key counts until the new one comes"
    );
    rig.authenticate(&rekeyed).await.ok(200);
    assert_eq!(rig.verify(&token).await, 401);
    let old = rig
        .get(&format!("{DEVICES}/{id}/auth/{set}/status"))
        .await
        .json();
    assert_eq!(old, json!({"status": "rejected"}));
}

#[tokio::test]
async fn wrong_preauthorisations_are_refused() {
    let rig = Rig::new();
    let device = Device::new("x");
    for (body, text) in [
        (
            json!({"pubkey": device.pem()}),
            "id_data: non zero value required;",
        ),
        (
            json!({"identity_data": {}, "pubkey": device.pem()}),
            "id_data: non zero value required;",
        ),
        (
            json!({"identity_data": {"a": 1}}),
            "pubkey: non zero value required;",
        ),
        (
            json!({"identity_data": {"a": 1}, "pubkey": "x"}),
            "cannot decode public key",
        ),
        (
            json!({"identity_data": "{\"a\":1}", "pubkey": device.pem()}),
            "failed to decode preauth request",
        ),
        (json!([]), "failed to decode preauth request"),
    ] {
        let error = rig.user(Method::POST, DEVICES, Some(body)).await.error(400);
        assert!(
            error.starts_with("failed to decode preauth request") && error.contains(text),
            "{error}"
        );
    }
    assert!(rig.devices().await.is_empty());
}

#[tokio::test]
async fn d26_decommissioning_reaches_every_neighbour() {
    let rig = Rig::new();
    let (id, _, token) = rig.accepted(&Device::new("d26")).await;
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}"), None)
        .await
        .ok(204);
    assert_eq!(rig.verify(&token).await, 401);
    assert_eq!(rig.neighbours.status(&id), None);
    assert_eq!(
        rig.neighbours.removed.lock().unwrap().as_slice(),
        std::slice::from_ref(&id)
    );
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}"), None)
        .await
        .ok(404);
    assert_eq!(
        rig.get(&format!("{DEVICES}/{id}")).await.error(404),
        "device not found"
    );
    assert_eq!(
        rig.get(&format!("{DEVICES}/count")).await.json(),
        json!({"count": 0})
    );
}

#[tokio::test]
async fn d28_d29_listings_are_paged_by_age() {
    let rig = Rig::new();
    let mut expected = Vec::new();
    for number in 0..25 {
        rig.clock.advance(1);
        let device = Device::new(&format!("d29-{number}"));
        let answer = rig
            .user(Method::POST, DEVICES, announcement(&device))
            .await
            .ok(201);
        expected.push(
            answer.headers["location"]
                .to_str()
                .unwrap()
                .trim_start_matches("devices/")
                .to_owned(),
        );
    }
    let ids = |answer: &Value| -> Vec<String> {
        answer
            .as_array()
            .unwrap()
            .iter()
            .map(|device| device["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = rig.get(DEVICES).await.ok(200);
    assert_eq!(ids(&first.json()), expected[..20]);
    assert!(
        first.links().contains("page=2&per_page=20>; rel=\"next\""),
        "{}",
        first.links()
    );
    let second = rig
        .get(&format!("{DEVICES}?page=2&status=preauthorized"))
        .await
        .ok(200);
    assert_eq!(ids(&second.json()), expected[20..]);
    assert!(
        !second.links().contains("next") && second.links().contains("prev"),
        "{}",
        second.links()
    );
    let past = rig.get(&format!("{DEVICES}?page=9")).await.ok(200);
    assert_eq!(past.json(), json!([]));
    assert_eq!(
        rig.get(&format!("{DEVICES}?status=bad")).await.error(400),
        "filter status must be one of: accepted, pending, rejected, preauthorized or noauth"
    );
    for query in ["page=0", "per_page=501", "per_page=x"] {
        rig.get(&format!("{DEVICES}?{query}")).await.error(400);
    }
    let two = rig
        .get(&format!(
            "{DEVICES}?id={}&id={}&id=nope",
            expected[3], expected[5]
        ))
        .await
        .ok(200);
    assert_eq!(ids(&two.json()), [expected[3].clone(), expected[5].clone()]);
    let none = rig.get(&format!("{DEVICES}?status=accepted")).await.ok(200);
    assert_eq!(none.json(), json!([]));
}

#[tokio::test]
async fn d30_d31_searches_take_texts_and_lists() {
    let rig = Rig::new();
    let (pending, _) = rig.pending(&Device::new("p")).await;
    let (accepted, _, _) = rig.accepted(&Device::new("a")).await;
    let path = format!("{DEVICES}/search");
    let ids = async |body: Value| -> Vec<String> {
        let list = rig
            .user(Method::POST, &path, Some(body))
            .await
            .ok(200)
            .json();
        list.as_array()
            .unwrap()
            .iter()
            .map(|device| device["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        ids(json!({"status": ["pending"]})).await,
        std::slice::from_ref(&pending)
    );
    assert_eq!(
        ids(json!({"status": "accepted"})).await,
        std::slice::from_ref(&accepted)
    );
    assert_eq!(
        ids(json!({"status": ["accepted", "pending"]})).await.len(),
        2
    );
    assert_eq!(
        ids(json!({"id": pending})).await,
        std::slice::from_ref(&pending)
    );
    assert_eq!(
        ids(json!({"id": [pending, accepted], "status": "rejected"})).await,
        Vec::<String>::new()
    );
    assert_eq!(
        ids(json!({"status": "unknown"})).await,
        Vec::<String>::new()
    );
    assert_eq!(ids(json!({})).await.len(), 2);
    let error = rig
        .user(Method::POST, &path, Some(json!({"status": 5})))
        .await
        .error(400);
    assert_eq!(
        error,
        "invalid JSON type for 'status': must be string or []string"
    );
    let error = rig
        .user(Method::POST, &path, Some(json!({"id": [5]})))
        .await
        .error(400);
    assert_eq!(
        error,
        "invalid JSON type for 'id': must be string or []string"
    );
    rig.user(Method::POST, &path, None).await.error(400);
    let many: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    assert!(ids(json!({"id": &many[1..]})).await.is_empty());
    rig.user(Method::POST, &path, Some(json!({"id": many})))
        .await
        .error(400);

    let send = async |content_type: &str, body: &'static str| {
        let token = rig.user_token("");
        let request = Request::post(&path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", content_type)
            .body(Body::from(body))
            .unwrap();
        rig.public(request).await
    };
    let form = send(
        "application/x-www-form-urlencoded",
        "status=pending&status=rejected",
    )
    .await
    .ok(200)
    .json();
    assert_eq!(form.as_array().unwrap().len(), 1);
    assert_eq!(
        send("text/plain", "{}").await.error(415),
        "Content-Type 'text/plain' not supported"
    );
    send("application/json; charset=utf-8", "{}").await.ok(200);
}

#[tokio::test]
async fn d32_counts_follow_every_change() {
    let rig = Rig::new();
    let count = async |status: &str| {
        rig.get(&format!("{DEVICES}/count?status={status}"))
            .await
            .ok(200)
            .json()["count"]
            .as_u64()
            .unwrap()
    };
    let (_, _, _) = rig.accepted(&Device::new("a")).await;
    let (id, set) = rig.pending(&Device::new("b")).await;
    assert_eq!(
        (
            count("accepted").await,
            count("pending").await,
            count("").await
        ),
        (1, 1, 2)
    );
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}/auth/{set}"), None)
        .await
        .ok(204);
    assert_eq!(
        (
            count("noauth").await,
            count("pending").await,
            count("").await
        ),
        (1, 0, 2)
    );
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}"), None)
        .await
        .ok(204);
    assert_eq!((count("noauth").await, count("").await), (0, 1));
    assert_eq!(
        rig.get(&format!("{DEVICES}/count?status=x"))
            .await
            .error(400),
        "status must be one of: pending, accepted, rejected, preauthorized, noauth"
    );
}

#[tokio::test]
async fn d38_internal_views_of_devices() {
    let rig = Rig::new();
    let (id, _, _) = rig.accepted(&Device::new("d38")).await;
    // The default tenant has an empty name; its segment cannot be addressed.
    let path = format!("{INTERNAL}/tenants/t1/devices");
    assert_eq!(
        rig.internal(Method::GET, &format!("{path}/{id}/status"), None)
            .await
            .error(404),
        "device not found"
    );
    assert_eq!(
        rig.internal(Method::GET, &path, None).await.ok(200).json(),
        json!([])
    );
    assert_eq!(
        rig.internal(Method::GET, &format!("{path}/count"), None)
            .await
            .ok(200)
            .json(),
        json!({"count": 0})
    );
    assert_eq!(
        rig.internal(Method::GET, &format!("{path}//status"), None)
            .await
            .error(400),
        "device id (did) cannot be empty"
    );
    let empty = format!("{INTERNAL}/tenants//devices");
    assert_eq!(
        rig.internal(Method::GET, &empty, None).await.error(400),
        "tenant id (tid) cannot be empty"
    );
    rig.internal(Method::GET, &format!("{INTERNAL}/alive"), None)
        .await
        .ok(204);
    rig.internal(Method::GET, &format!("{INTERNAL}/health"), None)
        .await
        .ok(204);
    for _ in 0..2 {
        rig.internal(
            Method::POST,
            &format!("{INTERNAL}/tenants"),
            Some(json!({"tenant_id": "t1"})),
        )
        .await
        .ok(201);
    }
    for body in [json!({}), json!({"tenant_id": ""})] {
        let error = rig
            .internal(Method::POST, &format!("{INTERNAL}/tenants"), Some(body))
            .await
            .error(400);
        assert_eq!(error, "tenant_id must be provided");
    }
    rig.internal(Method::POST, &format!("{INTERNAL}/tenants"), None)
        .await
        .error(400);
}

#[tokio::test]
async fn health_tells_of_a_closed_database() {
    let rig = Rig::new();
    rig.db.close().await.unwrap();
    let error = rig
        .internal(Method::GET, &format!("{INTERNAL}/health"), None)
        .await
        .error(503);
    assert!(error.starts_with("error reaching the database"), "{error}");
    rig.internal(Method::GET, &format!("{INTERNAL}/alive"), None)
        .await
        .ok(204);
}
