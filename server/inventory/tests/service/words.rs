//! Searching for words, searching for identities, and numbers of devices.

use http::Method;
use serde_json::{Value, json};

use crate::rig::{Rig, attributes, id};

const STATISTICS: &str = "/api/management/v2/inventory/statistics";
const IDENTITIES: &str = "/api/management/v2alpha1/inventory/identities/search";

#[tokio::test]
async fn words_are_found_wherever_they_are() {
    let rig = Rig::new();
    rig.fleet(&[
        json!({"site": "Berlin North", "ram": 512}),
        json!({"site": "berlin south", "list": ["alpha", "Beta"]}),
        json!({"site": "Paris", "numbers": [17, 4096]}),
    ])
    .await;
    for (text, expected) in [
        ("BERLIN", &[1, 2][..]),
        ("berlin north", &[1]),
        ("north  berlin", &[1]),
        ("berlin paris", &[]),
        ("beta", &[2]),
        ("4096", &[3]),
        ("512", &[1]),
        ("m3", &[3]),
        ("accepted", &[1, 2, 3]),
        // Names of attributes are not searched.
        ("site", &[]),
        ("  ", &[1, 2, 3]),
    ] {
        let answer = rig.search(json!({"text": text})).await.ok(200);
        let expected: Vec<String> = expected.iter().map(|n| id(*n)).collect();
        assert_eq!(answer.ids(), expected, "{text:?}");
        assert_eq!(answer.total(), expected.len() as u64, "{text:?}");
    }
    let by_id = rig.search(json!({"text": id(2)})).await.ok(200);
    assert_eq!(by_id.ids(), [id(2)]);
    let filter =
        json!({"scope": "inventory", "attribute": "ram", "type": "$exists", "value": true});
    let both = json!({"text": "berlin", "filters": [filter]});
    assert_eq!(rig.search(both).await.ok(200).ids(), [id(1)]);
    let sorted = json!({
        "text": "berlin", "per_page": 1,
        "sort": [{"scope": "inventory", "attribute": "site", "order": "desc"}],
    });
    let sorted = rig.search(sorted).await.ok(200);
    assert_eq!((sorted.ids(), sorted.total()), (vec![id(2)], 2));
    rig.search(json!({"text": "a ".repeat(17)}))
        .await
        .error(400);
    rig.search(json!({"text": 5})).await.error(400);
}

#[tokio::test]
async fn identities_are_shown_without_the_rest() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1}), json!({"a": 2})]).await;
    let body =
        json!({"filters": [{"scope": "inventory", "attribute": "a", "type": "$eq", "value": 2}]});
    let answer = rig.user(Method::POST, IDENTITIES, Some(body)).await.ok(200);
    assert_eq!((answer.ids(), answer.total()), (vec![id(2)], 1));
    let shown = attributes(&answer.json()[0]);
    assert_eq!(
        Value::Object(shown),
        json!({"identity/mac": "m2", "identity/status": "accepted"})
    );
}

#[tokio::test]
async fn statistics_count_by_status_and_tier() {
    let rig = Rig::new();
    let zero = json!({"standard": 0, "micro": 0, "system": 0});
    let counts = |accepted: &Value, pending: &Value| json!({"devices_by_status": {"accepted": accepted, "pending": pending}});
    assert_eq!(
        rig.get(STATISTICS).await.ok(200).json(),
        counts(&zero, &zero)
    );
    for (number, identity, status) in [
        (1, json!({"mac": "1"}), "accepted"),
        (2, json!({"mac": "2", "tier": "micro"}), "accepted"),
        (3, json!({"mac": "3", "tier": "system"}), "pending"),
        (4, json!({"mac": "micro"}), "pending"),
        (5, json!({"mac": "5"}), "rejected"),
    ] {
        rig.accept(&id(number), identity, status, 1).await;
    }
    let expected = counts(
        &json!({"standard": 1, "micro": 1, "system": 0}),
        &json!({"standard": 1, "micro": 0, "system": 1}),
    );
    assert_eq!(rig.get(STATISTICS).await.ok(200).json(), expected);
    let internal = "/api/internal/v2/inventory/tenants//statistics";
    let answer = rig.internal(Method::GET, internal, None).await.ok(200);
    assert_eq!(answer.json(), expected);
    let other = "/api/internal/v2/inventory/tenants/t1/statistics";
    let answer = rig.internal(Method::GET, other, None).await.ok(200);
    assert_eq!(answer.json(), counts(&zero, &zero));
    let reindex = |device: u128, service: &str| {
        let device = id(device);
        format!("/api/internal/v1/inventory/tenants//devices/{device}/reindex?service={service}")
    };
    for (path, status) in [
        (reindex(1, "inventory"), 202),
        (reindex(1, "deployments"), 202),
        (reindex(1, "moon"), 400),
        (reindex(9, "inventory"), 404),
    ] {
        let answer = rig.internal(Method::POST, &path, None).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
    }
}
