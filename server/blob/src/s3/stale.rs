//! Uploads that a dead process left unfinished. Their parts cost space and nobody sees them.

use std::time::Duration;

use jiff::Timestamp;
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use quick_xml::events::Event;
use reqwest::Method;

use super::{Place, S3Store, error};
use crate::BlobError;

/// How long one request of ours may take to reach the server.
const SIGNATURE: Duration = Duration::from_secs(300);
/// Requests of one clean-up; a thousand uploads come in each.
const PAGES_MAX: usize = 100;

/// One page of the server's list.
#[derive(Debug, Default, PartialEq)]
struct Page {
    uploads: Vec<Unfinished>,
    next: Option<(String, String)>,
}

#[derive(Debug, Default, PartialEq)]
struct Unfinished {
    key: String,
    id: String,
    since: Option<Timestamp>,
}

impl S3Store {
    /// Removes uploads below our prefix that began before `before`; younger ones may belong to another
    /// instance that is still at it.
    pub(crate) async fn remove_unfinished(&self, before: Timestamp) -> Result<(), BlobError> {
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = self.unfinished(after.as_ref()).await?;
            for upload in page.uploads {
                if upload.since.is_none_or(|since| since >= before) {
                    continue;
                }
                let path = Path::parse(&upload.key).map_err(|e| self.place.unavailable(&e))?;
                match self.place.store.abort_multipart(&path, &upload.id).await {
                    Ok(()) => tracing::info!(key = upload.key, "removed an unfinished upload"),
                    // Another instance was faster.
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(e) => return Err(error(&self.place, &e)),
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(())
    }

    async fn unfinished(&self, after: Option<&(String, String)>) -> Result<Page, BlobError> {
        let mut query = vec![("uploads", String::new())];
        if !self.prefix.is_empty() {
            query.push(("prefix", format!("{}/", self.prefix)));
        }
        if let Some((key, id)) = after {
            query.push(("key-marker", key.clone()));
            query.push(("upload-id-marker", id.clone()));
        }
        let place: &Place = &self.place;
        let options = SignedUrlOptions::new().with_query(query);
        let url = place
            .store
            .signed_url_opts(Method::GET, &Path::default(), SIGNATURE, &options)
            .await
            .map_err(|e| error(place, &e))?;
        // The error must not show the URL: it is signed.
        let hidden = |e: reqwest::Error| place.unavailable(&e.without_url());
        let answer = self.client.get(url).send().await.map_err(hidden)?;
        let status = answer.status();
        let text = answer.text().await.map_err(hidden)?;
        if !status.is_success() {
            return Err(BlobError::Unavailable(format!(
                "{place}: listing unfinished uploads: {status}"
            )));
        }
        let page = parse(&text).map_err(|e| place.unavailable(&e))?;
        // Not every server knows of prefixes here.
        let ours = |upload: &Unfinished| match self.prefix.as_str() {
            "" => true,
            prefix => upload
                .key
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('/')),
        };
        Ok(Page {
            uploads: page.uploads.into_iter().filter(ours).collect(),
            next: page.next,
        })
    }
}

fn parse(text: &str) -> Result<Page, quick_xml::Error> {
    let mut page = Page::default();
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut marker, mut truncated) = ((String::new(), String::new()), false);
    let mut value = String::new();
    let mut upload: Option<Unfinished> = None;
    loop {
        match reader.read_event()? {
            Event::Start(tag) => {
                value.clear();
                if tag.local_name().as_ref() == b"Upload" {
                    upload = Some(Unfinished::default());
                }
            }
            Event::Text(part) => value.push_str(&part.decode()?),
            Event::GeneralRef(entity) => value.push(character(&entity.decode()?)),
            Event::End(tag) => {
                let text = std::mem::take(&mut value).trim().to_owned();
                match (tag.local_name().as_ref(), &mut upload) {
                    (b"Upload", current) => page.uploads.extend(current.take()),
                    (b"Key", Some(upload)) => upload.key = text,
                    (b"UploadId", Some(upload)) => upload.id = text,
                    (b"Initiated", Some(upload)) => upload.since = text.parse().ok(),
                    (b"NextKeyMarker", None) => marker.0 = text,
                    (b"NextUploadIdMarker", None) => marker.1 = text,
                    (b"IsTruncated", None) => truncated = text == "true",
                    _ => {}
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    page.next = (truncated && !marker.0.is_empty()).then_some(marker);
    Ok(page)
}

/// The entities that XML has of its own; our keys need none of the others.
fn character(entity: &str) -> char {
    match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = parse(
            r#"<?xml version="1.0"?><ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <Bucket>b</Bucket><KeyMarker/><NextKeyMarker>p/k2</NextKeyMarker>
            <NextUploadIdMarker>u2</NextUploadIdMarker><IsTruncated>true</IsTruncated>
            <Upload><Key>p/k&amp;1</Key><UploadId>u1</UploadId><Initiator><ID>x</ID></Initiator>
            <Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>
            <Upload><Key>p/k2</Key><UploadId>u2</UploadId></Upload></ListMultipartUploadsResult>"#,
        )
        .unwrap();
        assert_eq!(page.next, Some(("p/k2".to_owned(), "u2".to_owned())));
        assert_eq!(page.uploads.len(), 2);
        assert_eq!(page.uploads[0].key, "p/k&1");
        assert_eq!(
            page.uploads[0].since.unwrap().to_string(),
            "2026-01-02T03:04:05Z"
        );
        assert_eq!(page.uploads[1].since, None);
        assert_eq!(parse("<A/>").unwrap(), Page::default());
    }
}
