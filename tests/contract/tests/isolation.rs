//! Two tenants, and nothing of one ever shows to the other or is changed by it.
//!
//! The routes come from the served document: every operation of the public listener is called as the
//! second tenant with every id of the first one wherever its path takes one, with several bodies that name
//! the first one's things. No answer may hold anything of the first tenant, and what the first tenant sees
//! of itself must be the same afterwards.

use std::collections::BTreeMap;

use ambidex_harness::{Scratch, api, artifact, flow};
use ambidex_test_contract::{Call, DeviceKey, Guard, Listener, Operation, Tenant, World};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Everything of the first tenant that the second one must not see, and the ids it knows nevertheless.
struct Secrets {
    ids: Vec<String>,
    texts: Vec<String>,
}

/// Fills a tenant with one of everything.
async fn furnish(
    world: &World,
    scratch: &Scratch,
    tenant: &Tenant,
    name: &str,
) -> Result<(Secrets, String)> {
    let (device, device_token) = world.device(tenant, &DeviceKey::new(name)).await?;
    let by = |operation: &str| Call::new(operation).by(&tenant.user);
    let attribute = format!("{name}-value");
    let attributes = json!([{ "name": format!("{name}-attribute"), "value": attribute }]);
    raw(
        world,
        "PATCH",
        "/api/devices/v1/inventory/device/attributes",
        &device_token,
        Some(&attributes),
    )
    .await?;
    let group = format!("{name}-group");
    let path = format!("/api/management/v1/inventory/devices/{device}/group");
    raw(
        world,
        "PUT",
        &path,
        &tenant.user,
        Some(&json!({ "group": group })),
    )
    .await?;
    let filter = json!({ "name": format!("{name}-filter"), "terms": [
        { "scope": "inventory", "attribute": format!("{name}-attribute"), "type": "$eq", "value": attribute }] });
    let filter = world
        .send(by("inventory_create_filter").json(filter))
        .await?
        .created();
    let email = format!("second@{name}.example");
    let user = json!({ "email": email, "password": "correct horse battery" });
    let (status, body, location) = raw(
        world,
        "POST",
        "/api/management/v1/useradm/users",
        &tenant.user,
        Some(&user),
    )
    .await?;
    anyhow::ensure!(status == 201, "a user: {status} {body}");
    let user = location.rsplit('/').next().unwrap_or_default().to_owned();
    let settings = json!({ "note": format!("{name}-settings") });
    raw(
        world,
        "POST",
        "/api/management/v1/useradm/settings",
        &tenant.user,
        Some(&settings),
    )
    .await?;
    let sets = raw(
        world,
        "GET",
        &format!("/api/management/v2/devauth/devices/{device}"),
        &tenant.user,
        None,
    )
    .await?;
    let sets: Value = serde_json::from_str(&sets.1)?;
    let set = sets["auth_sets"][0]["id"]
        .as_str()
        .context("no auth set")?
        .to_owned();
    let artifact = upload(world, scratch, tenant, name).await?;
    let deployment = json!({ "name": format!("{name}-deployment"), "artifact_name": format!("{name}-artifact"),
        "devices": [device] });
    let (status, body, location) = raw(
        world,
        "POST",
        "/api/management/v1/deployments/deployments",
        &tenant.user,
        Some(&deployment),
    )
    .await?;
    anyhow::ensure!(status == 201, "a deployment: {status} {body}");
    let deployment = location.rsplit('/').next().unwrap_or_default().to_owned();
    let secrets = Secrets {
        ids: vec![
            device,
            set,
            filter,
            user,
            artifact,
            deployment,
            tenant.id.clone(),
            group.clone(),
            format!("{name}-artifact"),
        ],
        texts: vec![
            format!("{name}-value"),
            format!("{name}-attribute"),
            format!("{name}-filter"),
            email,
            tenant.email.clone(),
            format!("{name}-settings"),
            format!("{name}-deployment"),
            tenant.token.clone(),
        ],
    };
    Ok((secrets, device_token))
}

/// Uploads an artifact and returns its id.
async fn upload(world: &World, scratch: &Scratch, tenant: &Tenant, name: &str) -> Result<String> {
    let (image, file) = (
        scratch.path().join(name),
        scratch.path().join(format!("{name}.mender")),
    );
    std::fs::write(&image, name)?;
    artifact::write_rootfs_image(&format!("{name}-artifact"), "board", &image, None, &file).await?;
    let bytes = std::fs::read(&file)?;
    let part = reqwest::multipart::Part::bytes(bytes).file_name("a.mender");
    let form = reqwest::multipart::Form::new().part("artifact", part);
    let answer = api::http_client(None)?
        .post(format!(
            "{}/api/management/v1/deployments/artifacts",
            world.server.url()
        ))
        .bearer_auth(&tenant.user)
        .multipart(form)
        .send()
        .await?;
    let location = answer.headers().get("location").cloned();
    let status = answer.status();
    let text = answer.text().await?;
    let location = location.with_context(|| format!("an artifact: {status} {text}"))?;
    Ok(location
        .to_str()?
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Status, body and `Location` of a call.
async fn raw(
    world: &World,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&Value>,
) -> Result<(u16, String, String)> {
    let client = api::http_client(None)?;
    let url = format!("{}{path}", world.server.url());
    let mut request = client.request(method.parse()?, url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let location = answer
        .headers()
        .get("location")
        .and_then(|value| value.to_str().ok());
    let location = location.unwrap_or_default().to_owned();
    Ok((status, answer.text().await.unwrap_or_default(), location))
}

/// The path with every parameter filled from `ids`, in every combination of one id for all of them.
fn paths(operation: &Operation, ids: &[String]) -> Vec<String> {
    let names: Vec<&str> = operation
        .path
        .split(['{', '}'])
        .skip(1)
        .step_by(2)
        .collect();
    if names.is_empty() {
        return vec![operation.path.clone()];
    }
    let fill = |chosen: &[&String]| {
        let pairs = names.iter().zip(chosen);
        pairs.fold(operation.path.clone(), |path, (name, id)| {
            path.replace(&format!("{{{name}}}"), id)
        })
    };
    match names.len() {
        1 => ids.iter().map(|id| fill(&[id])).collect(),
        _ => ids
            .iter()
            .flat_map(|first| ids.iter().map(move |second| (first, second)))
            .map(|(first, second)| fill(&vec![first, second, second][..names.len().min(3)]))
            .collect(),
    }
}

/// Bodies that name the first tenant's things in the ways that operations take them.
fn bodies(secrets: &Secrets) -> Vec<Option<Value>> {
    let device = &secrets.ids[0];
    let group = &secrets.ids[7];
    let artifact = &secrets.ids[8];
    vec![
        None,
        Some(json!({})),
        Some(json!([device])),
        Some(json!({
            "status": "rejected", "group": "beta-group", "name": "beta-name", "artifact_name": artifact,
            "devices": [device], "device_ids": [device], "id": [device], "reason": "x", "plan": "os",
            "requested_plan": "os", "description": "beta", "filters": [], "tags": ["beta"], "notes": "beta",
            "terms": [{ "scope": "system", "attribute": "group", "type": "$eq", "value": group }],
        })),
        Some(json!([{ "name": "beta", "value": "beta" }])),
    ]
}

/// Operations that end the caller's own session or say nothing about tenants, and sockets.
fn left_out(operation: &Operation) -> bool {
    operation.listener != Listener::Public
        || !matches!(operation.guard, Guard::User | Guard::Device)
        || operation.path.ends_with("/auth/logout")
        || operation.path.ends_with("/connect")
        || operation.path.ends_with("/playback")
        || operation.path.contains("openapi")
}

/// What the first tenant sees of itself: every reading operation with its own ids.
async fn portrait(
    world: &World,
    tenant: &Tenant,
    device: &str,
    secrets: &Secrets,
) -> Result<BTreeMap<String, String>> {
    let mut seen = BTreeMap::new();
    for operation in world.document.operations() {
        if left_out(operation) || operation.method != "GET" {
            continue;
        }
        let token = if operation.guard == Guard::User {
            &tenant.user
        } else {
            device
        };
        // A poll and a download link change with every call.
        if operation.guard == Guard::Device
            || operation.path.contains("download")
            || operation.path.ends_with("2faqr")
        {
            continue;
        }
        for path in paths(operation, &secrets.ids) {
            let (status, body, _) = raw(world, "GET", &path, token, None).await?;
            if status == 200 {
                seen.insert(path, settled(&body));
            }
        }
    }
    Ok(seen)
}

/// A body without the moment of the device's last sign of life, which is written a little later.
fn settled(body: &str) -> String {
    fn settle(value: &mut Value) {
        match value {
            Value::Array(items) => {
                items.retain(|item| item["name"] != "check_in_time");
                items.iter_mut().for_each(settle);
            }
            Value::Object(fields) => {
                fields.retain(|name, _| name != "check_in_time");
                fields.values_mut().for_each(settle);
            }
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::from_str(body) else {
        return body.to_owned();
    };
    settle(&mut value);
    value.to_string()
}

#[test]
fn nothing_of_one_tenant_shows_to_another_or_is_changed_by_it() {
    flow("isolation", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let alpha = world.tenant("alpha", "enterprise").await?;
        let mut beta = world.tenant("beta", "enterprise").await?;
        let (secrets, alpha_device) = furnish(&world, &scratch, &alpha, "alpha").await?;
        let (_, beta_device) = world.device(&beta, &DeviceKey::new("beta")).await?;
        let before = portrait(&world, &alpha, &alpha_device, &secrets).await?;
        anyhow::ensure!(
            before.len() > 20,
            "the portrait is thin: {:?}",
            before.keys()
        );
        for text in &secrets.texts {
            let shown = before.values().any(|body| body.contains(text));
            anyhow::ensure!(shown, "{text} is nowhere, so it proves nothing");
        }

        // An id that the second tenant has written itself may come back to it. So first it only reads, and
        // neither ids nor texts may show; then it does everything, and the texts may not.
        let mut leaks = Vec::new();
        let mut calls = 0;
        for reading in [true, false] {
            for operation in world.document.operations() {
                if left_out(operation) || (reading && operation.method != "GET") {
                    continue;
                }
                let all = bodies(&secrets);
                let bodies = if operation.method == "GET" {
                    &all[..1]
                } else {
                    &all[..]
                };
                for path in paths(operation, &secrets.ids) {
                    for body in bodies {
                        let token = match operation.guard {
                            Guard::User => beta.user.clone(),
                            _ => beta_device.clone(),
                        };
                        let (status, text, location) =
                            raw(&world, &operation.method, &path, &token, body.as_ref()).await?;
                        calls += 1;
                        if status == 401 && operation.guard == Guard::User {
                            // It ended its own session; that is its own business.
                            beta.user = world.login(&beta.email).await?;
                        }
                        let name = format!("{} {path}", operation.method);
                        let ids = secrets
                            .ids
                            .iter()
                            .filter(|id| reading && !path.contains(*id));
                        for secret in ids.chain(&secrets.texts) {
                            if text.contains(secret) || location.contains(secret) {
                                leaks.push(format!("{name} shows {secret}: {text}"));
                            }
                        }
                        if status >= 500 {
                            leaks.push(format!("{name} {body:?} fails: {status}"));
                        }
                    }
                }
            }
        }
        assert!(leaks.is_empty(), "{leaks:#?}");
        assert!(calls > 1000, "only {calls} calls");
        let after = portrait(&world, &alpha, &alpha_device, &secrets).await?;
        for (path, body) in &before {
            assert_eq!(
                after.get(path),
                Some(body),
                "{path} was changed by the other tenant"
            );
        }
        assert_eq!(before.len(), after.len());
        Ok(())
    });
}
