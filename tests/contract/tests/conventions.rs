//! What all operations have in common: request ids, paging, methods, content types (acceptance rows C3 to
//! C16).

use ambidex_harness::{api, flow, wait_for};
use ambidex_test_contract::{Call, DeviceKey, Guard, Listener, Operation, Tenant, World};
use serde_json::{Value, json};

const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";

/// A call of the operation that names nothing that exists.
fn nowhere(operation: &Operation) -> Call {
    let names = operation.path.split(['{', '}']).skip(1).step_by(2);
    names.fold(Call::new(&operation.name), |call, name| {
        let value = match name {
            "status" => "accepted",
            "scope" => "inventory",
            _ => NOWHERE,
        };
        call.at(name, value)
    })
}

/// The same by whoever may make it.
fn anywhere(operation: &Operation, tenant: &Tenant, device: &str) -> Call {
    let call = nowhere(operation);
    match operation.guard {
        Guard::User => call.by(&tenant.user),
        Guard::Device => call.by(device),
        Guard::Open | Guard::Password => call,
    }
}

/// A server with a tenant and the token of its device.
async fn rig(scratch: &ambidex_harness::Scratch) -> anyhow::Result<(World, Tenant, String)> {
    let world = World::start(scratch, &["--multi-tenant"]).await?;
    let tenant = world.tenant("alpha", "enterprise").await?;
    let (_, device) = world.device(&tenant, &DeviceKey::new("01")).await?;
    Ok((world, tenant, device))
}

fn url(world: &World, operation: &Operation) -> String {
    let base = match operation.listener {
        Listener::Public => world.server.url(),
        Listener::Internal => world.server.internal_url(),
    };
    format!("{base}{}", operation.path.replace(['{', '}'], ""))
}

#[test]
fn c3_c4_request_ids_are_echoed_or_made() {
    flow("request-ids", |scratch| async move {
        let world = World::start(&scratch, &[]).await?;
        let http = api::http_client(None)?;
        let mut wrong = Vec::new();
        for operation in world.document.operations() {
            for given in [Some("abc"), None] {
                let method: reqwest::Method = operation.method.parse()?;
                let mut request = http.request(method, url(&world, operation));
                if let Some(id) = given {
                    request = request.header("X-MEN-RequestID", id);
                }
                let answer = request.send().await?;
                let id = answer.headers().get("x-men-requestid");
                let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
                let id = id.to_owned();
                let fits = match given {
                    Some(given) => id == given,
                    None => id.len() == 36 && id.split('-').count() == 5,
                };
                let body: Value =
                    serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
                let told = body.get("error").is_none() || body["request_id"] == *id;
                if !fits || !told {
                    wrong.push(format!("{} with {given:?}: {id:?} {body}", operation.name));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}

#[test]
fn c5_c6_pages_out_of_bounds_are_refused_everywhere() {
    flow("page-bounds", |scratch| async move {
        let (world, tenant, device) = rig(&scratch).await?;
        let (mut wrong, mut paged) = (Vec::new(), 0);
        for operation in world.document.operations() {
            if !operation.takes("page") {
                continue;
            }
            paged += 1;
            for (name, value) in [
                ("page", "0"),
                ("page", "x"),
                ("per_page", "501"),
                ("per_page", "0"),
            ] {
                let call = anywhere(operation, &tenant, &device).query(name, value);
                let answer = world.send(call).await?;
                if answer.status != 400 {
                    wrong.push(format!(
                        "{} {name}={value}: {}",
                        operation.name, answer.status
                    ));
                }
            }
        }
        assert!(paged > 20, "the document says that {paged} are paged");
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}

#[test]
fn c7_c8_pages_are_linked_and_end() {
    flow("page-links", |scratch| async move {
        let (world, tenant, _) = rig(&scratch).await?;
        for name in ["02", "03"] {
            world.device(&tenant, &DeviceKey::new(name)).await?;
        }
        let lists = [
            "devauth_list_devices",
            "inventory_list_device_inventories",
            "auditlogs_get_audit_logs",
        ];
        for name in lists {
            let page = async |number: usize| {
                let call = Call::new(name).query("per_page", 1).query("page", number);
                let answer = world.call(call.by(&tenant.user), 200).await?;
                let links = answer.headers.get_all("link").iter();
                let relations: Vec<String> = links
                    .filter_map(|link| {
                        Some(link.to_str().ok()?.split("rel=\"").nth(1)?.replace('"', ""))
                    })
                    .collect();
                let rows = answer.json().as_array().map_or(0, Vec::len);
                anyhow::Ok((rows, relations))
            };
            // The audit log is written after the answer.
            wait_for(
                "three rows",
                std::time::Duration::from_secs(20),
                async || Ok((page(3).await?.0 == 1).then_some(())),
            )
            .await?;
            let (rows, relations) = page(2).await?;
            assert_eq!((rows, relations.len()), (1, 3), "{name}: {relations:?}");
            for relation in ["first", "prev", "next"] {
                assert!(
                    relations.contains(&relation.to_owned()),
                    "{name}: {relations:?}"
                );
            }
            let (rows, relations) = page(99).await?;
            assert_eq!(rows, 0, "{name}");
            assert!(
                !relations.contains(&"next".to_owned()),
                "{name}: {relations:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn c9_a_cookie_is_as_good_as_a_header() {
    flow("cookie", |scratch| async move {
        let (world, tenant, _) = rig(&scratch).await?;
        let mut wrong = Vec::new();
        for operation in world.document.operations() {
            if operation.guard != Guard::User || operation.method != "GET" {
                continue;
            }
            let cookie = format!("other=1; JWT={}", tenant.user);
            let answer = world
                .send(nowhere(operation).header("cookie", cookie))
                .await?;
            if answer.status == 401 {
                wrong.push(format!("{}: {}", operation.name, answer.text()));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}

#[test]
fn c10_other_methods_are_405_with_the_error_body() {
    flow("methods", |scratch| async move {
        let (world, tenant, _) = rig(&scratch).await?;
        let http = api::http_client(None)?;
        let mut wrong = Vec::new();
        for operation in world.document.operations() {
            let routed = |method: &str| {
                world.document.operations().any(|other| {
                    other.method == method
                        && other.listener == operation.listener
                        && other.path == operation.path
                })
            };
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                if routed(method) {
                    continue;
                }
                let request = http.request(method.parse()?, url(&world, operation));
                let answer = request.bearer_auth(&tenant.user).send().await?;
                let status = answer.status().as_u16();
                let body: Value =
                    serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
                if status != 405 || body["error"] != "method not allowed" {
                    wrong.push(format!("{method} {}: {status} {body}", operation.path));
                }
            }
        }
        wrong.sort();
        wrong.dedup();
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}

#[test]
fn c11_another_content_type_is_415() {
    flow("content-types", |scratch| async move {
        let (world, tenant, device) = rig(&scratch).await?;
        let (mut wrong, mut tried) = (Vec::new(), 0);
        for operation in world.document.operations() {
            // The login takes its body whatever it is called: clients of old send none or a wrong type.
            if !operation.takes_json_only() || operation.guard == Guard::Password {
                continue;
            }
            tried += 1;
            let call = anywhere(operation, &tenant, &device).raw("text/plain", "hello");
            let answer = world.send(call).await?;
            if answer.status != 415 {
                wrong.push(format!(
                    "{}: {} {}",
                    operation.name,
                    answer.status,
                    answer.text()
                ));
            }
        }
        assert!(tried > 40, "the document says that {tried} take JSON");
        assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}

#[test]
fn c14_c16_every_service_lives_and_takes_tenants() {
    flow("services", |scratch| async move {
        let world = World::start(&scratch, &[]).await?;
        let (mut alive, mut tenants) = (0, 0);
        for operation in world.document.operations() {
            if operation.path.ends_with("/alive") || operation.path.ends_with("/health") {
                alive += 1;
                world.call(Call::new(&operation.name), 204).await?;
            }
            if operation.body_schema() == Some("NewTenant") {
                tenants += 1;
                for (body, status) in [
                    (json!({"tenant_id": "t1"}), 201),
                    (json!({"tenant_id": "t1"}), 201),
                    (json!({"tenant_id": ""}), 400),
                    (json!({}), 400),
                ] {
                    world
                        .call(Call::new(&operation.name).json(body), status)
                        .await?;
                }
            }
        }
        assert!(alive >= 16 && tenants >= 5, "{alive} {tenants}");
        Ok(())
    });
}
