//! What users do for themselves: the second factor, personal access tokens.

use super::*;
use ring::hmac;

/// What a phone makes of the picture: a scanner reads it, the secret is taken from the text.
fn scan(qr: &str) -> Vec<u8> {
    let file = base64::engine::general_purpose::STANDARD
        .decode(qr)
        .unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(file))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let side = info.width as usize;
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(side, info.height as usize, |x, y| {
            pixels[y * side + x]
        });
    let (_, text) = image.detect_grids()[0].decode().unwrap();
    assert!(
        text.starts_with("otpauth://totp/Ambidex:user@b.c?"),
        "{text}"
    );
    let (_, rest) = text.split_once("secret=").unwrap();
    let letters = rest.split('&').next().unwrap();
    let mut bits = String::new();
    for letter in letters.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
            .iter()
            .position(|l| *l == letter)
            .unwrap();
        bits.push_str(&format!("{value:05b}"));
    }
    bits.as_bytes()
        .chunks_exact(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect()
}

/// The code of that moment.
fn code(secret: &[u8], now_ms: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &(now_ms / 30_000).to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let word = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", word % 1_000_000)
}

impl World {
    fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    async fn login_with(&self, email: &str, code: Option<&str>) -> Answer {
        let body = code.map_or(String::new(), |code| json!({"token2fa": code}).to_string());
        self.try_login(email, PASSWORD, &body).await
    }
}

#[tokio::test]
async fn the_second_factor_from_switching_on_to_off() {
    let world = World::new();
    let id = world.user("t1", "user@b.c").await;
    world.user("t1", "other@b.c").await;
    let token = world.login("user@b.c").await;
    let other = world.login("other@b.c").await;
    let toggle = async |token: &str, state: &str| {
        let settings = json!({"2fa": state, format!("{id}_2fa"): state});
        world
            .call("POST", "/settings", token, settings)
            .await
            .status
    };
    let state =
        async || world.call("GET", "/users/me", &token, "").await.json()["tfa_status"].clone();
    let verify = async |code: &str| {
        world
            .call("PUT", "/2faverify", &token, json!({"token2fa": code}))
            .await
            .status
    };
    assert_eq!(
        world.call("GET", "/2faqr", &token, "").await.status,
        400,
        "not switched on"
    );
    assert_eq!(verify("123456").await, 400);
    assert_eq!(
        toggle(&other, "enabled").await,
        201,
        "kept, but another user's factor stays"
    );
    assert_eq!(state().await, "disabled");

    assert_eq!(toggle(&token, "enabled").await, 201);
    assert_eq!(state().await, "unverified");
    assert_eq!(
        world.login_with("user@b.c", None).await.status,
        200,
        "not yet needed"
    );
    let qr = world.call("GET", "/2faqr", &token, "").await.json();
    let secret = scan(qr["qr"].as_str().unwrap());
    assert_eq!(secret.len(), 20);
    assert_eq!(toggle(&token, "enabled").await, 201);
    let again = world.call("GET", "/2faqr", &token, "").await.json();
    assert_eq!(
        scan(again["qr"].as_str().unwrap()),
        secret,
        "saving again changes nothing"
    );
    let row = world.db.query(
        "SELECT tfa_secret FROM useradm_users WHERE tfa_secret IS NOT NULL",
        vec![],
    );
    let sealed = row.await.unwrap()[0].text(0).unwrap().to_owned();
    assert!(
        !sealed.is_empty() && sealed != base64::engine::general_purpose::STANDARD.encode(&secret)
    );

    let good = code(&secret, world.now());
    let bad = if good == "000000" { "000001" } else { "000000" };
    assert_eq!(verify(bad).await, 401);
    assert_eq!(
        world.call("PUT", "/2faverify", &token, "{}").await.status,
        400
    );
    assert_eq!(
        world.call("PUT", "/2faverify", &token, "[").await.status,
        400
    );
    assert_eq!(verify(&good).await, 202);
    assert_eq!(state().await, "enabled");
    assert_eq!(verify(&good).await, 400, "done already");
    assert_eq!(
        world.call("GET", "/2faqr", &token, "").await.status,
        400,
        "never shown again"
    );

    for missing in [None, Some(""), Some(bad), Some("12345"), Some("abcdef")] {
        let answer = world.login_with("user@b.c", missing).await;
        assert_eq!(answer.status, 401, "{missing:?}");
        assert!(answer.error().contains("2fa"), "{}", answer.text);
    }
    let wrong = world.try_login("user@b.c", "wrong password", "").await;
    assert_eq!(
        wrong.error(),
        "unauthorized",
        "tells nothing about the factor"
    );
    assert_eq!(world.login_with("user@b.c", Some(&good)).await.status, 200);
    let replay = world.login_with("user@b.c", Some(&good)).await;
    assert_eq!(replay.status, 401, "no code works twice");
    assert!(replay.error().contains("2fa"));
    world.clock.advance(30_000);
    let next = code(&secret, world.now());
    assert_eq!(world.login_with("user@b.c", Some(&next)).await.status, 200);
    world.clock.advance(90_000);
    let early = code(&secret, world.now() - 60_000);
    assert_eq!(
        world.login_with("user@b.c", Some(&early)).await.status,
        401,
        "two steps late"
    );
    let late = code(&secret, world.now() - 30_000);
    assert_eq!(
        world.login_with("user@b.c", Some(&late)).await.status,
        200,
        "one step late"
    );
    assert_eq!(
        world.login_with("other@b.c", None).await.status,
        200,
        "others are not touched"
    );

    assert_eq!(toggle(&other, "disabled").await, 201);
    assert_eq!(
        state().await,
        "enabled",
        "another user cannot switch it off"
    );
    assert_eq!(toggle(&token, "disabled").await, 201);
    assert_eq!(state().await, "disabled");
    assert_eq!(world.login_with("user@b.c", None).await.status, 200);
}

#[tokio::test]
async fn the_second_factor_by_its_own_operations() {
    let world = World::new();
    let id = world.user("", "user@b.c").await;
    let other = world.user("", "other@b.c").await;
    let token = world.login("user@b.c").await;
    let post = async |path: String| world.call("POST", &path, &token, "").await.status;
    assert_eq!(post(format!("/users/{other}/2fa/enable")).await, 403);
    assert_eq!(post(format!("/users/{id}/2fa/enable")).await, 202);
    let qr = world.call("GET", "/2faqr", &token, "").await.json();
    let secret = scan(qr["qr"].as_str().unwrap());
    let body = json!({"token2fa": code(&secret, world.now())});
    assert_eq!(
        world.call("PUT", "/2faverify", &token, body).await.status,
        202
    );
    assert_eq!(world.login_with("user@b.c", None).await.status, 401);

    // Guessing codes is slowed down, for whoever has the password only.
    for _ in 0..10 {
        world.login_with("user@b.c", Some("000000")).await;
    }
    let answer = world
        .login_with("user@b.c", Some(&code(&secret, world.now())))
        .await;
    assert_eq!(
        (
            answer.status,
            answer.headers["retry-after"].to_str().unwrap()
        ),
        (429, "60")
    );
    assert_eq!(post("/users/me/2fa/disable".to_owned()).await, 202);
    assert_eq!(world.login_with("user@b.c", None).await.status, 200);
}

#[tokio::test]
async fn the_second_factor_is_part_of_plans() {
    let world = World::new();
    let id = world.user("t2", "user@b.c").await;
    world.user("t3", "professional@b.c").await;
    let token = world.login("user@b.c").await;
    let settings = json!({format!("{id}_2fa"): "enabled"});
    for (method, path, body) in [
        ("POST", "/settings", settings),
        ("POST", "/users/me/2fa/enable", json!("")),
    ] {
        let answer = world.call(method, path, &token, body).await;
        let text = "Feature not available in your Plan.";
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (403, text),
            "{path}"
        );
    }
    assert_eq!(
        world.login_with("user@b.c", Some("123456")).await.status,
        403
    );
    let token = world.login("professional@b.c").await;
    assert_eq!(
        world
            .call("POST", "/users/me/2fa/enable", &token, "")
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn personal_access_tokens() {
    let world = World::new();
    world.user("t1", "user@b.c").await;
    world.user("t1", "other@b.c").await;
    let (token, other) = (
        world.login("user@b.c").await,
        world.login("other@b.c").await,
    );
    let post =
        async |token: &str, body: Value| world.call("POST", "/settings/tokens", token, body).await;
    for bad in [
        json!({"expires_in": 1}),
        json!({"name": ""}),
        json!({"name": "x".repeat(4097)}),
        json!({"name": "x", "expires_in": -1}),
        json!({"name": "x", "expires_in": 31_536_001}),
        json!({"name": 1}),
        json!([]),
    ] {
        assert_eq!(post(&token, bad.clone()).await.status, 400, "{bad}");
    }
    assert_eq!(
        world.call("GET", "/settings/tokens", &token, "").await.text,
        "[]"
    );
    let made = post(&token, json!({"name": "ci", "expires_in": 3600})).await;
    assert_eq!(made.status, 200);
    assert_eq!(made.headers["content-type"], "application/jwt");
    let claims = world.keys.verify(&made.text).unwrap();
    assert_eq!(
        (claims.exp, claims.user, claims.scp.as_deref()),
        (Some(NOW / 1000 + 3600), Some(true), Some("mender.*"))
    );
    assert_eq!(post(&token, json!({"name": "ci"})).await.status, 409);
    assert_eq!(
        post(&other, json!({"name": "ci"})).await.status,
        200,
        "another user's"
    );

    let list = async || {
        world
            .call("GET", "/settings/tokens", &token, "")
            .await
            .json()
    };
    let id = list().await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        list().await,
        json!([{"id": id, "name": "ci", "expiration_date": "2021-02-01T11:00:00Z",
            "created_ts": "2021-02-01T10:00:00Z"}])
    );
    assert_eq!(
        world.call("GET", "/users/me", &made.text, "").await.status,
        200
    );
    assert_eq!(list().await[0]["last_used"], "2021-02-01T10:00:00Z");
    world.clock.advance(60_000);
    assert_eq!(
        world.call("GET", "/users/me", &made.text, "").await.status,
        200
    );
    assert_eq!(
        list().await[0]["last_used"],
        "2021-02-01T10:00:00Z",
        "not written each time"
    );
    world.clock.advance(300_000);
    assert_eq!(
        world
            .verify(&made.text, "GET", "/api/management/v1/useradm/users")
            .await
            .status,
        200
    );
    assert_eq!(list().await[0]["last_used"], "2021-02-01T10:06:00Z");

    for n in 1..10 {
        assert_eq!(
            post(&token, json!({"name": format!("t{n}")})).await.status,
            200
        );
    }
    assert_eq!(post(&token, json!({"name": "t10"})).await.status, 422);
    // A login does not push them out, nor does their number count as logins.
    for _ in 0..3 {
        world.login("user@b.c").await;
    }
    assert_eq!(list().await.as_array().unwrap().len(), 10);
    let path = format!("/settings/tokens/{id}");
    assert_eq!(
        world.call("DELETE", &path, &other, "").await.status,
        204,
        "not the other's"
    );
    assert_eq!(
        world.call("GET", "/users/me", &made.text, "").await.status,
        200
    );
    assert_eq!(world.call("DELETE", &path, &token, "").await.status, 204);
    assert_eq!(
        world.call("GET", "/users/me", &made.text, "").await.status,
        401,
        "at once"
    );
    assert_eq!(world.call("DELETE", &path, &token, "").await.status, 204);
    let session = world.keys.verify(&token).unwrap().jti.unwrap();
    world
        .call("DELETE", &format!("/settings/tokens/{session}"), &token, "")
        .await;
    assert_eq!(
        world.call("GET", "/users/me", &token, "").await.status,
        200,
        "a login is no such token"
    );
    assert_eq!(
        post(&token, json!({"name": "t10", "expires_in": 60}))
            .await
            .status,
        200
    );
    world.clock.advance(60_000);
    assert_eq!(
        list().await.as_array().unwrap().len(),
        9,
        "expired ones are gone"
    );
    assert_eq!(
        post(&token, json!({"name": "t10"})).await.status,
        200,
        "their name is free"
    );
}
