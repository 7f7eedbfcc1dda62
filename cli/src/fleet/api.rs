//! The management API as the verbs use it: paths, the token, errors.

use anyhow::{Context as _, anyhow};
use reqwest::header::{
    CONNECTION, HeaderMap, HeaderValue, LOCATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Upgraded, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use ambidex_wire::ErrorBody;

use crate::exit::{Code, Failure};

/// Items asked for in one page; the most that servers give.
const PAGE_ITEMS: usize = 500;
/// Longest answer that is held in memory. The longest that is expected is a page of devices.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest message of a websocket that is read. Servers of ours send at most 512 KiB.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Answers to the request for a websocket that may be another one in a moment: the device is not
/// connected (404, 409), too many sessions (429), and those of proxies whose server is restarting.
const TRANSIENT: [StatusCode; 7] = [
    StatusCode::NOT_FOUND,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::CONFLICT,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// An open websocket, and what the server said when it opened it.
pub struct Websocket {
    pub socket: WebSocketStream<Upgraded>,
    pub headers: HeaderMap,
}

/// Why there is no websocket.
pub struct NoWebsocket {
    /// It may work a little later.
    pub transient: bool,
    pub failure: Failure,
}

/// A client of one server, as one user.
pub struct Api {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

/// Parts of a path below `/api/management/`; each is encoded on its own.
pub type Path<'a> = &'a [&'a str];

impl Api {
    pub fn new(http: reqwest::Client, base: Url, token: Option<String>) -> Self {
        Self { http, base, token }
    }

    fn url(&self, path: Path<'_>, query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(["api", "management"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn request(&self, method: Method, path: Path<'_>, query: &[(&str, String)]) -> RequestBuilder {
        let request = self.http.request(method, self.url(path, query));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends, and turns every answer but a success into an error that says what the server said.
    async fn send(&self, request: RequestBuilder, doing: &str) -> Result<Response, Failure> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response, doing).await)
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        // The URL is said here once; without it the chain of causes says why.
        anyhow::Error::new(error.without_url())
            .context(format!(
                "cannot talk to {}; is it up, and is the address right?",
                self.base
            ))
            .into()
    }

    /// GET of a JSON value.
    pub async fn get(
        &self,
        path: Path<'_>,
        query: &[(&str, String)],
        doing: &str,
    ) -> Result<Value, Failure> {
        let response = self
            .send(self.request(Method::GET, path, query), doing)
            .await?;
        let text = self.body(response).await?;
        Ok(serde_json::from_slice(&text).with_context(|| {
            format!(
                "{doing}: the answer is not JSON; is {} the right server?",
                self.base
            )
        })?)
    }

    /// GET of text.
    pub async fn get_text(&self, path: Path<'_>, doing: &str) -> Result<String, Failure> {
        let response = self
            .send(self.request(Method::GET, path, &[]), doing)
            .await?;
        Ok(String::from_utf8_lossy(&self.body(response).await?).into_owned())
    }

    /// GET of a JSON value that may not be there.
    pub async fn get_if_known(
        &self,
        path: Path<'_>,
        doing: &str,
    ) -> Result<Option<Value>, Failure> {
        let request = self.request(Method::GET, path, &[]);
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(refusal(response, doing).await);
        }
        let text = self.body(response).await?;
        Ok(Some(serde_json::from_slice(&text).with_context(|| {
            format!("{doing}: the answer is not JSON")
        })?))
    }

    /// GET of something whose size is not limited.
    pub async fn stream(&self, path: Path<'_>, doing: &str) -> Result<Response, Failure> {
        self.send(self.request(Method::GET, path, &[]), doing).await
    }

    /// GET that asks for a websocket. The connection is made as for every other request: proxy,
    /// certificates and token are the same.
    pub async fn websocket(&self, path: Path<'_>, doing: &str) -> Result<Websocket, NoWebsocket> {
        let key = generate_key();
        let request = self
            .request(Method::GET, path, &[])
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        let response = request.send().await.map_err(|error| NoWebsocket {
            transient: true,
            failure: self.unreachable(error),
        })?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(NoWebsocket {
                transient: TRANSIENT.contains(&status),
                failure: refusal(response, doing).await,
            });
        }
        let headers = response.headers().clone();
        let accepted = derive_accept_key(key.as_bytes());
        let wrong = |text: String| NoWebsocket {
            transient: false,
            failure: anyhow!("{doing}: {text}").into(),
        };
        if headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes) != Some(accepted.as_bytes())
        {
            return Err(wrong(format!(
                "{} or a proxy before it does not know websockets",
                self.base
            )));
        }
        let stream = response
            .upgrade()
            .await
            .map_err(|error| wrong(format!("the connection was not upgraded: {error}")))?;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits)).await;
        Ok(Websocket { socket, headers })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(error))?
        {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(anyhow!(
                    "the answer of {} has more than {ANSWER_BYTES_MAX} bytes",
                    self.base
                )
                .into());
            }
        }
        Ok(body)
    }

    /// All pages of a list.
    pub async fn list(
        &self,
        path: Path<'_>,
        query: &[(&str, String)],
        doing: &str,
    ) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        for page in 1_u32.. {
            let mut query = query.to_vec();
            query.push(("page", page.to_string()));
            query.push(("per_page", PAGE_ITEMS.to_string()));
            let Value::Array(found) = self.get(path, &query, doing).await? else {
                return Err(anyhow!("{doing}: the answer is not a list").into());
            };
            let last = found.len() < PAGE_ITEMS;
            items.extend(found);
            if last {
                break;
            }
        }
        Ok(items)
    }

    /// PUT of a JSON body.
    pub async fn put<T: Serialize + Sync>(
        &self,
        path: Path<'_>,
        body: &T,
        doing: &str,
    ) -> Result<(), Failure> {
        self.send(self.request(Method::PUT, path, &[]).json(body), doing)
            .await
            .map(drop)
    }

    /// POST of a JSON body; the last part of the Location header, which is the id of what was made.
    pub async fn create<T: Serialize + Sync>(
        &self,
        path: Path<'_>,
        body: &T,
        doing: &str,
    ) -> Result<String, Failure> {
        let response = self
            .send(self.request(Method::POST, path, &[]).json(body), doing)
            .await?;
        Ok(created(response.headers())
            .with_context(|| format!("{doing}: the server does not say the id"))?)
    }

    /// POST of a streamed body.
    pub async fn upload(
        &self,
        path: Path<'_>,
        content_type: &str,
        length: u64,
        body: reqwest::Body,
        doing: &str,
    ) -> Result<String, Failure> {
        let request = self
            .request(Method::POST, path, &[])
            .header("content-type", content_type)
            .header("content-length", length)
            .body(body);
        let response = self.send(request, doing).await?;
        Ok(created(response.headers())
            .with_context(|| format!("{doing}: the server does not say the id"))?)
    }

    pub async fn delete(&self, path: Path<'_>, doing: &str) -> Result<(), Failure> {
        self.send(self.request(Method::DELETE, path, &[]), doing)
            .await
            .map(drop)
    }

    /// Logs in; the token.
    pub async fn log_in(
        &self,
        email: &str,
        password: &str,
        second_factor: Option<&str>,
    ) -> Result<String, Failure> {
        let mut request = self
            .request(Method::POST, &["v1", "useradm", "auth", "login"], &[])
            .basic_auth(email, Some(password));
        if let Some(code) = second_factor {
            request = request.json(&serde_json::json!({ "token2fa": code }));
        }
        let response = self
            .send(request, &format!("cannot log in as {email}"))
            .await?;
        let token = String::from_utf8_lossy(&self.body(response).await?)
            .trim()
            .trim_matches('"')
            .to_owned();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(anyhow!(
                "{} did not answer with a token; is it the right server?",
                self.base
            )
            .into());
        }
        Ok(token)
    }

    /// GET of a link that the server gave out, which carries its own permission.
    pub async fn fetch(&self, link: &str, doing: &str) -> Result<Response, Failure> {
        let link = self
            .base
            .join(link)
            .with_context(|| format!("{doing}: the server gave a link that is no URL"))?;
        let response = self
            .http
            .get(link.clone())
            .send()
            .await
            .map_err(|error| anyhow::Error::new(error.without_url()))
            .with_context(|| {
                format!(
                    "{doing}: cannot reach {}",
                    link.host_str().unwrap_or("the storage")
                )
            })?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(refusal(response, doing).await)
        }
    }
}

/// Decodes an item of an answer.
pub fn decode<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, Failure> {
    Ok(T::deserialize(value)
        .with_context(|| format!("the server describes {what} in an unknown way"))?)
}

fn created(headers: &HeaderMap) -> Option<String> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let id = location.trim_end_matches('/').rsplit('/').next()?;
    (!id.is_empty()).then(|| id.to_owned())
}

async fn refusal(mut response: Response, doing: &str) -> Failure {
    let status = response.status();
    // Enough for any error message; the rest would be a web page.
    let mut text = Vec::new();
    while text.len() < 16 * 1024 {
        match response.chunk().await {
            Ok(Some(piece)) => text.extend_from_slice(&piece),
            Ok(None) | Err(_) => break,
        }
    }
    let said = match serde_json::from_slice::<ErrorBody>(&text) {
        Ok(ErrorBody { error, request_id }) if request_id.is_empty() => error,
        Ok(ErrorBody { error, request_id }) => format!("{error} (request {request_id})"),
        Err(_) => status
            .canonical_reason()
            .unwrap_or("no reason given")
            .to_owned(),
    };
    let said: String = said.chars().filter(|c| !c.is_control()).collect();
    match status {
        StatusCode::UNAUTHORIZED => Failure {
            code: Code::Refused,
            error: anyhow!("{doing}: {said}; log in again: ambidex login"),
        },
        StatusCode::FORBIDDEN => Failure {
            code: Code::Refused,
            error: anyhow!("{doing}: not permitted: {said}"),
        },
        status => anyhow!("{doing}: {said} (HTTP {})", status.as_u16()).into(),
    }
}
