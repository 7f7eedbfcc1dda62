use ambidex_harness::{artifact, flow};
use ambidex_test_contract::{Call, DeviceKey, PASSWORD, Tenant, World};
use anyhow::{Context as _, Result};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::complete;

const NOBODY: &str = "6f4a1c5e-0d5e-4b7c-9f51-6f6d2a2b3c4d";
const TYPE: &str = "contract-board";

/// A tenant with a device and a release that fits it.
struct Fleet<'a> {
    world: &'a World,
    tenant: Tenant,
    device: String,
    token: String,
    artifact: Vec<u8>,
}

impl Fleet<'_> {
    fn by(&self, name: &str) -> Call {
        Call::new(name).by(&self.tenant.user)
    }

    async fn deploy(&self, body: Value) -> Result<String> {
        let call = self.by("deployments_create_deployment").json(body);
        Ok(self.world.call(call, 201).await?.created())
    }

    fn poll(&self, artifact: &str) -> Call {
        Call::new("deployments_device_check_update")
            .query("artifact_name", artifact)
            .query("device_type", TYPE)
            .by(&self.token)
    }

    fn report(&self, deployment: &str, status: &str) -> Call {
        Call::new("deployments_device_update_deployment_status")
            .at("id", deployment)
            .by(&self.token)
            .json(json!({ "status": status }))
    }
}

#[test]
fn deployments_answer_as_documented() {
    flow("contract-deployments", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let (device, token) = world.device(&tenant, &DeviceKey::new("aa:01")).await?;
        let file = scratch.join("release-2.mender");
        let image = scratch.join("image");
        std::fs::write(&image, [7_u8; 4096])?;
        artifact::write_rootfs_image("release-2", TYPE, &image, None, &file).await?;
        let fleet = Fleet {
            world: &world,
            artifact: std::fs::read(&file)?,
            tenant,
            device,
            token,
        };
        let id = artifacts(&fleet).await?;
        generated(&fleet).await?;
        creation(&fleet).await?;
        device_walk(&fleet).await?;
        aborted(&fleet).await?;
        dynamic(&fleet).await?;
        forbidden(&fleet).await?;
        removal(&fleet, &id).await?;
        internal(&fleet).await?;
        let nothing_is_204 = "no update is 204; the reference never answers 404 here either";
        complete(
            &world,
            &["deployments_"],
            &[
                ("deployments_device_check_update", 404, nothing_is_204),
                (
                    "deployments_device_check_update_depends",
                    404,
                    nothing_is_204,
                ),
            ],
        );
        Ok(())
    });
}

fn upload(bytes: Vec<u8>) -> Form {
    Form::new()
        .text("description", "first")
        .text("size", bytes.len().to_string())
        .part("artifact", Part::bytes(bytes).file_name("a.mender"))
}

async fn artifacts(fleet: &Fleet<'_>) -> Result<String> {
    let world = fleet.world;
    let send = |form: Form| fleet.by("deployments_upload_artifact").form(form);
    let made = world
        .call(send(upload(fleet.artifact.clone())), 201)
        .await?;
    let id = made.created();
    world
        .call(send(Form::new().text("description", "none")), 400)
        .await?;
    world
        .call(send(upload(b"not an artifact".to_vec())), 400)
        .await?;
    let mut damaged = fleet.artifact.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    world.call(send(upload(damaged)), 400).await?;
    let again = world.send(send(upload(fleet.artifact.clone()))).await?;
    assert_eq!(again.status, 409, "the same artifact twice");

    let list = world
        .call(fleet.by("deployments_list_artifacts"), 200)
        .await?;
    assert_eq!(list.json().as_array().map(Vec::len), Some(1));
    let releases = world
        .call(fleet.by("deployments_list_releases"), 200)
        .await?;
    assert_eq!(releases.json()[0]["name"], "release-2");
    let show = |id: &str| fleet.by("deployments_show_artifact").at("id", id);
    let shown = world.call(show(&id), 200).await?.json();
    assert_eq!(shown["name"], "release-2");
    assert_eq!(shown["description"], "first");
    world.call(show("no-uuid"), 400).await?;
    world.call(show(NOBODY), 404).await?;
    let update = |id: &str, body: Value| {
        fleet
            .by("deployments_update_artifact_info")
            .at("id", id)
            .json(body)
    };
    world
        .call(update(&id, json!({"description": "second"})), 204)
        .await?;
    world
        .call(update(&id, json!({"description": 5})), 400)
        .await?;
    world
        .call(update(NOBODY, json!({"description": "x"})), 404)
        .await?;
    let link = |id: &str| fleet.by("deployments_download_artifact").at("id", id);
    let answer = world.call(link(&id), 200).await?.json();
    let uri = answer["uri"].as_str().context("no uri")?;
    let http = ambidex_harness::api::http_client(None)?;
    let bytes = http.get(uri).send().await?.bytes().await?;
    assert_eq!(bytes, fleet.artifact, "the link gives what was uploaded");
    world.call(link("no-uuid"), 400).await?;
    world.call(link(NOBODY), 404).await?;
    let usage = world
        .call(fleet.by("deployments_get_storage_usage"), 200)
        .await?;
    assert_eq!(usage.json()["usage"], fleet.artifact.len());
    Ok(id)
}

async fn generated(fleet: &Fleet<'_>) -> Result<()> {
    let world = fleet.world;
    let send = |form: Form| fleet.by("deployments_generate_artifact").form(form);
    let fields = |name: &'static str| {
        Form::new()
            .text("name", name)
            .text("description", "made from a file")
            .text("device_types_compatible", TYPE)
            .text("type", "single_file")
            .text("args", r#"{"filename":"hello.txt","dest_dir":"/opt"}"#)
    };
    let file = || Part::bytes(b"hello".as_slice()).file_name("hello.txt");
    let made = world
        .call(send(fields("generated-1").part("file", file())), 201)
        .await?
        .created();
    world.call(send(fields("generated-2")), 400).await?;
    world
        .call(send(Form::new().part("file", file())), 400)
        .await?;
    let shown = ambidex_harness::wait_for(
        "the generated artifact",
        std::time::Duration::from_secs(15),
        async || {
            let call = fleet.by("deployments_show_artifact").at("id", &made);
            let answer = world.send(call).await?;
            Ok((answer.status == 200).then(|| answer.json()))
        },
    )
    .await?;
    assert_eq!(shown["updates"][0]["type_info"]["type"], "single-file");
    Ok(())
}

async fn creation(fleet: &Fleet<'_>) -> Result<()> {
    let world = fleet.world;
    let create = |body: Value| fleet.by("deployments_create_deployment").json(body);
    for bad in [
        json!({"artifact_name": "release-2", "devices": [fleet.device]}),
        json!({"name": "x", "devices": [fleet.device]}),
        json!({"name": "x", "artifact_name": "release-2"}),
        json!({"name": "x", "artifact_name": "release-2", "devices": [""]}),
        json!({"name": "x", "artifact_name": "release-2", "devices": ["a"], "all_devices": true}),
    ] {
        world.call(create(bad), 400).await?;
    }
    let unknown = json!({"name": "x", "artifact_name": "nothing", "devices": [fleet.device]});
    world.call(create(unknown), 422).await?;

    let group = |name: &str, body: Value| {
        fleet
            .by("deployments_create_deployment_for_a_group_of_devices")
            .at("name", name)
            .json(body)
    };
    let assign = fleet
        .by("inventory_assign_group")
        .at("id", &fleet.device)
        .json(json!({"group": "lab"}));
    world.call(assign, 204).await?;
    let body = json!({"name": "to the lab", "artifact_name": "release-2"});
    let made = world.call(group("lab", body.clone()), 201).await?.created();
    world.call(group("empty", body), 400).await?;
    let body = json!({"name": "x", "artifact_name": "nothing"});
    world.call(group("lab", body), 422).await?;
    let abort = fleet
        .by("deployments_abort_deployment")
        .at("deployment_id", &made)
        .json(json!({"status": "aborted"}));
    world.call(abort, 204).await?;

    let list = || fleet.by("deployments_list_deployments");
    let answer = world.call(list().query("status", "finished"), 200).await?;
    assert_eq!(answer.json()[0]["id"], made);
    world.call(list().query("status", "zzz"), 400).await?;
    world
        .call(list().query("created_after", "abc"), 400)
        .await?;
    Ok(())
}

async fn device_walk(fleet: &Fleet<'_>) -> Result<()> {
    let world = fleet.world;
    world.call(fleet.poll("release-1"), 204).await?;
    let missing = Call::new("deployments_device_check_update").by(&fleet.token);
    world.call(missing, 400).await?;
    let depends = |body: Value| {
        Call::new("deployments_device_check_update_depends")
            .by(&fleet.token)
            .json(body)
    };
    let provides = json!({"artifact_name": "release-1", "device_type": TYPE});
    world.call(depends(provides.clone()), 204).await?;
    world
        .call(depends(json!({"device_type": TYPE})), 400)
        .await?;

    let body = json!({"name": "one", "artifact_name": "release-2", "devices": [fleet.device]});
    let id = fleet.deploy(body).await?;
    let next = world.call(fleet.poll("release-1"), 200).await?.json();
    assert_eq!(next["id"], id);
    world.call(depends(provides), 200).await?;
    world.call(fleet.report(&id, "downloading"), 204).await?;
    world.call(fleet.report(&id, "aborted"), 400).await?;
    world.call(fleet.report(NOBODY, "downloading"), 404).await?;
    let log = |id: &str, body: Value| {
        Call::new("deployments_device_report_deployment_log")
            .at("id", id)
            .by(&fleet.token)
            .json(body)
    };
    let line = json!({"timestamp": "2026-01-02T03:04:05Z", "level": "INFO", "message": "written"});
    world
        .call(log(&id, json!({"messages": [line]})), 204)
        .await?;
    world.call(log(&id, json!({"messages": []})), 400).await?;
    world
        .call(log(NOBODY, json!({"messages": [line]})), 404)
        .await?;
    world.call(fleet.report(&id, "success"), 204).await?;
    views(fleet, &id).await
}

async fn views(fleet: &Fleet<'_>, id: &str) -> Result<()> {
    let world = fleet.world;
    for (name, key) in [
        ("deployments_show_deployment", "id"),
        ("deployments_deployment_status_statistics", "deployment_id"),
        ("deployments_list_devices_in_deployment", "deployment_id"),
        ("deployments_list_device_ids_in_deployment", "id"),
    ] {
        world.call(fleet.by(name).at(key, id), 200).await?;
        world.call(fleet.by(name).at(key, NOBODY), 404).await?;
        let malformed = world.send(fleet.by(name).at(key, "no-uuid")).await?;
        assert_eq!(malformed.status, 400, "{name}");
    }
    let log = |device: &str| {
        fleet
            .by("deployments_get_deployment_log_for_device")
            .at("deployment_id", id)
            .at("device_id", device)
    };
    let text = world.call(log(&fleet.device), 200).await?.text();
    assert!(text.contains("INFO: written"), "{text}");
    world.call(log(NOBODY), 404).await?;
    Ok(())
}

async fn aborted(fleet: &Fleet<'_>) -> Result<()> {
    let world = fleet.world;
    let body = json!({
        "name": "two", "artifact_name": "release-2", "devices": [fleet.device],
        "force_installation": true
    });
    let id = fleet.deploy(body).await?;
    world.call(fleet.poll("release-1"), 200).await?;
    let abort = |id: &str, body: Value| {
        fleet
            .by("deployments_abort_deployment")
            .at("deployment_id", id)
            .json(body)
    };
    world
        .call(abort(&id, json!({"status": "success"})), 400)
        .await?;
    world
        .call(abort(NOBODY, json!({"status": "aborted"})), 404)
        .await?;
    world
        .call(abort(&id, json!({"status": "aborted"})), 204)
        .await?;
    world
        .call(abort(&id, json!({"status": "aborted"})), 422)
        .await?;
    world.call(fleet.report(&id, "installing"), 409).await?;
    for device in [fleet.device.as_str(), NOBODY] {
        let remove = fleet
            .by("deployments_remove_device_from_deployments")
            .at("id", device);
        world.call(remove, 204).await?;
    }
    Ok(())
}

async fn dynamic(fleet: &Fleet<'_>) -> Result<()> {
    let world = fleet.world;
    let terms = json!([{"scope": "identity", "attribute": "mac", "type": "$eq", "value": "aa:01"}]);
    let filter = fleet
        .by("inventory_create_filter")
        .json(json!({"name": "one", "terms": terms}));
    let filter = world.call(filter, 201).await?.created();
    let create = |body: Value| fleet.by("deployments_v2_create_deployment").json(body);
    let body = json!({"name": "d", "artifact_name": "release-2", "filter_id": filter});
    let id = world.call(create(body), 201).await?.created();
    let shown = fleet.by("deployments_show_deployment").at("id", &id);
    let shown = world.call(shown, 200).await?.json();
    assert_eq!(shown["dynamic"], true);
    assert_eq!(shown["initial_device_count"], 1);
    let missing = json!({"name": "d", "artifact_name": "release-2"});
    world.call(create(missing), 400).await?;
    let unknown = json!({"name": "d", "artifact_name": "nothing", "filter_id": filter});
    world.call(create(unknown), 422).await?;
    let abort = fleet
        .by("deployments_abort_deployment")
        .at("deployment_id", &id)
        .json(json!({"status": "aborted"}));
    world.call(abort, 204).await?;
    Ok(())
}

/// A user who may deploy to one group only.
async fn forbidden(fleet: &Fleet<'_>) -> Result<()> {
    let world = fleet.world;
    let role = json!({
        "name": "lab-only",
        "permissions": [
            {"action": "http", "object": {"type": "any", "value": "^/api/management/"}},
            {"action": "CREATE_DEPLOYMENT", "object": {"type": "DEVICE_GROUP", "value": "elsewhere"}},
        ]
    });
    world
        .call(fleet.by("useradm_create_role").json(role), 201)
        .await?;
    let user = json!({"email": "lab@alpha.example", "password": PASSWORD, "roles": ["lab-only"]});
    world
        .call(fleet.by("useradm_create_user").json(user), 201)
        .await?;
    let token = world.login("lab@alpha.example").await?;
    let body = json!({"name": "x", "artifact_name": "release-2", "devices": [fleet.device]});
    let create = Call::new("deployments_create_deployment").by(&token);
    world.call(create.json(body), 403).await?;
    let filters = world.call(fleet.by("inventory_list_filters"), 200).await?;
    let body =
        json!({"name": "x", "artifact_name": "release-2", "filter_id": filters.json()[0]["id"]});
    let create = Call::new("deployments_v2_create_deployment").by(&token);
    world.call(create.json(body), 403).await?;
    Ok(())
}

async fn removal(fleet: &Fleet<'_>, id: &str) -> Result<()> {
    let world = fleet.world;
    let body = json!({"description": "used by now"});
    let update = fleet
        .by("deployments_update_artifact_info")
        .at("id", id)
        .json(body);
    world.call(update, 422).await?;
    let body = json!({"name": "three", "artifact_name": "release-2", "devices": ["d1"]});
    let deployment = fleet.deploy(body).await?;
    let delete = |id: &str| fleet.by("deployments_delete_artifact").at("id", id);
    world.call(delete(id), 409).await?;
    let abort = fleet
        .by("deployments_abort_deployment")
        .at("deployment_id", &deployment)
        .json(json!({"status": "aborted"}));
    world.call(abort, 204).await?;
    world.call(delete(id), 204).await?;
    world.call(delete(id), 404).await?;
    Ok(())
}

async fn internal(fleet: &Fleet<'_>) -> Result<()> {
    let world = fleet.world;
    let tenant = fleet.tenant.id.as_str();
    for name in [
        "deployments_internal_check_liveliness",
        "deployments_internal_check_health",
    ] {
        world.call(Call::new(name), 204).await?;
    }
    let create = |body: Value| Call::new("deployments_internal_create_tenant").json(body);
    world.call(create(json!({"tenant_id": "t9"})), 201).await?;
    world.call(create(json!({"tenant_id": ""})), 400).await?;
    let list = || Call::new("deployments_internal_get_deployments").at("id", tenant);
    let answer = world.call(list(), 200).await?;
    assert!(answer.headers.contains_key("x-total-count"));
    world.call(list().query("page", "0"), 400).await?;
    let send = |form: Form| {
        Call::new("deployments_internal_upload_artifact")
            .at("id", tenant)
            .form(form)
    };
    world
        .call(send(upload(fleet.artifact.clone())), 201)
        .await?;
    world.call(send(Form::new().text("size", "1")), 400).await?;
    let limit = |body: Value| {
        Call::new("deployments_internal_set_storage_limit")
            .at("id", tenant)
            .json(body)
    };
    world.call(limit(json!({"limit": 100})), 204).await?;
    world.call(limit(json!({"limit": -1})), 400).await?;
    let usage = Call::new("deployments_internal_get_storage_usage").at("id", tenant);
    assert_eq!(world.call(usage, 200).await?.json()["limit"], 100);
    Ok(())
}
