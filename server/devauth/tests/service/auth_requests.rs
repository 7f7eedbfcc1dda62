use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::signature::{SignatureEncoding as _, Signer as _};
use serde_json::{Value, json};

use crate::rig::{DEVICES, Device, Rig};

#[tokio::test]
async fn d1_to_d5_malformed_requests_are_refused_with_their_reason() {
    let rig = Rig::new();
    let device = Device::new("d1");
    assert_eq!(
        rig.request(device.body().to_string(), None)
            .await
            .error(400),
        "missing request signature header"
    );
    let wrong = STANDARD.encode([7; 64]);
    assert_eq!(
        rig.request(device.body().to_string(), Some(&wrong))
            .await
            .error(401),
        "signature verification failed"
    );
    assert_eq!(
        rig.request(device.body().to_string(), Some("%%%"))
            .await
            .error(401),
        "signature verification failed"
    );
    let check = async |body: Value, text: &str| {
        let error = rig.authenticate_with(&device, body).await.error(400);
        assert!(error.contains(text), "{error}");
    };
    let pem = device.pem();
    check(
        json!({ "pubkey": pem }),
        "invalid auth request: id_data must be provided",
    )
    .await;
    check(
        json!({ "id_data": "", "pubkey": pem }),
        "invalid auth request: id_data must be provided",
    )
    .await;
    check(
        json!({ "id_data": device.id_data }),
        "invalid auth request: pubkey must be provided",
    )
    .await;
    check(
        json!({ "id_data": device.id_data, "pubkey": "x" }),
        "invalid auth request: cannot decode public key",
    )
    .await;
    let rsa = pem.replace("PUBLIC KEY", "RSA PUBLIC KEY");
    check(
        json!({ "id_data": device.id_data, "pubkey": rsa }),
        "cannot decode public key",
    )
    .await;
    for id_data in ["5", "[]", "{", "\"a\"", "{}"] {
        check(
            json!({ "id_data": id_data, "pubkey": pem }),
            "invalid auth request: id_data",
        )
        .await;
    }
    check(
        json!({ "id_data": { "mac": "d1" }, "pubkey": pem }),
        "failed to decode auth request",
    )
    .await;
    check(json!([]), "failed to decode auth request").await;
    assert!(
        rig.devices().await.is_empty(),
        "nothing is stored for a request that is refused"
    );
}

#[tokio::test]
async fn d6_d10_an_rsa_device_of_1024_bits_is_pending_then_let_in() {
    let rig = Rig::new();
    let key = rsa::RsaPrivateKey::new(&mut rand::thread_rng(), 1024).unwrap();
    let pem = key
        .to_public_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let body = json!({ "id_data": r#"{"mac":"rsa"}"#, "pubkey": pem }).to_string();
    let signing = rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(key);
    let signature = STANDARD.encode(signing.sign(body.as_bytes()).to_bytes());
    assert_eq!(
        rig.request(body.clone(), Some(&signature)).await.error(401),
        "dev auth: unauthorized"
    );
    let shown = rig.devices().await.remove(0);
    assert_eq!(shown["status"], "pending");
    let (id, set) = (
        shown["id"].as_str().unwrap(),
        shown["auth_sets"][0]["id"].as_str().unwrap(),
    );
    rig.set_status(id, set, "accepted").await.ok(204);
    let answer = rig.request(body, Some(&signature)).await.ok(200);
    assert_eq!(answer.headers["content-type"], "application/jwt");
    assert_eq!(rig.verify(&answer.text).await, 200);
}

#[tokio::test]
async fn d7_an_ecdsa_device_signs_with_an_asn1_sequence() {
    let rig = Rig::new();
    let key = p256::ecdsa::SigningKey::random(&mut rand::thread_rng());
    let pem = p256::PublicKey::from(key.verifying_key())
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let body = json!({ "id_data": r#"{"mac":"ec"}"#, "pubkey": pem }).to_string();
    let signature: p256::ecdsa::Signature = key.sign(body.as_bytes());
    let der = STANDARD.encode(signature.to_der().as_bytes());
    rig.request(body.clone(), Some(&der)).await.ok(401);
    let shown = rig.devices().await.remove(0);
    rig.set_status(
        shown["id"].as_str().unwrap(),
        shown["auth_sets"][0]["id"].as_str().unwrap(),
        "accepted",
    )
    .await
    .ok(204);
    rig.request(body.clone(), Some(&der)).await.ok(200);
    let raw = STANDARD.encode(signature.to_bytes());
    assert_eq!(
        rig.request(body, Some(&raw)).await.error(401),
        "signature verification failed"
    );
}

#[tokio::test]
async fn d8_d9_the_same_identity_is_the_same_device_however_it_is_spelled() {
    let rig = Rig::new();
    let mut device = Device::new("x");
    device.id_data = r#"{"a":"1","b":{"y":2,"x":1}}"#.into();
    rig.authenticate(&device).await.ok(401);
    rig.authenticate(&device).await.ok(401);
    device.id_data = r#"{ "b": {"x": 1.0, "y": 2}, "a": "1" }"#.into();
    rig.authenticate(&device).await.ok(401);
    let devices = rig.devices().await;
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0]["auth_sets"].as_array().unwrap().len(), 1);
    assert_eq!(
        devices[0]["identity_data"],
        json!({"a": "1", "b": {"x": 1, "y": 2}})
    );
    device.id_data = r#"{"a":1,"b":{"y":2,"x":1}}"#.into();
    rig.authenticate(&device).await.ok(401);
    assert_eq!(
        rig.devices().await.len(),
        2,
        "the type of a value is part of the identity"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d8_concurrent_first_requests_make_one_device_and_one_set() {
    let rig = Arc::new(Rig::new());
    let device = Arc::new(Device::new("race"));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (rig, device) = (rig.clone(), device.clone());
            tokio::spawn(async move { rig.authenticate(&device).await.status.as_u16() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 401);
    }
    let devices = rig.devices().await;
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0]["auth_sets"].as_array().unwrap().len(), 1);
    assert_eq!(
        rig.get(&format!("{DEVICES}/count")).await.json(),
        json!({"count": 1})
    );
}

#[tokio::test]
async fn d11_the_token_names_device_and_set() {
    let rig = Rig::new();
    let (id, set, token) = rig.accepted(&Device::new("d11")).await;
    let claims = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["sub"], &claims["jti"]), (&json!(id), &json!(set)));
    assert_eq!(claims["mender.device"], true);
    assert_eq!(claims["mender.plan"], "enterprise");
    assert_eq!(claims["iss"], "Mender");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        604_800
    );
    assert!(claims.get("mender.tenant").is_none());
}

#[tokio::test]
async fn d12_to_d14_a_new_key_is_a_second_set_and_accepting_it_ends_the_first() {
    let rig = Rig::new();
    let device = Device::new("d12");
    let (id, first, old_token) = rig.accepted(&device).await;
    let rekeyed = device.rekeyed();
    rig.authenticate(&rekeyed).await.ok(401);
    let shown = rig.device(&id).await;
    assert_eq!(shown["status"], "accepted");
    assert_eq!(shown["auth_sets"].as_array().unwrap().len(), 2);
    assert_eq!(rig.verify(&old_token).await, 200);
    let (_, second) = rig.find(&rekeyed).await;
    rig.set_status(&id, &second, "accepted").await.ok(204);
    let statuses: Vec<(String, String)> = rig.device(&id).await["auth_sets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|set| {
            (
                set["id"].as_str().unwrap().to_owned(),
                set["status"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert!(
        statuses.contains(&(first, "rejected".into()))
            && statuses.contains(&(second, "accepted".into()))
    );
    assert_eq!(rig.verify(&old_token).await, 401);
    rig.authenticate(&device).await.ok(401);
    rig.authenticate(&rekeyed).await.ok(200);
}

#[tokio::test]
async fn d22_a_preauthorised_device_enters_by_itself() {
    let rig = Rig::new();
    let device = Device::new("d22");
    rig.user(
        Method::POST,
        DEVICES,
        Some(json!({"identity_data": device.identity(), "pubkey": device.pem()})),
    )
    .await
    .ok(201);
    let token = rig.authenticate(&device).await.ok(200).text;
    assert_eq!(rig.verify(&token).await, 200);
    let (id, _) = rig.find(&device).await;
    assert_eq!(rig.device(&id).await["auth_sets"][0]["status"], "accepted");
    assert_eq!(rig.neighbours.status(&id), Some("accepted"));
}

#[tokio::test]
async fn d27_a_decommissioned_device_returns_as_a_new_one() {
    let rig = Rig::new();
    let device = Device::new("d27");
    let (id, _, token) = rig.accepted(&device).await;
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}"), None)
        .await
        .ok(204);
    assert_eq!(rig.verify(&token).await, 401);
    let (new, _) = rig.pending(&device).await;
    assert_ne!(new, id);
}

#[tokio::test]
async fn several_tokens_of_one_set_are_valid_at_once() {
    let rig = Rig::new();
    let device = Device::new("two");
    let (_, _, first) = rig.accepted(&device).await;
    rig.clock.advance(60_000);
    let second = rig.authenticate(&device).await.ok(200).text;
    assert_ne!(first, second);
    assert_eq!(
        (rig.verify(&first).await, rig.verify(&second).await),
        (200, 200)
    );
}
