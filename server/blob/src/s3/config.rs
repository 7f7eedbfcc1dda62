//! What a storage URL says.

use std::path::{Path, PathBuf};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use crate::BlobError;

/// Region of servers that have none.
const REGION: &str = "us-east-1";
/// Profile in a credentials file unless told otherwise.
const PROFILE: &str = "default";

/// `s3://BUCKET[/PREFIX]?endpoint=…`
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Config {
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) endpoint: Option<String>,
    pub(super) public_endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) credentials: Option<PathBuf>,
    pub(super) profile: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) virtual_hosts: Option<bool>,
    pub(super) links_to_server: bool,
}

fn config_error(text: impl std::fmt::Display) -> BlobError {
    BlobError::Config(text.to_string())
}

impl Config {
    /// Errors never show the URL.
    pub(super) fn parse(text: &str) -> Result<Config, BlobError> {
        let rest = text
            .strip_prefix("s3://")
            .ok_or_else(|| config_error("the URL must begin with s3://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let named = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        if !(3..=63).contains(&bucket.len()) || !named(bucket) {
            return Err(config_error(
                "the URL must name a bucket: s3://BUCKET[/PREFIX]; keys belong into the environment or a credentials file",
            ));
        }
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty()
            && !prefix
                .split('/')
                .all(|word| !word.is_empty() && !word.starts_with('.') && named(word))
        {
            return Err(config_error(
                "the prefix behind the bucket may have letters, digits, '.', '-', '_' and '/'",
            ));
        }
        let mut config = Config {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            ..Config::default()
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            config.set(&name, value.into_owned())?;
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), BlobError> {
        match name {
            "endpoint" => self.endpoint = Some(endpoint(name, &value)?),
            "public_endpoint" => self.public_endpoint = Some(endpoint(name, &value)?),
            "region" => self.region = Some(value),
            "credentials" => self.credentials = Some(PathBuf::from(value)),
            "profile" => self.profile = Some(value),
            "ca" => self.ca = Some(PathBuf::from(value)),
            "virtual_hosts" => {
                let value = value
                    .parse()
                    .map_err(|_| config_error("virtual_hosts is either true or false"))?;
                self.virtual_hosts = Some(value);
            }
            "links" => {
                self.links_to_server = match value.as_str() {
                    "storage" => false,
                    "server" => true,
                    _ => return Err(config_error("links is either storage or server")),
                }
            }
            other => return Err(config_error(format!("unknown option {other} in its URL"))),
        }
        Ok(())
    }

    /// Credentials come from the file if one is named, else from the usual `AWS_…` variables, else from
    /// the machine's role.
    pub(super) fn builder(&self) -> Result<AmazonS3Builder, BlobError> {
        let mut builder = AmazonS3Builder::from_env();
        if let Some(file) = &self.credentials {
            let keys = Keys::read(file, self.profile.as_deref().unwrap_or(PROFILE))?;
            builder = builder
                .with_access_key_id(keys.id)
                .with_secret_access_key(keys.secret);
            if let Some(token) = keys.token {
                builder = builder.with_token(token);
            }
        }
        builder = builder.with_bucket_name(&self.bucket);
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        } else if builder
            .get_config_value(&AmazonS3ConfigKey::Region)
            .is_none()
        {
            builder = builder.with_region(REGION);
        }
        Ok(builder)
    }
}

fn endpoint(name: &str, value: &str) -> Result<String, BlobError> {
    let url = url::Url::parse(value)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
        .filter(|url| url.username().is_empty() && url.query().is_none())
        .ok_or_else(|| {
            config_error(format!(
                "{name} must be a URL such as https://s3.example.com"
            ))
        })?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Keys {
    /// The file of the AWS tools: sections in brackets, lines `name = value`.
    fn read(file: &Path, profile: &str) -> Result<Keys, BlobError> {
        let text = std::fs::read_to_string(file)
            .map_err(|e| config_error(format!("credentials {}: {e}", file.display())))?;
        Keys::parse(&text, profile)
            .ok_or_else(|| {
                config_error(format!(
                    "credentials {}: there is no section [{profile}] with aws_access_key_id and aws_secret_access_key",
                    file.display()
                ))
            })
    }

    fn parse(text: &str, profile: &str) -> Option<Keys> {
        let mut inside = false;
        let (mut id, mut secret, mut token) = (None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                inside = section.trim() == profile;
            } else if let (true, Some((name, value))) = (inside, line.split_once('=')) {
                let value = Some(value.trim().to_owned());
                match name.trim() {
                    "aws_access_key_id" => id = value,
                    "aws_secret_access_key" => secret = value,
                    "aws_session_token" => token = value,
                    _ => {}
                }
            }
        }
        Some(Keys {
            id: id?,
            secret: secret?,
            token,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_bucket_prefix_and_options() {
        let config = Config::parse(
            "s3://my.bucket-1/a/b/?endpoint=http%3A%2F%2Fs3%3A9000/&region=eu&public_endpoint=https://x.example&links=server&virtual_hosts=false",
        )
        .unwrap();
        assert_eq!(
            (config.bucket.as_str(), config.prefix.as_str()),
            ("my.bucket-1", "a/b")
        );
        assert_eq!(config.endpoint.as_deref(), Some("http://s3:9000"));
        assert_eq!(config.public_endpoint.as_deref(), Some("https://x.example"));
        assert!(config.links_to_server);
        assert_eq!(config.virtual_hosts, Some(false));
        assert_eq!(Config::parse("s3://abc").unwrap().prefix, "");
    }

    #[test]
    fn unusable_urls_are_refused_without_showing_them() {
        for bad in [
            "s3:",
            "s3://",
            "s3://ab",
            "s3://key:secret@bucket",
            "s3://bucket/a//b",
            "s3://bucket/../b",
            "s3://bucket?endpoint=secret",
            "s3://bucket?endpoint=ftp://secret",
            "s3://bucket?endpoint=http://u:secret@h",
            "s3://bucket?links=secret",
            "s3://bucket?virtual_hosts=secret",
            "s3://bucket?color=secret",
            "file:secret",
        ] {
            let error = Config::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{bad}: {error}");
        }
    }

    #[test]
    fn keys_come_from_their_section() {
        let text = "# x\n[default]\naws_access_key_id=one\naws_secret_access_key = two=\n\n[ other ]\naws_access_key_id=3\n";
        let keys = Keys::parse(text, "default").unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str()), ("one", "two="));
        assert!(Keys::parse(text, "other").is_none());
        assert!(Keys::parse(text, "none").is_none());
    }
}
