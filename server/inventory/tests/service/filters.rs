use http::Method;
use serde_json::{Value, json};

use crate::rig::{FILTERS, Rig, id};

fn new_filter(name: &str) -> Option<Value> {
    let term = json!({"scope": "inventory", "attribute": "a", "type": "$gte", "value": 2});
    Some(json!({"name": name, "terms": [term]}))
}

async fn create(rig: &Rig, name: &str) -> String {
    let answer = rig
        .user(Method::POST, FILTERS, new_filter(name))
        .await
        .ok(201);
    let location = answer.headers["location"].to_str().unwrap();
    let (path, id) = location.rsplit_once('/').unwrap();
    assert!(path.ends_with("/filters"), "{location}");
    id.to_owned()
}

#[tokio::test]
async fn i28_filters_are_kept_under_unique_names() {
    let rig = Rig::new();
    let filter = create(&rig, "mine").await;
    assert_eq!(
        rig.user(Method::POST, FILTERS, new_filter("mine"))
            .await
            .error(409),
        "a filter with the same name already exists"
    );
    rig.user_of("t2", Method::POST, FILTERS, new_filter("mine"))
        .await
        .ok(201);
    let shown = rig.get(&format!("{FILTERS}/{filter}")).await.ok(200).json();
    assert_eq!(
        shown,
        json!({"id": filter, "name": "mine", "terms": new_filter("").unwrap()["terms"]})
    );
    for (body, text) in [
        (
            json!({"name": "x"}),
            "at least one filter term must be provided",
        ),
        (
            json!({"name": "x", "terms": []}),
            "at least one filter term must be provided",
        ),
        (
            json!({"name": "x", "terms": [{}]}),
            "validation failed for term: ",
        ),
        (
            json!({"name": "", "terms": new_filter("").unwrap()["terms"]}),
            "name: cannot be blank.",
        ),
        (
            json!({"terms": new_filter("").unwrap()["terms"]}),
            "name: cannot be blank.",
        ),
        (json!({"name": 5}), "failed to decode request body"),
    ] {
        let error = rig.user(Method::POST, FILTERS, Some(body)).await.error(400);
        assert!(error.contains(text), "{error}");
    }
    rig.user(Method::POST, FILTERS, None).await.error(400);
}

#[tokio::test]
async fn filters_are_listed_shown_and_removed() {
    let rig = Rig::new();
    assert_eq!(rig.get(FILTERS).await.ok(200).text, "[]");
    let first = create(&rig, "a").await;
    create(&rig, "b").await;
    create(&rig, "c").await;
    let page = rig.get(&format!("{FILTERS}?per_page=2")).await.ok(200);
    assert_eq!(
        (page.json().as_array().unwrap().len(), page.total()),
        (2, 3)
    );
    assert!(page.links().contains("next"), "{}", page.links());
    for _ in 0..2 {
        rig.user(Method::DELETE, &format!("{FILTERS}/{first}"), None)
            .await
            .ok(204);
    }
    assert_eq!(
        rig.get(&format!("{FILTERS}/{first}")).await.error(404),
        "filter not found"
    );
    rig.user(Method::DELETE, &format!("{FILTERS}/not-an-id"), None)
        .await
        .error(400);
    assert_eq!(
        rig.get(&format!("{FILTERS}/{first}/search"))
            .await
            .error(404),
        "filter not found"
    );
    assert_eq!(
        rig.user_of("t2", Method::GET, FILTERS, None).await.text,
        "[]"
    );
}

#[tokio::test]
async fn i29_filters_are_evaluated_when_they_are_run() {
    let rig = Rig::new();
    let filter = create(&rig, "live").await;
    let path = format!("{FILTERS}/{filter}/search");
    assert_eq!(rig.get(&path).await.ok(200).text, "[]");
    rig.fleet(&[json!({"a": 1}), json!({"a": 2}), json!({"a": 3})])
        .await;
    let answer = rig.get(&format!("{path}?per_page=1")).await.ok(200);
    assert_eq!((answer.ids(), answer.total()), (vec![id(2)], 2));
    assert!(answer.links().contains("next"), "{}", answer.links());
    assert_eq!(
        rig.get(&format!("{path}?per_page=1&page=2")).await.ids(),
        [id(3)]
    );
    rig.get(&format!("{path}?page=0")).await.error(400);
}
