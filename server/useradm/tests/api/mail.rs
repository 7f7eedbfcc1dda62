//! Mails with links: resetting a password, proving an address, inviting.

use super::*;

impl World {
    /// The secret in the link of the newest of `count` mails.
    async fn secret(&self, count: usize, path: &str) -> String {
        let mails = self.mailer.received(count).await;
        assert_eq!(mails.len(), count);
        let text = &mails[count - 1].text;
        let link = format!("https://ota.example/ui/#/{path}/");
        let (_, rest) = text.split_once(&link).unwrap_or_else(|| panic!("{text}"));
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap();
        rest[..end].to_owned()
    }

    async fn post(&self, path: &str, body: impl ToString) -> u16 {
        self.call("POST", path, "", body).await.status
    }

    /// Waits until no job is left that is not done.
    async fn settled(&self) {
        loop {
            let counts = self.jobs.counts().await.unwrap();
            if !counts.iter().any(|count| count.kind == "useradm.mail") {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

const START: &str = "/auth/password-reset/start";
const COMPLETE: &str = "/auth/password-reset/complete";

#[tokio::test]
async fn passwords_are_reset_by_mail() {
    let world = World::with_mail();
    world.user("t1", "user@b.c").await;
    let token = world.login("user@b.c").await;
    let personal = json!({"name": "ci"});
    let personal = world
        .call("POST", "/settings/tokens", &token, personal)
        .await
        .text;
    for (body, status) in [
        (json!({"email": "USER@b.c"}), 202),
        (json!({"email": "nobody@b.c"}), 202),
        (json!({"email": ""}), 400),
        (json!({"email": "nonsense"}), 400),
        (json!({"email": ["user@b.c"]}), 400),
        (json!({}), 400),
    ] {
        assert_eq!(world.post(START, &body).await, status, "{body}");
    }
    let secret = world.secret(1, "password").await;
    world.settled().await;
    assert_eq!(
        world.mailer.sent()[0].to,
        ["user@b.c"],
        "and none to nobody"
    );
    // The secret itself is nowhere in the database.
    let rows = world
        .db
        .query("SELECT hash FROM useradm_secrets", Vec::new())
        .await
        .unwrap();
    assert!(!rows[0].text(0).unwrap().contains(&secret));

    let complete = async |body: Value| world.post(COMPLETE, body).await;
    let new = "another password";
    assert_eq!(
        complete(json!({"secret": "dummy", "password": new})).await,
        400
    );
    assert_eq!(
        complete(json!({"secret_hash": ["dummy"], "password": new})).await,
        400
    );
    assert_eq!(complete(json!({"password": new})).await, 400);
    assert_eq!(complete(json!({"secret": secret})).await, 400);
    assert_eq!(
        complete(json!({"secret": secret, "password": "short"})).await,
        400
    );
    assert_eq!(
        complete(json!({"secret_hash": secret, "password": new})).await,
        202
    );
    assert_eq!(
        complete(json!({"secret": secret, "password": new})).await,
        400,
        "used"
    );
    assert_eq!(world.try_login("user@b.c", PASSWORD, "").await.status, 401);
    let token_after = world.try_login("user@b.c", new, "").await;
    assert_eq!(token_after.status, 200);
    for old in [&token, &personal] {
        assert_eq!(
            world.call("GET", "/users/me", old, "").await.status,
            401,
            "all sessions end"
        );
    }
    let me = world
        .call("GET", "/users/me", &token_after.text, "")
        .await
        .json();
    assert_eq!(me["verified"], true, "the mail has arrived");
}

#[tokio::test]
async fn links_expire_and_newer_ones_count() {
    let world = World::with_mail();
    world.user("", "user@b.c").await;
    let start = async || world.post(START, json!({"email": "user@b.c"})).await;
    start().await;
    let first = world.secret(1, "password").await;
    world.settled().await;
    start().await;
    world.settled().await;
    assert_eq!(world.mailer.sent().len(), 1, "not more than one a minute");
    world.clock.advance(61_000);
    start().await;
    let second = world.secret(2, "password").await;
    world.settled().await;
    let complete = async |secret: &str| {
        world
            .post(
                COMPLETE,
                json!({"secret": secret, "password": "another password"}),
            )
            .await
    };
    assert_eq!(complete(&first).await, 400, "a newer mail was sent");
    world.clock.advance(3_600_000);
    assert_eq!(complete(&second).await, 400, "expired");
    world.clock.advance(61_000);
    start().await;
    let third = world.secret(3, "password").await;
    world.settled().await;
    // Another address: what the old one received counts no more.
    let token = world.login("user@b.c").await;
    let change = json!({"email": "new@b.c"});
    assert_eq!(
        world.call("PUT", "/users/me", &token, change).await.status,
        204
    );
    assert_eq!(complete(&third).await, 400);
}

#[tokio::test]
async fn addresses_are_verified() {
    let world = World::with_mail();
    let id = world.user("t1", "user@b.c").await;
    let token = world.login("user@b.c").await;
    let enable = json!({"2fa": "enabled", format!("{id}_2fa"): "enabled"});
    assert_eq!(
        world
            .call("POST", "/settings", &token, &enable)
            .await
            .status,
        403
    );
    assert_eq!(
        world
            .call("POST", "/settings", &token, json!({"2fa": "enabled"}))
            .await
            .status,
        403
    );
    assert_eq!(
        world
            .call("POST", "/users/me/2fa/enable", &token, "")
            .await
            .status,
        403
    );
    assert_eq!(
        world.call("GET", "/settings", &token, "").await.text,
        "{}",
        "nothing was saved"
    );
    for (body, status) in [
        (json!({"email": "user@b.c"}), 202),
        (json!({"email": "nobody@b.c"}), 202),
        (json!({"email": ""}), 400),
        (json!({"email": ["user@b.c"]}), 400),
    ] {
        assert_eq!(
            world.post("/auth/verify-email/start", &body).await,
            status,
            "{body}"
        );
    }
    let secret = world.secret(1, "activate").await;
    let complete = async |secret: Value| {
        world
            .post(
                "/auth/verify-email/complete",
                json!({"secret_hash": secret}),
            )
            .await
    };
    assert_eq!(complete(json!("dummy")).await, 400);
    assert_eq!(complete(json!(["dummy"])).await, 400);
    assert_eq!(
        world
            .post(
                COMPLETE,
                json!({"secret": secret, "password": "another one"})
            )
            .await,
        400
    );
    assert_eq!(complete(json!(secret)).await, 204);
    assert_eq!(complete(json!(secret)).await, 400);
    assert_eq!(
        world.call("GET", "/users/me", &token, "").await.json()["verified"],
        true
    );
    assert_eq!(
        world
            .call("POST", "/settings", &token, &enable)
            .await
            .status,
        201
    );
    let change = json!({"email": "new@b.c"});
    assert_eq!(
        world.call("PUT", "/users/me", &token, change).await.status,
        204
    );
    let me = world.call("GET", "/users/me", &token, "").await.json();
    assert_eq!(
        (&me["verified"], &me["tfa_status"]),
        (&json!(false), &json!("disabled"))
    );
}

#[tokio::test]
async fn users_without_a_password_are_invited() {
    let world = World::with_mail();
    let admin = world.with_roles("t1", "admin@b.c", &[]).await;
    let new = json!({"email": "new@b.c", "roles": ["RBAC_ROLE_CI"]});
    assert_eq!(world.call("POST", "/users", &admin, &new).await.status, 201);
    let secret = world.secret(1, "password").await;
    assert_eq!(
        world.try_login("new@b.c", "", "").await.status,
        401,
        "no password is none"
    );
    world.clock.advance(48 * 3_600_000);
    assert_eq!(
        world
            .post(COMPLETE, json!({"secret": secret, "password": PASSWORD}))
            .await,
        202
    );
    world.login("new@b.c").await;
    let new = json!({"email": "second@b.c", "password": PASSWORD, "send_reset_password": true});
    assert_eq!(
        world
            .call("POST", "/users", &world.login("admin@b.c").await, &new)
            .await
            .status,
        201
    );
    assert_eq!(world.mailer.received(2).await[1].to, ["second@b.c"]);
}

#[tokio::test]
async fn a_server_without_mail_says_so_to_nobody_but_its_log() {
    let world = World::new();
    world.user("", "user@b.c").await;
    for email in ["user@b.c", "nobody@b.c"] {
        assert_eq!(world.post(START, json!({"email": email})).await, 202);
    }
    let jobs = world.jobs.counts().await.unwrap();
    assert!(
        jobs.is_empty(),
        "nothing waits for a mail server that may never come"
    );
}

#[tokio::test]
async fn asking_for_mails_is_limited() {
    let world = World::with_mail();
    let start = async |n: usize| {
        let body = json!({"email": format!("user{n}@b.c")}).to_string();
        world
            .call_with("POST", START, "", &[("x-forwarded-for", "192.0.2.1")], body)
            .await
    };
    for n in 0..20 {
        assert_eq!(start(n).await.status, 202);
    }
    let answer = start(20).await;
    assert_eq!(
        (
            answer.status,
            answer.headers["retry-after"].to_str().unwrap()
        ),
        (429, "6")
    );
    assert_eq!(
        world.post(START, json!({"email": "a@b.c"})).await,
        202,
        "others are not touched"
    );
}
