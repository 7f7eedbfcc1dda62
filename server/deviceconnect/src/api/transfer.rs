//! Files of a device over plain HTTP.

use ambidex_access::{UserAuth, UserIdentity};
use ambidex_kit::{ApiError, QueryPairs};
use ambidex_wire::session::file::{FileInfo, PutFile, unix_permissions};
use axum::body::Body;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest as _, Multipart, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::TryStreamExt as _;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::domain::admission;
use crate::domain::audit;
use crate::domain::transfer::{self, Spool, Transfer};
use crate::{Deviceconnect, DeviceconnectError};

/// Longest text field of the form.
const FIELD_BYTES_MAX: usize = 4096;

/// Download a file from the device
pub(super) async fn download_file(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let path = wanted(&query)?;
    let inner = &deviceconnect.0;
    let action = Some(audit::DOWNLOAD_FILE);
    let mut transfer = transfer::open(inner, &user, &id, action, path).await?;
    let headers = match transfer.stat(path).await {
        Ok(info) => describe(path, &info),
        Err(error) => return Err(refuse(&mut transfer, error).await),
    };
    let content = transfer.download(path).await?.inspect_err(|error| {
        tracing::warn!(%error, "a download ended early");
    });
    Ok((headers, Body::from_stream(content)).into_response())
}

/// What is known of a file of the device
pub(super) async fn stat_file(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let path = wanted(&query)?;
    let mut transfer = transfer::open(&deviceconnect.0, &user, &id, None, path).await?;
    let outcome = transfer.stat(path).await;
    transfer.close().await;
    Ok(describe(path, &outcome?).into_response())
}

async fn refuse(transfer: &mut Transfer, error: DeviceconnectError) -> ApiError {
    transfer.close().await;
    error.into()
}

fn wanted(query: &QueryPairs) -> Result<&str, ApiError> {
    query
        .first("path")
        .filter(|path| !path.is_empty())
        .ok_or_else(|| ApiError::bad_request("path: cannot be blank"))
}

fn describe(path: &str, info: &FileInfo) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, text: Option<String>| {
        // A path of the device may hold what a header cannot.
        if let Some(value) = text.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    add("x-men-file-path", Some(path.to_owned()));
    add("x-men-file-uid", info.uid.map(|n| n.to_string()));
    add("x-men-file-gid", info.gid.map(|n| n.to_string()));
    let mode = info.mode.map(unix_permissions);
    add("x-men-file-mode", mode.map(|mode| format!("{mode:o}")));
    add("x-men-file-size", info.size.map(|n| n.to_string()));
    let base = path.rsplit('/').next().unwrap_or_default();
    let base = base.replace(['"', '\\'], "_");
    let attachment = format!("attachment; filename=\"{base}\"");
    if let Ok(value) = HeaderValue::from_bytes(attachment.as_bytes()) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers
}

/// Upload a file to the device
pub(super) async fn upload_file(
    UserAuth(user): UserAuth,
    State(deviceconnect): State<Deviceconnect>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    // Before the whole file is taken for a device that is not there.
    admission::connected_device(&deviceconnect.0, &user, &id).await?;
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("invalid multipart form: {error}")))?;
    let mut fields = Fields::default();
    let mut spooled = None;
    while let Some(field) = form.next_field().await.map_err(malformed)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name != "file" {
            fields.set(&name, text(field, &name).await?)?;
            continue;
        }
        if spooled.is_some() {
            return Err(ApiError::bad_request("file: must be given once"));
        }
        fields.file_name = field.file_name().map(str::to_owned);
        if fields.complete() {
            // Nothing that could still come would change anything: no need to keep the file.
            let content = field.map_err(std::io::Error::other);
            let mut content = tokio_util::io::StreamReader::new(content);
            let limited = Limited::new(&mut content, deviceconnect.0.settings.upload_bytes_max);
            put(&deviceconnect, &user, &id, &fields, None, limited).await?;
            return Ok(StatusCode::CREATED);
        }
        spooled = Some(spool(&deviceconnect, field).await?);
    }
    let Some((file, size)) = spooled else {
        return Err(ApiError::bad_request("file: cannot be blank"));
    };
    put(&deviceconnect, &user, &id, &fields, Some(size), file).await?;
    Ok(StatusCode::CREATED)
}

async fn put(
    deviceconnect: &Deviceconnect,
    user: &UserIdentity,
    device: &str,
    fields: &Fields,
    size: Option<u64>,
    mut content: impl AsyncRead + Unpin,
) -> Result<(), ApiError> {
    let path = fields
        .path
        .as_deref()
        .ok_or_else(|| ApiError::bad_request("path: cannot be blank"))?;
    let action = Some(audit::UPLOAD_FILE);
    let mut transfer = transfer::open(&deviceconnect.0, user, device, action, path).await?;
    let put = PutFile {
        src_path: fields.file_name.clone(),
        path: path.to_owned(),
        size,
        uid: fields.uid,
        gid: fields.gid,
        mode: fields.mode,
        modtime: None,
    };
    let outcome = transfer.upload(&put, &mut content).await;
    transfer.close().await;
    outcome.map_err(|error| match error {
        // Reading the request failed, not our disk.
        DeviceconnectError::Spool(error) if size.is_none() => {
            if error.kind() == std::io::ErrorKind::FileTooLarge {
                too_large(deviceconnect)
            } else {
                ApiError::bad_request(format!("invalid multipart form: {error}"))
            }
        }
        other => other.into(),
    })
}

/// Keeps the file until the fields behind it are known.
async fn spool(
    deviceconnect: &Deviceconnect,
    mut field: Field<'_>,
) -> Result<(tokio::fs::File, u64), ApiError> {
    let settings = &deviceconnect.0.settings;
    let mut file = Spool::new(settings.spool.clone()).file().await?;
    let mut size = 0;
    while let Some(piece) = field.chunk().await.map_err(malformed)? {
        size += piece.len() as u64;
        if size > settings.upload_bytes_max {
            return Err(too_large(deviceconnect));
        }
        file.write_all(&piece)
            .await
            .map_err(DeviceconnectError::from)?;
    }
    file.rewind().await.map_err(DeviceconnectError::from)?;
    Ok((file, size))
}

fn too_large(deviceconnect: &Deviceconnect) -> ApiError {
    let limit = deviceconnect.0.settings.upload_bytes_max;
    ApiError::too_large(format!("file: is larger than {limit} bytes"))
}

async fn text(mut field: Field<'_>, name: &str) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(malformed)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(ApiError::bad_request(format!("{name}: is too long")));
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::bad_request(format!("{name}: is not UTF-8")))
}

fn malformed(error: MultipartError) -> ApiError {
    ApiError::bad_request(format!("invalid multipart form: {error}"))
}

/// The form without the file.
#[derive(Debug, Default)]
struct Fields {
    path: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
    file_name: Option<String>,
}

impl Fields {
    /// An empty field is a missing one; unknown ones are passed over.
    fn set(&mut self, name: &str, text: String) -> Result<(), ApiError> {
        if text.is_empty() {
            return Ok(());
        }
        let number = |radix: u32, max: u32| {
            u32::from_str_radix(&text, radix)
                .ok()
                .filter(|n| *n <= max)
                .map(Some)
                .ok_or_else(|| ApiError::bad_request(format!("{name}: is not a valid number")))
        };
        match name {
            "path" if !text.starts_with('/') => {
                return Err(ApiError::bad_request("path: must be absolute"));
            }
            "path" => self.path = Some(text),
            "uid" => self.uid = number(10, u32::MAX)?,
            "gid" => self.gid = number(10, u32::MAX)?,
            "mode" => self.mode = number(8, 0o7777)?,
            _ => {}
        }
        Ok(())
    }

    fn complete(&self) -> bool {
        self.path.is_some() && self.uid.is_some() && self.gid.is_some() && self.mode.is_some()
    }
}

/// Fails a read past the limit, instead of ending there as if the file were complete.
struct Limited<R> {
    content: R,
    left: u64,
}

impl<R> Limited<R> {
    fn new(content: R, limit: u64) -> Limited<R> {
        Limited {
            content,
            left: limit,
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Limited<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(std::pin::Pin::new(&mut self.content).poll_read(cx, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        std::task::Poll::Ready(match self.left.checked_sub(read) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(std::io::ErrorKind::FileTooLarge.into()),
        })
    }
}
