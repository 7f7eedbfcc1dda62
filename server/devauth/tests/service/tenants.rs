use std::sync::Arc;

use ambidex_access::{Addon, TenantId};
use ambidex_devauth::Settings;
use ambidex_devauth::ports::{TenantInfo, TenantRefusal, Tenants};
use ambidex_kit::BoxFuture;
use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::rig::{DEVICES, Device, INTERNAL, Rig};

/// Tokens are `token-<tenant>`.
struct Registry;

impl Tenants for Registry {
    fn verify_token(&self, token: String) -> BoxFuture<'_, Result<TenantInfo, TenantRefusal>> {
        Box::pin(async move {
            match token.strip_prefix("token-") {
                Some("suspended") => Err(TenantRefusal::Refused("Account suspended".into())),
                Some("down") => Err(TenantRefusal::Failed("no connection".into())),
                Some("basic") => Ok(TenantInfo {
                    id: TenantId::new("basic"),
                    plan: "os".into(),
                    trial: Some(false),
                    addons: vec![Addon {
                        name: "configure".into(),
                        enabled: false,
                    }],
                }),
                Some(id) => Ok(TenantInfo {
                    id: TenantId::new(id),
                    plan: "os".into(),
                    trial: Some(false),
                    addons: Addon::all_enabled(),
                }),
                None => Err(TenantRefusal::Refused("tenant token invalid".into())),
            }
        })
    }
}

fn rig(default_tenant_token: Option<&str>) -> Rig {
    let settings = Settings {
        default_tenant_token: default_tenant_token.map(str::to_owned),
        ..Settings::default()
    };
    Rig::with(Some(Arc::new(Registry)), settings)
}

async fn listed(rig: &Rig, tenant: &str) -> usize {
    let list = rig
        .user_of(tenant, Method::GET, DEVICES, None)
        .await
        .ok(200)
        .json();
    list.as_array().unwrap().len()
}

#[tokio::test]
async fn t5_a_device_names_its_tenant() {
    let rig = rig(None);
    let device = Device::new("t5");
    assert_eq!(
        rig.authenticate(&device).await.error(401),
        "tenant token missing"
    );
    let with = |token: &str| {
        let mut body = device.body();
        body["tenant_token"] = json!(token);
        body
    };
    assert_eq!(
        rig.authenticate_with(&device, with("")).await.error(401),
        "tenant token missing"
    );
    assert_eq!(
        rig.authenticate_with(&device, with("nonsense"))
            .await
            .error(401),
        "tenant token invalid"
    );
    assert_eq!(
        rig.authenticate_with(&device, with("token-suspended"))
            .await
            .error(401),
        "Account suspended"
    );
    assert_eq!(
        rig.authenticate_with(&device, with("token-down"))
            .await
            .error(500),
        "internal error"
    );
    assert_eq!(
        (listed(&rig, "").await, listed(&rig, "t1").await),
        (0, 0),
        "nothing is stored"
    );
    assert_eq!(
        rig.authenticate_with(&device, with("token-t1"))
            .await
            .error(401),
        "dev auth: unauthorized"
    );
    assert_eq!((listed(&rig, "").await, listed(&rig, "t1").await), (0, 1));
}

#[tokio::test]
async fn a_default_tenant_takes_devices_without_a_token() {
    let rig = rig(Some("token-home"));
    rig.authenticate(&Device::new("a")).await.ok(401);
    assert_eq!(listed(&rig, "home").await, 1);
}

#[tokio::test]
async fn t9_tenants_do_not_see_each_other() {
    let rig = rig(None);
    let device = Device::new("same");
    let with = |tenant: &str| {
        let mut body = device.body();
        body["tenant_token"] = json!(format!("token-{tenant}"));
        body
    };
    for tenant in ["t1", "t2"] {
        rig.authenticate_with(&device, with(tenant)).await.ok(401);
    }
    let shown = rig.user_of("t1", Method::GET, DEVICES, None).await.json()[0].clone();
    let (id, set) = (
        shown["id"].as_str().unwrap(),
        shown["auth_sets"][0]["id"].as_str().unwrap(),
    );
    let as_other = async |method: Method, path: String, body| {
        rig.user_of("t2", method, &path, body).await.status.as_u16()
    };
    assert_eq!(
        as_other(Method::GET, format!("{DEVICES}/{id}"), None).await,
        404
    );
    assert_eq!(
        as_other(Method::DELETE, format!("{DEVICES}/{id}"), None).await,
        404
    );
    assert_eq!(
        as_other(Method::DELETE, format!("{DEVICES}/{id}/auth/{set}"), None).await,
        404
    );
    assert_eq!(
        as_other(
            Method::GET,
            format!("{DEVICES}/{id}/auth/{set}/status"),
            None
        )
        .await,
        404
    );
    assert_eq!(
        as_other(
            Method::PUT,
            format!("{DEVICES}/{id}/auth/{set}/status"),
            Some(json!({"status": "accepted"}))
        )
        .await,
        404
    );
    assert_eq!(
        as_other(Method::GET, format!("{DEVICES}?id={id}"), None).await,
        200
    );
    assert_eq!(
        rig.user_of("t2", Method::GET, &format!("{DEVICES}?id={id}"), None)
            .await
            .json(),
        json!([])
    );

    rig.user_of(
        "t1",
        Method::PUT,
        &format!("{DEVICES}/{id}/auth/{set}/status"),
        Some(json!({"status": "accepted"})),
    )
    .await
    .ok(204);
    rig.authenticate_with(&device, with("t2")).await.ok(401);
    let token = rig
        .authenticate_with(&device, with("t1"))
        .await
        .ok(200)
        .text;
    assert_eq!(rig.verify(&token).await, 200);
    assert_eq!(
        as_other(
            Method::DELETE,
            format!("/api/management/v2/devauth/tokens/{set}"),
            None
        )
        .await,
        404
    );
    let status = rig
        .internal(
            Method::GET,
            &format!("{INTERNAL}/tenants/t1/devices/{id}/status"),
            None,
        )
        .await
        .ok(200)
        .json();
    assert_eq!(status, json!({"status": "accepted"}));
    rig.internal(
        Method::DELETE,
        &format!("{INTERNAL}/tokens?tenant_id=t1"),
        None,
    )
    .await
    .ok(204);
    assert_eq!(rig.verify(&token).await, 401);
}

#[tokio::test]
async fn services_of_addons_are_closed_without_them() {
    let rig = rig(None);
    let device = Device::new("addons");
    let ask = async |tenant: &str| {
        let mut body = device.body();
        body["tenant_token"] = json!(format!("token-{tenant}"));
        rig.authenticate_with(&device, body).await
    };
    let mut tokens = Vec::new();
    for tenant in ["basic", "t1"] {
        ask(tenant).await.ok(401);
        let shown = rig.user_of(tenant, Method::GET, DEVICES, None).await.json()[0].clone();
        let (id, set) = (
            shown["id"].as_str().unwrap(),
            shown["auth_sets"][0]["id"].as_str().unwrap(),
        );
        let path = format!("{DEVICES}/{id}/auth/{set}/status");
        rig.user_of(
            tenant,
            Method::PUT,
            &path,
            Some(json!({"status": "accepted"})),
        )
        .await
        .ok(204);
        tokens.push(ask(tenant).await.ok(200).text);
    }
    let internal = ambidex_kit::front(rig.devauth.internal_routes());
    let verify = async |token: &str, header: &str, uri: &str| {
        let request = Request::post(format!("{INTERNAL}/tokens/verify"))
            .header("authorization", format!("Bearer {token}"))
            .header(header, uri)
            .body(Body::empty())
            .unwrap();
        rig.send(&internal, request).await
    };
    let configuration = "/api/devices/v1/deviceconfig/configuration?x=1";
    for header in ["X-Original-URI", "X-Forwarded-Uri"] {
        assert_eq!(
            verify(&tokens[0], header, configuration).await.error(403),
            "operation requires addon: configure"
        );
        verify(
            &tokens[0],
            header,
            "/api/devices/v1/inventory/device/attributes?deviceconfig",
        )
        .await
        .ok(200);
        verify(&tokens[1], header, configuration).await.ok(200);
    }
    let monitor = verify(
        &tokens[0],
        "X-Original-URI",
        "/api/devices/v1/devicemonitor/alert",
    )
    .await;
    assert_eq!(monitor.error(403), "operation requires addon: monitor");
}

#[tokio::test]
async fn other_parts_tell_when_a_device_was_seen_and_remove_it() {
    let rig = rig(None);
    let device = Device::new("seen");
    let mut body = device.body();
    body["tenant_token"] = json!("token-t1");
    rig.authenticate_with(&device, body).await.ok(401);
    let shown = async || {
        let list = rig.user_of("t1", Method::GET, DEVICES, None).await;
        list.ok(200).json()
    };
    let id = shown().await[0]["id"].as_str().unwrap().to_owned();
    let path = |tenant: &str| format!("{INTERNAL}/tenants/{tenant}/devices/{id}");
    let seen = |time: &str| Some(json!({ "check_in_time": time }));
    for (time, after) in [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        // An older time changes nothing.
        ("2025-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T05:04:05.5+01:00", "2026-01-02T04:04:05.5Z"),
    ] {
        rig.internal(Method::PATCH, &path("t1"), seen(time))
            .await
            .ok(204);
        assert_eq!(shown().await[0]["check_in_time"], after);
    }
    let told = rig.neighbours.seen.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "the inventory hears of one time a day");
    let patch = async |tenant: &str, body: Option<Value>| {
        rig.internal(Method::PATCH, &path(tenant), body).await
    };
    patch("t1", Some(json!({}))).await.ok(204);
    patch("t1", seen("yesterday")).await.error(400);
    patch("t1", Some(json!([]))).await.error(400);
    patch("t2", seen("2026-01-02T03:04:05Z")).await.error(404);
    patch("t2", Some(json!({}))).await.error(404);
    rig.internal(Method::DELETE, &path("t2"), None)
        .await
        .error(404);
    assert_eq!(shown().await[0]["id"], id.as_str());
    rig.internal(Method::DELETE, &path("t1"), None)
        .await
        .ok(204);
    assert_eq!(shown().await, json!([]));
    rig.internal(Method::DELETE, &path("t1"), None)
        .await
        .error(404);
}
