//! The audit log, the workflows and the parts of device connections that need no websocket.

use ambidex_harness::{flow, wait_for};
use ambidex_test_contract::{Call, DeviceKey, PASSWORD, World};
use serde_json::{Value, json};
use std::time::Duration;

use super::complete;

const NOBODY: &str = "6f4a1c5e-0d5e-4b7c-9f51-6f6d2a2b3c4d";

#[test]
fn the_audit_log_answers_as_documented() {
    flow("contract-auditlogs", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let user = json!({"email": "second@alpha.example", "password": PASSWORD});
        let create = Call::new("useradm_create_user").by(&tenant.user).json(user);
        let user = world.call(create, 201).await?.created();
        let logs = || Call::new("auditlogs_get_audit_logs").by(&tenant.user);
        let event = wait_for("the event", Duration::from_secs(10), async || {
            let found = world.call(logs().query("object_id", &user), 200).await?;
            Ok(found.json().get(0).cloned())
        })
        .await?;
        assert_eq!(event["action"], "create");
        assert_eq!(event["actor"]["email"], tenant.email);
        let export = Call::new("auditlogs_export_audit_logs").by(&tenant.user);
        let csv = world.call(export, 200).await?.text();
        assert!(csv.contains(&user), "{csv}");

        let alive = Call::new("auditlogs_internal_check_health");
        world.call(alive, 204).await?;
        let save = |body: Value| {
            Call::new("auditlogs_internal_save_audit_log")
                .at("tenant_id", &tenant.id)
                .json(body)
        };
        let event = json!({
            "actor": {"id": "u1", "type": "user", "email": "a@b.example"},
            "time": "2026-01-02T03:04:05Z", "action": "create",
            "object": {"id": "o1", "type": "user"}
        });
        world.call(save(event), 201).await?;
        let malformed = world.send(save(json!({"action": "create"}))).await?;
        assert_eq!(malformed.status, 400);
        let list = Call::new("auditlogs_internal_get_audit_logs").at("tenant_id", &tenant.id);
        let answer = world.call(list.query("object_id", "o1"), 200).await?;
        assert_eq!(answer.json().as_array().map(Vec::len), Some(1));
        complete(
            &world,
            &["auditlogs_"],
            &[(
                "auditlogs_get_audit_logs",
                429,
                "needs a quota: the quota tests of server/main",
            )],
        );
        Ok(())
    });
}

#[test]
fn workflows_answer_as_documented() {
    flow("contract-workflows", |scratch| async move {
        let world = World::start(&scratch, &[]).await?;
        world
            .call(Call::new("workflows_internal_check_liveliness"), 200)
            .await?;
        world
            .call(Call::new("workflows_internal_check_health"), 204)
            .await?;
        let register = |version: u32| {
            Call::new("workflows_internal_register_workflow").json(json!({
                "name": "probe", "version": version, "schemaVersion": 1,
                "inputParameters": ["key"],
                "tasks": [{"name": "ask", "type": "http", "http": {
                    "uri": "http://mender-inventory:8080/api/internal/v1/inventory/alive",
                    "method": "GET", "statusCodes": [204]}}]
            }))
        };
        world.call(register(1), 201).await?;
        world.call(register(1), 409).await?;
        let nameless =
            Call::new("workflows_internal_register_workflow").json(json!({"version": 1}));
        world.call(nameless, 400).await?;
        let list = world
            .call(Call::new("workflows_internal_list_workflows"), 200)
            .await?;
        let list = list.json();
        let names: Vec<&Value> = list
            .as_array()
            .into_iter()
            .flatten()
            .map(|w| &w["name"])
            .collect();
        assert!(names.contains(&&json!("decommission_device")), "{names:?}");
        let start = |name: &str, body: Value| {
            Call::new("workflows_internal_start_workflow")
                .at("name", name)
                .json(body)
        };
        let started = world
            .call(start("probe", json!({"key": "a"})), 201)
            .await?
            .json();
        let array = json!([{"name": "key", "value": "b"}]);
        world.call(start("probe", array), 201).await?;
        world.call(start("probe", json!({})), 400).await?;
        world.call(start("nothing", json!({})), 404).await?;
        let status = |id: &str| {
            Call::new("workflows_internal_workflow_status")
                .at("name", "probe")
                .at("id", id)
        };
        let id = started["id"].as_str().unwrap_or_default().to_owned();
        wait_for("the end of the job", Duration::from_secs(10), async || {
            let job = world.call(status(&id), 200).await?.json();
            Ok((job["status"] == "done").then_some(()))
        })
        .await?;
        world.call(status("ffffffffffffffffffffffff"), 404).await?;
        complete(&world, &["workflows_"], &[]);
        Ok(())
    });
}

#[test]
fn device_connections_answer_as_documented() {
    flow("contract-deviceconnect", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let (device, token) = world.device(&tenant, &DeviceKey::new("aa:01")).await?;
        let by = |name: &str| Call::new(name).by(&tenant.user);
        wait_for("the device's record", Duration::from_secs(10), async || {
            let get = by("deviceconnect_get_device").at("id", &device);
            Ok((world.send(get).await?.status == 200).then_some(()))
        })
        .await?;
        let unknown = by("deviceconnect_get_device").at("id", NOBODY);
        world.call(unknown, 404).await?;
        let connect = |id: &str| {
            by("deviceconnect_connect")
                .at("id", id)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        };
        world.call(connect(&device), 404).await?;
        world.call(connect(NOBODY), 404).await?;
        let plain = by("deviceconnect_connect").at("id", &device);
        let plain = world.send(plain).await?;
        assert!([400, 404].contains(&plain.status), "{}", plain.status);
        let plain = Call::new("deviceconnect_device_connect").by(&token);
        world.call(plain, 400).await?;

        for name in [
            "deviceconnect_internal_check_liveliness",
            "deviceconnect_internal_check_health",
        ] {
            world.call(Call::new(name), 204).await?;
        }
        let create = |body: Value| Call::new("deviceconnect_internal_provision_tenant").json(body);
        world.call(create(json!({"tenant_id": "t9"})), 201).await?;
        world.call(create(json!({"tenant_id": ""})), 400).await?;
        let provision = |body: Value| {
            Call::new("deviceconnect_internal_provision_device")
                .at("tenantId", &tenant.id)
                .json(body)
        };
        for _ in 0..2 {
            world
                .call(provision(json!({"device_id": "d1"})), 201)
                .await?;
        }
        world.call(provision(json!({"device_id": ""})), 400).await?;
        let remove = || {
            Call::new("deviceconnect_internal_decomission_device")
                .at("tenantId", &tenant.id)
                .at("deviceId", "d1")
        };
        for _ in 0..2 {
            world.call(remove(), 202).await?;
        }
        let sockets = "needs real websockets: server/deviceconnect/tests and tests/compat";
        complete(
            &world,
            &[
                "deviceconnect_device_connect",
                "deviceconnect_get",
                "deviceconnect_connect",
                "deviceconnect_internal",
            ],
            &[
                ("deviceconnect_device_connect", 101, sockets),
                ("deviceconnect_connect", 101, sockets),
                ("deviceconnect_connect", 400, sockets),
                ("deviceconnect_connect", 403, sockets),
                (
                    "deviceconnect_get_device",
                    400,
                    "a token of the other kind is 401",
                ),
                (
                    "deviceconnect_internal_check_health",
                    400,
                    "a health check has no input",
                ),
            ],
        );
        Ok(())
    });
}
