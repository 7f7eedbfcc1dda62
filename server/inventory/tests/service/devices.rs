use http::Method;
use serde_json::json;

use crate::rig::{DEVICES, Rig, id, list};

#[tokio::test]
async fn i7_an_accepted_device_has_three_kinds_of_attributes() {
    let rig = Rig::new();
    rig.accept(&id(1), json!({"mac": "m", "sn": "1"}), "accepted", 2)
        .await;
    rig.device(&id(1), Method::PATCH, list(json!({"a": 1, "b": 2, "c": 3})))
        .await
        .ok(200);
    rig.user(
        Method::PUT,
        &format!("{DEVICES}/{}/group", id(1)),
        Some(json!({"group": "g"})),
    )
    .await
    .ok(204);
    let shown = rig.shown(&id(1)).await;
    let count = |scope: &str| shown.keys().filter(|key| key.starts_with(scope)).count();
    assert_eq!(
        (count("inventory/"), count("identity/"), count("system/")),
        (3, 3, 3)
    );
    assert_eq!(shown["identity/status"], "accepted");
    assert_eq!(shown["system/group"], "g");
}

#[tokio::test]
async fn i8_i9_queries_compare_texts_and_numbers() {
    let rig = Rig::new();
    rig.fleet(&[
        json!({"mac": "de:ad:be:ef", "n": 5}),
        json!({"mac": "eq", "n": "5"}),
        json!({"n": 5.5, "t": ["5", "6"]}),
    ])
    .await;
    let found = async |query: &str| rig.get(&format!("{DEVICES}?{query}")).await.ok(200).ids();
    assert_eq!(found("mac=de:ad:be:ef").await, [id(1)]);
    assert_eq!(found("mac=eq:de:ad:be:ef").await, [id(1)]);
    assert_eq!(found("mac=eq:eq").await, [id(2)]);
    assert_eq!(found("n=eq:5").await, [id(1), id(2)]);
    assert_eq!(found("n=5.0").await, [id(1)]);
    assert_eq!(found("inventory/n=5.5").await, [id(3)]);
    assert_eq!(found("t=6").await, [id(3)]);
    assert_eq!(found("identity/mac=m2").await, [id(2)]);
    assert_eq!(found("identity/status=accepted&n=5").await, [id(1), id(2)]);
    assert_eq!(found("mac=nan").await, Vec::<String>::new());
    let error = rig.get(&format!("{DEVICES}?nowhere/n=5")).await.error(400);
    assert!(error.contains("scope"), "{error}");
}

#[tokio::test]
async fn i10_lists_are_sorted_by_several_keys() {
    let rig = Rig::new();
    rig.fleet(&[
        json!({"n": 2, "k": "a"}),
        json!({"n": 10, "k": "b"}),
        json!({"n": 2, "k": "c"}),
        json!({}),
    ])
    .await;
    let found = async |query: &str| rig.get(&format!("{DEVICES}?{query}")).await.ok(200).ids();
    assert_eq!(found("").await, [id(1), id(2), id(3), id(4)]);
    assert_eq!(
        found("sort=n:asc,k:desc").await,
        [id(4), id(3), id(1), id(2)]
    );
    assert_eq!(found("sort=n").await, [id(2), id(1), id(3), id(4)]);
    assert_eq!(
        found("sort=inventory/k:asc").await,
        [id(4), id(1), id(2), id(3)]
    );
    assert_eq!(
        found("sort=system/created_ts:desc").await,
        [id(4), id(3), id(2), id(1)]
    );
    assert_eq!(found("sort=n:asc&page=2&per_page=2").await, [id(3), id(2)]);
    assert_eq!(
        rig.get(&format!("{DEVICES}?sort=n:up")).await.error(400),
        "invalid sort order"
    );
}

#[tokio::test]
async fn i11_grouped_and_ungrouped_devices() {
    let rig = Rig::new();
    rig.fleet(&[json!({}), json!({}), json!({})]).await;
    rig.user(
        Method::PUT,
        &format!("{DEVICES}/{}/group", id(2)),
        Some(json!({"group": "g"})),
    )
    .await
    .ok(204);
    let found = async |query: &str| rig.get(&format!("{DEVICES}?{query}")).await.ok(200).ids();
    assert_eq!(found("has_group=false").await, [id(1), id(3)]);
    assert_eq!(found("has_group=true").await, [id(2)]);
    assert_eq!(found("group=g").await, [id(2)]);
    assert_eq!(found("group=h").await, Vec::<String>::new());
    assert_eq!(
        rig.get(&format!("{DEVICES}?has_group=x")).await.error(400),
        "Can't parse param has_group"
    );
}

#[tokio::test]
async fn i12_lists_count_and_link() {
    let rig = Rig::new();
    let devices: Vec<_> = (0..25).map(|n| json!({"n": n})).collect();
    rig.fleet(&devices).await;
    let first = rig.get(DEVICES).await.ok(200);
    assert_eq!((first.ids().len(), first.total()), (20, 25));
    assert!(first.links().contains("rel=\"next\""), "{}", first.links());
    let middle = rig
        .get(&format!("{DEVICES}?per_page=10&page=2&has_group=false"))
        .await
        .ok(200);
    for relation in ["first", "prev", "next"] {
        assert!(
            middle.links().contains(&format!("rel=\"{relation}\"")),
            "{}",
            middle.links()
        );
    }
    assert!(
        middle.links().contains("has_group=false"),
        "{}",
        middle.links()
    );
    let last = rig
        .get(&format!("{DEVICES}?per_page=10&page=3&sort=n:asc"))
        .await
        .ok(200);
    assert_eq!((last.ids().len(), last.total()), (5, 25));
    assert!(!last.links().contains("next"), "{}", last.links());
    let past = rig.get(&format!("{DEVICES}?page=9")).await.ok(200);
    assert_eq!((past.text.as_str(), past.total()), ("[]", 25));
    for query in ["page=0", "per_page=501", "page=x"] {
        rig.get(&format!("{DEVICES}?{query}")).await.error(400);
    }
}

#[tokio::test]
async fn i13_an_unknown_device() {
    let rig = Rig::new();
    assert_eq!(
        rig.get(&format!("{DEVICES}/{}", id(1))).await.error(404),
        "Device not found"
    );
}

#[tokio::test]
async fn removing_an_inventory_leaves_the_device() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1})]).await;
    rig.user(
        Method::PUT,
        &format!("{DEVICES}/{}/group", id(1)),
        Some(json!({"group": "g"})),
    )
    .await
    .ok(204);
    for _ in 0..2 {
        rig.user(Method::DELETE, &format!("{DEVICES}/{}", id(1)), None)
            .await
            .ok(204);
    }
    rig.user(Method::DELETE, &format!("{DEVICES}/{}", id(9)), None)
        .await
        .ok(204);
    let shown = rig.shown(&id(1)).await;
    assert!(!shown.contains_key("inventory/a"));
    assert_eq!(
        (&shown["identity/status"], &shown["system/group"]),
        (&json!("accepted"), &json!("g"))
    );
    rig.device(&id(1), Method::PATCH, list(json!({"b": 1})))
        .await
        .ok(200);
    assert_eq!(rig.shown(&id(1)).await["inventory/b"], 1);
}

#[tokio::test]
async fn t9_tenants_do_not_see_each_other() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1})]).await;
    rig.user(
        Method::PUT,
        &format!("{DEVICES}/{}/group", id(1)),
        Some(json!({"group": "g"})),
    )
    .await
    .ok(204);
    let other = async |method, path: &str, body| rig.user_of("t2", method, path, body).await;
    assert_eq!(other(Method::GET, DEVICES, None).await.text, "[]");
    let device = format!("{DEVICES}/{}", id(1));
    other(Method::GET, &device, None).await.error(404);
    other(Method::GET, &format!("{device}/group"), None)
        .await
        .error(404);
    other(
        Method::PUT,
        &format!("{device}/group"),
        Some(json!({"group": "h"})),
    )
    .await
    .error(404);
    other(Method::DELETE, &format!("{device}/group/g"), None)
        .await
        .error(404);
    other(Method::DELETE, &device, None).await.ok(204);
    assert_eq!(
        other(Method::GET, "/api/management/v1/inventory/groups", None)
            .await
            .text,
        "[]"
    );
    other(
        Method::GET,
        "/api/management/v1/inventory/groups/g/devices",
        None,
    )
    .await
    .error(404);
    let update = other(
        Method::PATCH,
        "/api/management/v1/inventory/groups/h/devices",
        Some(json!([id(1)])),
    )
    .await
    .ok(200);
    assert_eq!(
        update.json(),
        json!({"updated_count": 0, "matched_count": 0})
    );
    assert_eq!(
        other(
            Method::POST,
            "/api/management/v2/inventory/filters/search",
            Some(json!({}))
        )
        .await
        .total(),
        0
    );
    assert_eq!(
        other(
            Method::GET,
            "/api/management/v2/inventory/filters/attributes",
            None
        )
        .await
        .text,
        "[]"
    );
    let shown = rig.shown(&id(1)).await;
    assert_eq!(
        (&shown["inventory/a"], &shown["system/group"]),
        (&json!(1), &json!("g"))
    );
}
