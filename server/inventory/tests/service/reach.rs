//! Users whose roles reach some groups only (U20).

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use crate::rig::{Answer, DEVICES, FILTERS, GROUPS, Rig, id};

/// Devices 1 to 6: two in `test`, two in `production`, two in none; a user who reaches `test` and device 5.
struct World {
    rig: Rig,
    token: String,
}

impl World {
    async fn new() -> World {
        let rig = Rig::new();
        let devices: Vec<Value> = (1..=6).map(|n| json!({"n": n, "kind": "x"})).collect();
        rig.fleet(&devices).await;
        for (number, group) in [
            (1, "test"),
            (2, "test"),
            (3, "production"),
            (4, "production"),
        ] {
            let path = format!("{DEVICES}/{}/group", id(number));
            let body = Some(json!({"group": group}));
            rig.user(Method::PUT, &path, body).await.ok(204);
        }
        let token = rig.token_of("", &format!("test/{}", id(5)));
        World { rig, token }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        self.rig.with_token(&self.token, method, path, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Value::Null).await
    }
}

fn ids(numbers: &[u128]) -> Vec<String> {
    numbers.iter().map(|number| id(*number)).collect()
}

#[tokio::test]
async fn lists_and_searches_show_what_is_reached() {
    let world = World::new().await;
    let all = world.get(DEVICES).await.ok(200);
    assert_eq!((all.ids(), all.total()), (ids(&[1, 2, 5]), 3));
    let page = world
        .get(&format!("{DEVICES}?per_page=2&page=2"))
        .await
        .ok(200);
    assert_eq!((page.ids(), page.total()), (ids(&[5]), 3));
    assert!(!page.links().contains("next"));
    for (query, wanted) in [
        ("group=test", ids(&[1, 2])),
        ("group=production", ids(&[])),
        ("has_group=false", ids(&[5])),
        ("kind=x", ids(&[1, 2, 5])),
        ("n=3", ids(&[])),
        ("identity/status=accepted", ids(&[1, 2, 5])),
    ] {
        let answer = world.get(&format!("{DEVICES}?{query}")).await.ok(200);
        assert_eq!(answer.ids(), wanted, "{query}");
        assert_eq!(answer.total(), wanted.len() as u64, "{query}");
    }
    let search = format!("{FILTERS}/search");
    let term = |attribute: &str, kind: &str, value: Value| json!({"scope": "inventory", "attribute": attribute, "type": kind, "value": value});
    for (body, wanted) in [
        (json!({}), ids(&[1, 2, 5])),
        (
            json!({"filters": [term("n", "$gte", json!(2))]}),
            ids(&[2, 5]),
        ),
        (
            json!({"filters": [term("n", "$nin", json!([1]))]}),
            ids(&[2, 5]),
        ),
        (json!({"device_ids": [id(2), id(3), id(6)]}), ids(&[2])),
        (
            json!({"sort": [{"scope": "inventory", "attribute": "n", "order": "desc"}]}),
            ids(&[5, 2, 1]),
        ),
        (
            json!({"filters": [{"scope": "system", "attribute": "group", "type": "$ne", "value": "test"}]}),
            ids(&[5]),
        ),
    ] {
        let answer = world
            .call(Method::POST, &search, body.clone())
            .await
            .ok(200);
        assert_eq!(
            (answer.ids(), answer.total()),
            (wanted.clone(), wanted.len() as u64),
            "{body}"
        );
    }
    let filter = json!({"name": "f", "terms": [term("kind", "$eq", json!("x"))]});
    let created = world.call(Method::POST, FILTERS, filter).await.ok(201);
    let location = created.headers["location"].to_str().unwrap().to_owned();
    let answer = world
        .get(&format!("{location}/search?per_page=2"))
        .await
        .ok(200);
    assert_eq!((answer.ids(), answer.total()), (ids(&[1, 2]), 3));
}

#[tokio::test]
async fn a_device_out_of_reach_is_not_found() {
    let world = World::new().await;
    let device = |number: u128, rest: &str| format!("{DEVICES}/{}{rest}", id(number));
    for (number, there) in [(1, true), (5, true), (3, false), (6, false), (99, false)] {
        let answers = [
            world.get(&device(number, "")).await,
            world.get(&device(number, "/group")).await,
            world
                .call(
                    Method::PATCH,
                    &device(number, "/tags"),
                    json!([{"name": "t", "value": "v"}]),
                )
                .await,
            world
                .call(Method::PUT, &device(number, "/tags"), json!([]))
                .await,
        ];
        for answer in answers {
            if there {
                answer.ok(200);
            } else {
                assert_eq!(answer.error(404), "Device not found", "{number}");
            }
        }
    }
    for number in [3, 6] {
        world
            .call(Method::DELETE, &device(number, ""), Value::Null)
            .await
            .error(404);
        world
            .call(
                Method::PUT,
                &device(number, "/group"),
                json!({"group": "test"}),
            )
            .await
            .error(404);
    }
    world
        .call(Method::DELETE, &device(3, "/group/production"), Value::Null)
        .await
        .error(404);
    assert_eq!(
        world.rig.shown(&id(3)).await["inventory/n"],
        3,
        "nothing was changed"
    );
    assert_eq!(world.rig.shown(&id(3)).await["system/group"], "production");
    // What is reached may be moved out of reach, as in the reference.
    world
        .call(
            Method::PUT,
            &device(2, "/group"),
            json!({"group": "production"}),
        )
        .await
        .ok(204);
    world.get(&device(2, "")).await.error(404);
}

#[tokio::test]
async fn groups_out_of_reach_are_not_there() {
    let world = World::new().await;
    assert_eq!(world.get(GROUPS).await.ok(200).json(), json!(["test"]));
    let members = |group: &str| format!("{GROUPS}/{group}/devices");
    let answer = world.get(&members("test")).await.ok(200);
    assert_eq!((answer.json(), answer.total()), (json!(ids(&[1, 2])), 2));
    world.get(&members("production")).await.error(404);
    let list = json!(ids(&[1, 3, 5, 6, 99]));
    let added = world
        .call(Method::PATCH, &members("test"), list.clone())
        .await
        .ok(200);
    assert_eq!(
        added.json(),
        json!({"updated_count": 1, "matched_count": 2})
    );
    assert_eq!(world.rig.shown(&id(3)).await["system/group"], "production");
    let removed = world
        .call(Method::DELETE, &members("production"), list)
        .await
        .ok(200);
    assert_eq!(removed.json()["updated_count"], 0);
    world
        .call(Method::DELETE, &format!("{GROUPS}/production"), Value::Null)
        .await
        .error(404);
    assert_eq!(world.rig.shown(&id(4)).await["system/group"], "production");
    world
        .call(Method::DELETE, &format!("{GROUPS}/test"), Value::Null)
        .await
        .ok(200);
}
