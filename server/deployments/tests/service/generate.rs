//! Artifacts made of raw files (B124 to B126).

use std::io::{Cursor, Read as _};
use std::process::Command;

use ambidex_artifact::{ReadOptions, Reader, Verification};
use ambidex_deployments::Settings;
use serde_json::json;

use crate::world::{Form, MANAGEMENT, Reply, World, noise, user_token};

const ARGS: &str = r#"{"filename":"hello.txt","dest_dir":"/etc/app"}"#;

fn form() -> Form {
    Form::new()
        .text("name", "release-1")
        .text("description", "a greeting")
        .text("device_types_compatible", "qemu,arm")
        .text("type", "single_file")
        .text("args", ARGS)
}

async fn generate(world: &World, form: &Form) -> Reply {
    let path = format!("{MANAGEMENT}/artifacts/generate");
    world.send(form.request(&path, Some(&world.user))).await
}

async fn run_jobs(world: &World) {
    world.jobs.run_due().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b124_an_artifact_is_made_of_a_file() {
    let world = World::new();
    let reply = generate(&world, &form().raw("file", b"hello\n"))
        .await
        .expect(201);
    assert!(
        reply
            .header("location")
            .starts_with("/api/management/v1/deployments/artifacts/generate/")
    );
    let id = reply.created();
    let path = format!("/artifacts/{id}");
    world.get(&path).await.expect(404);
    run_jobs(&world).await;
    let artifact = world.get(&path).await.expect(200).json();
    assert_eq!(artifact["name"], "release-1");
    assert_eq!(artifact["description"], "a greeting");
    assert_eq!(artifact["device_types_compatible"], json!(["arm", "qemu"]));
    assert_eq!(artifact["updates"][0]["type_info"]["type"], "single-file");
    assert_eq!(
        artifact["artifact_provides"]["rootfs-image.single-file.version"],
        "release-1"
    );
    assert_eq!(
        artifact["clears_artifact_provides"],
        json!(["rootfs-image.single-file.*"])
    );
    // Of the raw file nothing is left.
    assert_eq!(world.files(), 1);
    assert_eq!(world.rows("SELECT COUNT(*) FROM artifact_orphans").await, 0);
    assert_eq!(
        world
            .rows("SELECT COUNT(*) FROM jobs_jobs WHERE kind = 'generate_artifact'")
            .await,
        0
    );
    let audited = world.audited().await;
    assert_eq!(audited, [("upload".into(), "artifact".into(), id)]);
}

/// Reads every payload file of an artifact.
fn payload(file: &[u8]) -> Vec<(String, Vec<u8>)> {
    let options = ReadOptions::inspect(Verification::Ignore);
    let mut reader = Reader::open(Cursor::new(file), &options).unwrap();
    let mut files = Vec::new();
    while let Some(mut file) = reader.next_file().unwrap() {
        let name = file.name().to_owned();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        files.push((name, content));
    }
    reader.finish().unwrap();
    files
}

async fn download(world: &World, id: &str) -> Vec<u8> {
    let link = world
        .get(&format!("/artifacts/{id}/download"))
        .await
        .expect(200)
        .json();
    let uri = link["uri"].as_str().unwrap();
    world.follow("GET", uri, Vec::new()).await.expect(200).body
}

#[tokio::test(flavor = "multi_thread")]
async fn b126_the_stock_update_module_installs_it() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("etc/app");
    // Beyond several pieces, and of bytes that no text has.
    let content = noise(700_000);
    let args = json!({"filename": "data.bin", "dest_dir": target, "permissions": "0600",
        "software_name": "app", "software_version": "v7"});
    let form = Form::new()
        .text("name", "release-1")
        .text("device_types_compatible", "qemu")
        .text("device_types_compatible", "arm")
        .text("type", "single_file")
        .text("args", &args.to_string())
        .raw("file", &content);
    let id = generate(&world, &form).await.expect(201).created();
    run_jobs(&world).await;
    let artifact = world.get(&format!("/artifacts/{id}")).await.json();
    assert_eq!(
        artifact["artifact_provides"]["rootfs-image.app.version"],
        "v7"
    );
    let file = download(&world, &id).await;
    let files = payload(&file);
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("files")).unwrap();
    std::fs::create_dir_all(tree.join("tmp")).unwrap();
    for (name, content) in &files {
        std::fs::write(tree.join("files").join(name), content).unwrap();
    }
    let module = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../update-modules/single-file/single-file"
    );
    let run = |state: &str| {
        let status = Command::new("sh")
            .arg(module)
            .arg(state)
            .arg(&tree)
            .status()
            .unwrap();
        assert!(status.success(), "{state}");
    };
    run("ArtifactInstall");
    let installed = target.join("data.bin");
    assert!(std::fs::read(&installed).unwrap() == content);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&installed).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    run("ArtifactRollback");
    assert!(!installed.exists());

    // And a device gets it like any other.
    let device = world.device(1);
    let deployment = world
        .deployment("release-1", std::slice::from_ref(&device))
        .await;
    assert_eq!(world.poll(&device).await.unwrap().id, deployment);
}

#[tokio::test]
async fn b125_wrong_forms_are_refused() {
    let world = World::new();
    for form in [
        form(),
        Form::new().raw("file", b"x"),
        Form::new()
            .text("device_types_compatible", "qemu")
            .text("type", "single_file")
            .text("args", ARGS)
            .raw("file", b"x"),
        Form::new()
            .text("name", "n")
            .text("type", "single_file")
            .text("args", ARGS)
            .raw("file", b"x"),
        Form::new()
            .text("name", "n")
            .text("device_types_compatible", "qemu")
            .text("type", "rootfs-image")
            .text("args", ARGS)
            .raw("file", b"x"),
        form().text("size", "2").raw("file", b"x"),
        form().text("size", "x").raw("file", b"x"),
    ] {
        let reply = generate(&world, &form).await.expect(400);
        assert!(!reply.error().is_empty());
    }
    let missing = generate(&world, &form()).await.expect(400).error();
    assert!(missing.contains("missing 'file' section"), "{missing}");
    let path = format!("{MANAGEMENT}/artifacts/generate");
    world
        .call("POST", &path, &world.user, Some(json!({})))
        .await
        .expect(400);
    world.send(form().request(&path, None)).await.expect(401);
    assert_eq!(world.files(), 0);
    assert_eq!(world.rows("SELECT COUNT(*) FROM jobs_jobs").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_is_not_made_twice() {
    let world = World::new();
    let order = form().raw("file", b"x");
    generate(&world, &order).await.expect(201);
    // Nobody knows of the first yet: the second fails in its job.
    generate(&world, &order).await.expect(201);
    run_jobs(&world).await;
    let list = world.get("/artifacts").await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(world.files(), 1);
    let reply = generate(&world, &order).await.expect(422);
    assert_eq!(reply.error(), "Artifact not unique");
    let other = Form::new()
        .text("name", "release-1")
        .text("device_types_compatible", "other")
        .text("type", "single_file")
        .text("args", ARGS)
        .raw("file", b"x");
    generate(&world, &other).await.expect(201);
    run_jobs(&world).await;
    let list = world.get("/artifacts").await.json();
    assert_eq!(list.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn limits_hold() {
    let world = World::new();
    let announced = form()
        .text("size", &((256_u64 << 20) + 1).to_string())
        .raw("file", b"x");
    generate(&world, &announced).await.expect(413);
    world
        .internal(
            "PUT",
            "/tenants/default/limits/storage",
            Some(json!({"limit": 100})),
        )
        .await
        .expect(204);
    generate(&world, &form().raw("file", &[0; 101]))
        .await
        .expect(413);
    assert_eq!(world.files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_survives_a_restart() {
    let world = World::new();
    let id = generate(&world, &form().raw("file", b"hello"))
        .await
        .expect(201)
        .created();
    let World { dir, db, .. } = world;
    db.close().await.unwrap();
    let world = World::open(dir, Settings::default());
    world.clock.advance(3_600_000);
    world.service.recover().await.unwrap().await.unwrap();
    run_jobs(&world).await;
    world.get(&format!("/artifacts/{id}")).await.expect(200);
    assert_eq!(world.files(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_keep_their_own() {
    let world = World::new();
    let user = user_token(Some("t1"), "os");
    let path = format!("{MANAGEMENT}/artifacts/generate");
    let request = form().raw("file", b"x").request(&path, Some(&user));
    let id = world.send(request).await.expect(201).created();
    run_jobs(&world).await;
    world.get(&format!("/artifacts/{id}")).await.expect(404);
    let tenant = world.tenant("t1", "os");
    tenant
        .call("GET", &format!("/artifacts/{id}"), None)
        .await
        .expect(200);
}
