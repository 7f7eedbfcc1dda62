//! Objects in a bucket of an S3 server.
//!
//! Links lead to the server itself, signed with its credentials, so that downloads bypass us; with
//! `links=server` they lead to us and we pass the content on. Requests are retried for half a minute.

mod config;
mod stale;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{TryStreamExt as _, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{
    Certificate, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use reqwest::Method;

use crate::key::Key;
use crate::{BlobError, BlobMeta, Content};
use config::Config;
pub(crate) use upload::S3Upload;

/// Content is handed out in pieces of at most this size, like that of files.
const PIECE_BYTES: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence on a connection for so long means that nothing will come. There is no limit for a whole
/// request: an artifact may take hours.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES_MAX: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// A health check that waits for retries is no answer.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest life of a signed link in S3.
const LINK_MS_MAX: i64 = 7 * 24 * 60 * 60 * 1000;
const ARTIFACT_TYPE: &str = "application/vnd.mender-artifact";

/// The bucket and how to name it in errors.
struct Place {
    store: AmazonS3,
    name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    fn unavailable(&self, cause: &dyn std::error::Error) -> BlobError {
        BlobError::Unavailable(format!("{self}: {cause}"))
    }
}

/// What went wrong where an absent object is not a possible answer.
fn error(place: &Place, cause: &object_store::Error) -> BlobError {
    match cause {
        object_store::Error::NotFound { .. } => BlobError::Unavailable(format!(
            "{place}: there is no such bucket, or the upload was removed from it"
        )),
        object_store::Error::Unauthenticated { .. }
        | object_store::Error::PermissionDenied { .. } => BlobError::Unavailable(format!(
            "{place}: the credentials do not allow this; check the keys, the region and the policy of the bucket: {cause}"
        )),
        cause => place.unavailable(cause),
    }
}

pub(crate) struct S3Store {
    place: Arc<Place>,
    /// Signs links for the address that devices use.
    links: AmazonS3,
    client: reqwest::Client,
    prefix: String,
    links_to_server: bool,
}

impl S3Store {
    pub(crate) fn open(url: &str) -> Result<S3Store, BlobError> {
        let config = Config::parse(url)?;
        // Fails when somebody chose before us, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |e: &dyn std::error::Error| BlobError::Config(e.to_string());
        let ca = match &config.ca {
            Some(file) => std::fs::read(file)
                .map_err(|e| BlobError::Config(format!("{}: {e}", file.display())))?,
            None => Vec::new(),
        };
        let mut options = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout_disabled()
            .with_read_timeout(READ_TIMEOUT);
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(READ_TIMEOUT);
        if config.ca.is_some() {
            for certificate in Certificate::from_pem_bundle(&ca).map_err(|e| wrong(&e))? {
                options = options.with_root_certificate(certificate);
            }
            let bundle = reqwest::Certificate::from_pem_bundle(&ca).map_err(|e| wrong(&e))?;
            client = client.tls_certs_merge(bundle);
        }
        let build = |endpoint: Option<&str>| {
            let builder = config
                .builder()?
                .with_retry(RetryConfig {
                    max_retries: RETRIES_MAX,
                    retry_timeout: RETRY_TIMEOUT,
                    ..RetryConfig::default()
                })
                .with_client_options(options.clone());
            at_endpoint(builder, &config, endpoint)
                .build()
                .map_err(|e| wrong(&e))
        };
        let inner = config.endpoint.as_deref();
        let outer = config.public_endpoint.as_deref().or(inner);
        Ok(S3Store {
            place: Arc::new(Place {
                store: build(inner)?,
                name: match inner {
                    Some(endpoint) => format!("S3 bucket {} at {endpoint}", config.bucket),
                    None => format!("S3 bucket {}", config.bucket),
                },
            }),
            links: build(outer)?,
            client: client.build().map_err(|e| wrong(&e))?,
            prefix: config.prefix,
            links_to_server: config.links_to_server,
        })
    }

    /// Whether links are signed for our own download address.
    pub(crate) fn links_to_server(&self) -> bool {
        self.links_to_server
    }

    pub(crate) fn name(&self) -> &str {
        &self.place.name
    }

    fn at(&self, name: &str) -> Path {
        match self.prefix.as_str() {
            "" => Path::from(name),
            prefix => Path::from(format!("{prefix}/{name}")),
        }
    }

    fn path(&self, key: &Key) -> Path {
        self.at(key.as_str())
    }

    pub(crate) fn begin(&self, key: &Key) -> S3Upload {
        S3Upload::new(Arc::clone(&self.place), self.path(key))
    }

    pub(crate) async fn head(&self, key: &Key) -> Result<Option<BlobMeta>, BlobError> {
        match self.place.store.head(&self.path(key)).await {
            Ok(found) => Ok(Some(BlobMeta {
                size: found.size,
                modified_ms: found.last_modified.timestamp_millis(),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(error(&self.place, &e)),
        }
    }

    pub(crate) async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> Result<(BlobMeta, Content), BlobError> {
        let absent = || BlobError::NotFound(key.as_str().to_owned());
        let mut options = GetOptions::default();
        if let Some(range) = range {
            // Servers differ in what they make of a range beyond the end: ask for one that is not.
            let meta = self.head(key).await?.ok_or_else(absent)?;
            if range.start >= meta.size {
                return Err(BlobError::Range {
                    start: range.start,
                    size: meta.size,
                });
            }
            let end = range.end.clamp(range.start, meta.size);
            if range.start == end {
                return Ok((meta, Box::pin(stream::empty())));
            }
            options.range = Some(GetRange::Bounded(range.start..end));
        }
        let found = match self.place.store.get_opts(&self.path(key), options).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(absent()),
            Err(e) => return Err(error(&self.place, &e)),
        };
        let meta = BlobMeta {
            size: found.meta.size,
            modified_ms: found.meta.last_modified.timestamp_millis(),
        };
        let place = Arc::clone(&self.place);
        let pieces = found
            .into_stream()
            .map_err(move |e| error(&place, &e))
            .map_ok(|mut chunk| {
                let pieces = std::iter::from_fn(move || {
                    (!chunk.is_empty()).then(|| Ok(chunk.split_to(chunk.len().min(PIECE_BYTES))))
                });
                stream::iter(pieces)
            })
            .try_flatten();
        Ok((meta, Box::pin(pieces)))
    }

    pub(crate) async fn delete(&self, key: &Key) -> Result<(), BlobError> {
        match self.place.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(error(&self.place, &e)),
        }
    }

    /// Bytes of all objects below our prefix.
    pub(crate) async fn usage(&self) -> Result<u64, BlobError> {
        let prefix = (!self.prefix.is_empty()).then(|| Path::from(self.prefix.as_str()));
        self.place
            .store
            .list(prefix.as_ref())
            .try_fold(0, |sum, object| async move { Ok(sum + object.size) })
            .await
            .map_err(|e| error(&self.place, &e))
    }

    pub(crate) async fn ping(&self) -> Result<(), BlobError> {
        let probe = self.at(&format!("probe-{}", uuid::Uuid::new_v4()));
        let store = &self.place.store;
        let attempt = async {
            store.put(&probe, "probe".into()).await?;
            store.delete(&probe).await
        };
        match tokio::time::timeout(PING_TIMEOUT, attempt).await {
            Ok(outcome) => outcome.map_err(|e| error(&self.place, &e)),
            Err(_) => Err(BlobError::Unavailable(format!("{}: no answer", self.place))),
        }
    }

    pub(crate) async fn download_link(
        &self,
        key: &Key,
        filename: &str,
        lifetime_ms: i64,
    ) -> Result<String, BlobError> {
        let options = SignedUrlOptions::new().with_query([
            ("response-content-type", ARTIFACT_TYPE.to_owned()),
            (
                "response-content-disposition",
                format!("attachment; filename=\"{}\"", quoted(filename)),
            ),
        ]);
        self.link(Method::GET, key, options, lifetime_ms).await
    }

    pub(crate) async fn upload_link(
        &self,
        key: &Key,
        lifetime_ms: i64,
    ) -> Result<String, BlobError> {
        self.link(Method::PUT, key, SignedUrlOptions::new(), lifetime_ms)
            .await
    }

    async fn link(
        &self,
        method: Method,
        key: &Key,
        options: SignedUrlOptions,
        lifetime_ms: i64,
    ) -> Result<String, BlobError> {
        // Whole seconds, rounded up; a link of no duration is refused by servers as malformed.
        let seconds = (lifetime_ms.clamp(1, LINK_MS_MAX) as u64).div_ceil(1000);
        let lifetime = Duration::from_secs(seconds);
        self.links
            .signed_url_opts(method, &self.path(key), lifetime, &options)
            .await
            .map(String::from)
            .map_err(|e| error(&self.place, &e))
    }
}

fn at_endpoint(
    builder: AmazonS3Builder,
    config: &Config,
    endpoint: Option<&str>,
) -> AmazonS3Builder {
    let virtual_hosts = config.virtual_hosts.unwrap_or(endpoint.is_none());
    let builder = builder.with_virtual_hosted_style_request(virtual_hosts);
    match endpoint {
        None => builder,
        Some(endpoint) => {
            let endpoint = match endpoint.split_once("://") {
                // The library wants the bucket in the endpoint then.
                Some((scheme, host)) if virtual_hosts => {
                    format!("{scheme}://{}.{host}", config.bucket)
                }
                _ => endpoint.to_owned(),
            };
            let plain = endpoint.starts_with("http://");
            builder.with_endpoint(endpoint).with_allow_http(plain)
        }
    }
}

/// A file name that stays inside of its quotes.
fn quoted(filename: &str) -> String {
    filename
        .chars()
        .map(|c| match c {
            '"' | '\\' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect()
}
