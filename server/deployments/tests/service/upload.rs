//! Uploading artifacts (table B110 to B118).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{Form, MANAGEMENT, World, artifact, artifact_depending, artifact_with, noise};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/artifact/tests/vectors")
}

fn vector(file: &str) -> Vec<u8> {
    std::fs::read(vectors().join(file)).unwrap()
}

async fn listed(world: &World) -> usize {
    world
        .get("/artifacts")
        .await
        .json()
        .as_array()
        .unwrap()
        .len()
}

#[tokio::test]
async fn b110_an_artifact_is_described_as_it_is() {
    let world = World::new();
    let file = artifact_with("release-2", &["qemu", "arm"], b"alpha\n", |spec| {
        spec.type_provides
            .insert("rootfs-image.app.version".into(), "2".into());
        spec.type_depends
            .insert("rootfs-image.version".into(), vec!["1".into()]);
        spec.clears_provides = Some(vec!["rootfs-image.app.*".into()]);
        let meta = json!({"directory": "/opt", "list": [1, 2]});
        spec.meta_data = meta.as_object().cloned();
        spec.mtime_s = 1_600_000_000;
    });
    let reply = world.upload(&file).await.expect(201);
    assert!(reply.body.is_empty());
    let id = reply.created();
    assert_eq!(
        reply.header("location"),
        format!("{MANAGEMENT}/artifacts/{id}")
    );
    let mut shown = world
        .get(&format!("/artifacts/{id}"))
        .await
        .expect(200)
        .json();
    let date = shown["updates"][0]["files"][0]
        .as_object_mut()
        .unwrap()
        .remove("date")
        .unwrap();
    assert!(date.as_str().is_some_and(|date| date.ends_with('Z')));
    assert_eq!(
        shown,
        json!({
            "id": id, "name": "release-2", "description": "",
            "device_types_compatible": ["qemu", "arm"],
            "info": {"format": "mender", "version": 3}, "signed": false,
            "updates": [{
                "type_info": {"type": "test-module"},
                "files": [{
                    "name": "file-a.txt", "size": 6,
                    "checksum": "b6a98d9ce9a2d9149288fa3df42d377c3e42737afdcdaf714e33c0a100b51060",
                }],
                "meta_data": {"directory": "/opt", "list": [1, 2]},
            }],
            "artifact_provides": {"artifact_name": "release-2", "rootfs-image.app.version": "2"},
            "artifact_depends": {"device_type": ["qemu", "arm"], "rootfs-image.version": ["1"]},
            "clears_artifact_provides": ["rootfs-image.app.*"],
            "size": file.len(), "modified": "2023-11-14T22:13:20Z",
        })
    );
}

#[tokio::test]
async fn every_artifact_of_other_tools_gets_its_verdict() {
    let all: Value = serde_json::from_slice(&vector("vectors.json")).unwrap();
    let mut seen = [0, 0];
    for vector_of in all["vectors"].as_array().unwrap() {
        let file = vector_of["file"].as_str().unwrap();
        let world = World::new();
        // A wrong signature is for devices to find: the server has no keys.
        let keyed = vector_of["verify_key"].is_string();
        let reply = world.upload(&vector(file)).await;
        match vector_of["expect"].as_str().unwrap() {
            "accept" => {
                seen[0] += 1;
                let id = reply.expect(201).created();
                let shown = world
                    .get(&format!("/artifacts/{id}"))
                    .await
                    .expect(200)
                    .json();
                assert_eq!(shown["size"], vector_of["size"], "{file}");
                let expected = &vector_of["metadata"];
                if expected.is_null() {
                    continue;
                }
                assert_eq!(shown["name"], expected["name"], "{file}");
                assert_eq!(shown["signed"], expected["signed"], "{file}");
                assert_eq!(
                    shown["device_types_compatible"], expected["device_types_compatible"],
                    "{file}"
                );
                assert_eq!(
                    shown["updates"][0]["type_info"]["type"], expected["payload_types"][0],
                    "{file}"
                );
            }
            "reject" if !keyed => {
                seen[1] += 1;
                let error = reply.expect(400).error();
                assert!(!error.is_empty(), "{file}");
                assert_eq!((listed(&world).await, world.files()), (0, 0), "{file}");
            }
            _ => assert!(
                [201, 400].contains(&reply.status),
                "{file}: {}",
                reply.status
            ),
        }
    }
    assert!(seen[0] >= 10 && seen[1] >= 40, "{seen:?}");
}

#[tokio::test]
async fn b111_fields_before_the_artifact() {
    let world = World::new();
    let file = artifact("release-2", &["qemu"]);
    let id = uuid::Uuid::from_u128(77).to_string();
    let form = Form::new()
        .text("size", &file.len().to_string())
        .text("ARTIFACT_ID", &id.to_uppercase())
        .text("unknown", "x")
        .text("Description", "Grüße")
        .file(&file)
        .text("description", "too late");
    let reply = world.upload_form(&form).await.expect(201);
    assert_eq!(reply.created(), id);
    assert_eq!(
        world.get(&format!("/artifacts/{id}")).await.json()["description"],
        "Grüße"
    );
    let again = Form::new()
        .text("artifact_id", &id)
        .file(&artifact("release-3", &["qemu"]));
    world.upload_form(&again).await.expect(409);
    assert_eq!((listed(&world).await, world.files()), (1, 1));
    let wrong = Form::new().text("artifact_id", "x").file(&file);
    assert_eq!(
        world.upload_form(&wrong).await.expect(400).error(),
        "artifact_id is not a valid UUID"
    );
}

#[tokio::test]
async fn b112_no_artifact_or_garbage() {
    let world = World::new();
    let reply = world
        .upload_form(&Form::new().text("description", "d"))
        .await
        .expect(400);
    assert_eq!(reply.error(), "request does not contain the artifact file");
    for garbage in [&b""[..], b"garbage", &[0; 100_000]] {
        world.upload(garbage).await.expect(400);
    }
    assert_eq!((listed(&world).await, world.files()), (0, 0));
}

#[tokio::test]
async fn b114_damage_anywhere_leaves_nothing() {
    let world = World::new();
    let content = noise(200_000);
    let file = artifact_with("release-2", &["qemu"], &content, |_| ());
    for cut in [1, 511, 4_000, 100_000, file.len() - 1_500] {
        world.upload(&file[..cut]).await.expect(400);
    }
    let mut damaged = file.clone();
    let middle = file.len() / 2;
    damaged[middle] ^= 1;
    let error = world.upload(&damaged).await.expect(400).error();
    assert!(
        error.contains("checksum") || error.contains("data/0000"),
        "{error}"
    );
    let error = world
        .upload(&vector("invalid/bad-payload-bitflip.mender"))
        .await;
    assert_eq!(error.status, 400);
    let mut longer = file;
    longer.extend([1; 1024]);
    world.upload(&longer).await.expect(400);
    assert_eq!((listed(&world).await, world.files()), (0, 0));
    assert_eq!(world.rows("SELECT COUNT(*) FROM artifact_orphans").await, 0);
    assert_eq!(world.get("/limits/storage").await.json()["usage"], 0);
}

#[tokio::test]
async fn b115_an_announced_size_must_be_right() {
    let world = World::new();
    let file = artifact("release-2", &["qemu"]);
    for size in [file.len() - 1, file.len() + 1] {
        let form = Form::new().text("size", &size.to_string()).file(&file);
        world.upload_form(&form).await.expect(400);
    }
    for size in ["x", "-1", "1.5", "123456789012345678901"] {
        world
            .upload_form(&Form::new().text("size", size).file(&file))
            .await
            .expect(400);
    }
    let huge = Form::new().text("size", "99999999999999").file(&file);
    world.upload_form(&huge).await.expect(413);
    assert_eq!((listed(&world).await, world.files()), (0, 0));
    world
        .upload_form(&Form::new().text("size", "0").file(&file))
        .await
        .expect(201);
}

#[tokio::test]
async fn b116_b117_duplicates() {
    let world = World::new();
    world.artifact("release-2", &["qemu", "arm"]).await;
    for (file, status) in [
        (artifact("release-2", &["qemu", "arm"]), 409),
        (artifact("release-2", &["mips", "arm"]), 409),
        (artifact("release-2", &["mips"]), 201),
        (artifact("release-3", &["qemu"]), 201),
        (artifact_depending("release-2", &["qemu"], "k", "1"), 201),
        (
            artifact_depending("release-2", &["qemu", "x"], "k", "1"),
            409,
        ),
        (artifact_depending("release-2", &["qemu"], "k", "2"), 201),
    ] {
        let reply = world.upload(&file).await.expect(status);
        if status == 409 {
            assert_eq!(
                reply.error(),
                "an artifact with the same name and depends already exists"
            );
        }
    }
    assert_eq!((listed(&world).await, world.files()), (5, 5));
    let releases = world
        .get("/deployments/releases?name=release-2")
        .await
        .json();
    assert_eq!(releases.as_array().unwrap().len(), 1);
    assert_eq!(releases[0]["artifacts"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn b118_signed_artifacts_are_marked() {
    let world = World::new();
    world
        .upload(&vector("valid/v3-rootfs-rsa3072.mender"))
        .await
        .expect(201);
    let shown = world.get("/artifacts").await.json();
    assert_eq!(shown[0]["signed"], true);
    assert_eq!(shown[0]["updates"][0]["type_info"]["type"], "rootfs-image");
}

#[tokio::test]
async fn other_kinds_of_artifacts_are_described_too() {
    let world = World::new();
    let show = async |file: &str| {
        let id = world.upload(&vector(file)).await.expect(201).created();
        world
            .get(&format!("/artifacts/{id}"))
            .await
            .expect(200)
            .json()
    };
    let bootstrap = show("valid/v3-bootstrap-ec.mender").await;
    assert_eq!(
        bootstrap["updates"],
        json!([{"type_info": {"type": null}, "files": null}])
    );
    let old = show("valid/v2-rootfs-gzip-39.mender").await;
    assert_eq!(old["info"]["version"], 2);
    assert_eq!(
        old["artifact_depends"],
        json!({"device_type": ["qemu", "beaglebone"]})
    );
    assert!(
        old.get("artifact_provides").is_none() && old.get("clears_artifact_provides").is_none()
    );
    let augmented = show("valid/v3-module-augment.mender").await;
    let files = augmented["updates"][0]["files"].as_array().unwrap();
    let names: Vec<&str> = files
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["file-a.txt"],
        "files of the augmented part are not the artifact's own"
    );
}

#[tokio::test]
async fn sizes_have_limits() {
    let file = artifact("release-2", &["qemu"]);
    let limited = |bytes: usize| {
        World::with(ambidex_deployments::Settings {
            artifact_bytes_max: bytes as u64,
            ..Default::default()
        })
    };
    limited(file.len()).upload(&file).await.expect(201);
    let world = limited(file.len() - 1);
    let reply = world.upload(&file).await.expect(413);
    assert!(
        reply.error().starts_with("Artifact file too large"),
        "{}",
        reply.error()
    );
    assert_eq!((listed(&world).await, world.files()), (0, 0));
}

#[tokio::test]
async fn descriptions_have_a_limit() {
    let world = World::new();
    let file = artifact("release-2", &["qemu"]);
    let form = |length| {
        Form::new()
            .text("description", &"ä".repeat(length))
            .file(&file)
    };
    world.upload_form(&form(4097)).await.expect(400);
    world.upload_form(&form(4096)).await.expect(201);
}
