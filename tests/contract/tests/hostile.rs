//! Whatever is sent, the answer is an orderly one: a documented status with the error body, never a 5xx
//! and never a cut connection.

use ambidex_harness::flow;
use ambidex_test_contract::{Call, DeviceKey, Guard, Operation, World};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The same requests in every run; a failure names the operation and what was sent.
const SEED: u64 = 0x616d_6269_6465_7801;

/// Segments that have broken servers before.
const SEGMENTS: &[&str] = &[
    "\0",
    "%",
    "../../etc/passwd",
    " ",
    "'; DROP TABLE devauth_devices; --",
    "\u{202e}\u{feff}é",
    "-1",
    "99999999999999999999999999",
    "00000000-0000-0000-0000-000000000000",
    "{id}",
    "null",
];

fn nested(depth: usize) -> Vec<u8> {
    let mut body = vec![b'['; depth];
    body.extend(vec![b']'; depth]);
    body
}

fn bodies(random: &mut StdRng) -> Vec<(&'static str, Vec<u8>)> {
    let json = "application/json";
    let noise: Vec<u8> = (0..random.gen_range(1..2000))
        .map(|_| random.r#gen())
        .collect();
    vec![
        (json, Vec::new()),
        (json, b"{".to_vec()),
        (json, b"null".to_vec()),
        (json, b"[]".to_vec()),
        (json, b"[null]".to_vec()),
        (json, b"{}".to_vec()),
        (json, b"\"x\"".to_vec()),
        (json, b"1e999".to_vec()),
        (json, b"[{\"name\":\"a\",\"value\":{}},1]".to_vec()),
        (json, b"{\"id\":\"\\u0000\",\"name\":\"\\u0000\",\"email\":\"\\u0000@x.example\",\"tenant_id\":\"\\u0000\"}".to_vec()),
        (json, b"{\"name\":1,\"status\":{},\"devices\":{},\"limit\":\"1\",\"page\":-1,\"terms\":[1],\"email\":[]}".to_vec()),
        (json, b"{\"limit\":-9223372036854775808,\"per_page\":1e30,\"page\":1.5,\"retries\":99999999999}".to_vec()),
        (json, b"{\"a\":\"\xff\xfe\"}".to_vec()),
        (json, nested(20_000)),
        (json, [b"\"", vec![b'a'; 1_100_000].as_slice(), b"\""].concat()),
        (json, noise.clone()),
        ("text/plain", b"hello".to_vec()),
        ("application/x-www-form-urlencoded", b"a=%zz&&&=&email=%00".to_vec()),
        ("multipart/form-data", b"--x".to_vec()),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n--x--".to_vec()),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\ncontent-disposition: form-data; name=\"artifact\"\r\n\r\nnot an artifact\r\n--x--\r\n".to_vec(),
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\ncontent-disposition: form-data; name=\"size\"\r\n\r\n-1\r\n--x\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\nabc".to_vec(),
        ),
        ("multipart/form-data; boundary=x", noise),
    ]
}

fn token<'a>(operation: &Operation, user: &'a str, device: &'a str) -> Option<&'a str> {
    match operation.guard {
        Guard::User => Some(user),
        Guard::Device => Some(device),
        Guard::Open | Guard::Password => None,
    }
}

/// What would end the session or the tenant that the test itself needs.
fn spared(operation: &Operation) -> bool {
    ["useradm_logout", "tenantadm_cancel_account"].contains(&operation.name.as_str())
}

fn with_path(operation: &Operation, value: &str) -> Call {
    let names = operation.path.split(['{', '}']).skip(1).step_by(2);
    names.fold(Call::new(&operation.name), |call, name| {
        call.at(name, value)
    })
}

#[test]
fn hostile_requests_are_refused_in_order() {
    flow("hostile", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let (_, device) = world.device(&tenant, &DeviceKey::new("01")).await?;
        let mut random = StdRng::seed_from_u64(SEED);
        let mut wrong = Vec::new();
        let operations: Vec<Operation> = world.document.operations().cloned().collect();
        for operation in operations.iter().filter(|operation| !spared(operation)) {
            let token = token(operation, &tenant.user, &device);
            let dressed = |call: Call| match token {
                Some(token) => call.by(token),
                None => call,
            };
            let mut calls: Vec<(String, Call)> = Vec::new();
            if operation.method != "GET" {
                for (number, (content_type, body)) in bodies(&mut random).into_iter().enumerate() {
                    let call = with_path(operation, "x").raw(content_type, body);
                    calls.push((format!("body {number} as {content_type}"), call));
                }
            }
            if operation.path.contains('{') {
                let long = "x".repeat(5000);
                for segment in SEGMENTS.iter().copied().chain([long.as_str()]) {
                    calls.push((
                        format!("segment {segment:.20?}"),
                        with_path(operation, segment),
                    ));
                }
            }
            for (name, value) in [
                ("page", "0"),
                ("page", "99999999999999999999"),
                ("per_page", "501"),
                ("per_page", "\0"),
                ("status", "\u{0}'\""),
                ("created_after", "x"),
                ("created_before", "-99999999999999999999"),
                ("sort", ":::"),
                ("id", ""),
                ("limit", "-1"),
            ] {
                calls.push((
                    format!("{name}={value:?}"),
                    with_path(operation, "x").query(name, value),
                ));
            }
            for (name, value) in [
                ("content-length", "-1"),
                ("x-men-requestid", "a\tb"),
                ("if-match", "\"\\\""),
                ("range", "bytes=5-1"),
                ("x-men-signature", "!!!"),
                ("x-men-rbac-inventory-groups", "a,b"),
                ("cookie", "JWT=; JWT=x.y.z"),
            ] {
                if name != "content-length" {
                    calls.push((
                        format!("header {name}"),
                        with_path(operation, "x").header(name, value),
                    ));
                }
            }
            for (what, call) in calls {
                if let Err(error) = world.send(dressed(call)).await {
                    wrong.push(format!("{} with {what}: {error:#}", operation.name));
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "{} wrong: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(60)]
        );
        Ok(())
    });
}

#[test]
fn forged_tokens_are_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    flow("forged", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let parts: Vec<&str> = tenant.user.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
        let hmac = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let payload = URL_SAFE_NO_PAD.decode(parts[1])?;
        let mut changed = payload.clone();
        changed.extend_from_slice(b" ");
        let changed = URL_SAFE_NO_PAD.encode(changed);
        let mut flipped = tenant.user.clone().into_bytes();
        let last = flipped.len() - 10;
        flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
        let huge = "x".repeat(7000);
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{hmac}.{}.{}", parts[1], parts[2]),
            format!("{}.{changed}.{}", parts[0], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            String::from_utf8(flipped)?,
            format!("{}.", tenant.user),
            huge,
            ".".to_owned(),
            "..".to_owned(),
        ] {
            world
                .call(Call::new("useradm_list_users").by(&forged), 401)
                .await?;
        }
        world
            .call(Call::new("useradm_list_users").by(&tenant.user), 200)
            .await?;
        Ok(())
    });
}
