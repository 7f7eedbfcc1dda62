//! Enrols devices the way a factory does: preauthorised, then a signed request of their own.

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{
    Signer, SigningKey,
    pkcs8::{EncodePublicKey, spki::der::pem::LineEnding},
};

use crate::{connection::Connection, server::Server};

/// An enrolled device.
#[derive(Clone)]
pub struct Member {
    pub id: String,
    pub token: String,
    /// Its authentication request, to be sent again, and the signature of it.
    pub request: String,
    pub signature: String,
}

/// Enrols `count` devices over `connections` connections and returns a token of each.
pub async fn enrol(
    server: &Server,
    count: usize,
    connections: usize,
) -> anyhow::Result<Vec<String>> {
    let members = members(server, count, connections).await?;
    Ok(members.into_iter().map(|member| member.token).collect())
}

/// Enrols `count` devices over `connections` connections.
pub async fn members(
    server: &Server,
    count: usize,
    connections: usize,
) -> anyhow::Result<Vec<Member>> {
    let key = SigningKey::generate(&mut rand::rngs::OsRng);
    let public_pem = key.verifying_key().to_public_key_pem(LineEnding::LF)?;
    let mut tasks = Vec::new();
    for worker in 0..connections {
        let address = server.address.clone();
        let user = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            server.user_token
        );
        let (key, public_pem) = (key.clone(), public_pem.clone());
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            let mut tokens = Vec::new();
            for number in (worker..count).step_by(connections) {
                tokens.push(enrol_one(&mut connection, &user, &key, &public_pem, number).await?);
            }
            anyhow::Ok(tokens)
        }));
    }
    let mut tokens = Vec::with_capacity(count);
    for task in tasks {
        tokens.extend(task.await??);
    }
    Ok(tokens)
}

async fn enrol_one(
    connection: &mut Connection,
    user: &str,
    key: &SigningKey,
    public_pem: &str,
    number: usize,
) -> anyhow::Result<Member> {
    let identity = serde_json::json!({ "mac": format!("02:00:{number:012x}") });
    let body = serde_json::json!({ "identity_data": identity, "pubkey": public_pem });
    let answer = connection
        .call(
            "POST",
            "/api/management/v2/devauth/devices",
            user,
            body.to_string().as_bytes(),
        )
        .await?;
    if answer.status != 201 {
        bail!(
            "preauthorise answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
    let request =
        serde_json::json!({ "id_data": identity.to_string(), "pubkey": public_pem }).to_string();
    let location = answer.location.context("the device has no location")?;
    let id = location.rsplit('/').next().unwrap_or_default().to_owned();
    let signature = STANDARD.encode(key.sign(request.as_bytes()).to_bytes());
    let headers = format!("X-MEN-Signature: {signature}\r\nContent-Type: application/json\r\n");
    let answer = connection
        .call(
            "POST",
            "/api/devices/v1/authentication/auth_requests",
            &headers,
            request.as_bytes(),
        )
        .await?;
    if answer.status != 200 {
        bail!("auth request answered {}", answer.status);
    }
    Ok(Member {
        id,
        token: String::from_utf8(answer.body).context("device token")?,
        request,
        signature,
    })
}
