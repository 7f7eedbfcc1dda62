//! Pages of lists and their headers (reference: common conventions, pagination).

use axum::extract::FromRequestParts;
use http::header::{HeaderName, HeaderValue, LINK};
use http::request::Parts;
use http::{HeaderMap, Uri};

use crate::ApiError;
use crate::body::{QueryPairs, query_pairs};

const PER_PAGE_DEFAULT: u64 = 20;
const PER_PAGE_MAX: u64 = 500;
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Which part of a list is wanted. As an extractor: page 1 of 20 unless told, at most 500 a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub page: u64,
    /// Entries a page, from 1.
    pub per_page: u64,
}

impl Page {
    /// Reads `page` and `per_page` with other limits than the usual ones.
    ///
    /// # Errors
    /// 400 with the texts of the reference.
    pub fn parse(
        query: &QueryPairs,
        per_page_default: u64,
        per_page_max: u64,
    ) -> Result<Page, ApiError> {
        // An offset must stay within the integers of both database engines.
        let page = number(query, "page", 1, i64::MAX as u64 / per_page_max)?;
        let per_page = number(query, "per_page", per_page_default, per_page_max)?;
        Ok(Page { page, per_page })
    }

    /// Entries before this page.
    pub fn offset(&self) -> u64 {
        (self.page - 1) * self.per_page
    }
}

fn number(query: &QueryPairs, name: &str, default: u64, max: u64) -> Result<u64, ApiError> {
    let Some(text) = query.first(name) else {
        return Ok(default);
    };
    let value: i128 = text
        .parse()
        .map_err(|_| ApiError::bad_request(format!("Can't parse param {name}")))?;
    u64::try_from(value)
        .ok()
        .filter(|value| (1..=max).contains(value))
        .ok_or_else(|| ApiError::bad_request(format!("Param {name} is out of bounds")))
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Page, ApiError> {
        Page::parse(&query_pairs(&parts.uri)?, PER_PAGE_DEFAULT, PER_PAGE_MAX)
    }
}

/// The `Link` headers of a list, one for each relation, and `X-Total-Count` when the total is known.
/// `uri` is the request's own; its other parameters are kept, in alphabetical order.
pub fn link_headers(uri: &Uri, page: &Page, has_next: bool, total: Option<u64>) -> HeaderMap {
    let mut others: Vec<(String, String)> = query_pairs(uri)
        .unwrap_or_default()
        .0
        .into_iter()
        .filter(|(name, _)| name != "page" && name != "per_page")
        .collect();
    others.push(("per_page".to_owned(), page.per_page.to_string()));
    let relation = |number: u64, name: &str| {
        let mut pairs = others.clone();
        pairs.push(("page".to_owned(), number.to_string()));
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let query: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
            .collect();
        format!("<{}?{}>; rel=\"{name}\"", uri.path(), query.join("&"))
    };
    let mut links = vec![relation(1, "first")];
    if page.page > 1 {
        links.push(relation(page.page - 1, "prev"));
    }
    if has_next {
        links.push(relation(page.page + 1, "next"));
    }
    let mut headers = HeaderMap::new();
    for link in links {
        if let Ok(value) = HeaderValue::from_str(&link) {
            headers.append(LINK, value);
        }
    }
    if let Some(total) = total {
        headers.extend(total_count(total));
    }
    headers
}

/// `X-Total-Count` alone.
pub fn total_count(total: u64) -> HeaderMap {
    HeaderMap::from_iter([(TOTAL_COUNT, HeaderValue::from(total))])
}

/// Escapes as an HTML form does.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(query: &str) -> Result<Page, String> {
        let uri: Uri = format!("/x?{query}").parse().map_err(|_| "uri")?;
        query_pairs(&uri)
            .and_then(|q| Page::parse(&q, 20, 500))
            .map_err(|e| e.message)
    }

    #[test]
    fn pages_have_defaults_and_bounds() {
        let ok = |page, per_page| Ok(Page { page, per_page });
        let out = |name: &str| Err(format!("Param {name} is out of bounds"));
        let bad = |name: &str| Err(format!("Can't parse param {name}"));
        for (query, wanted) in [
            ("", ok(1, 20)),
            ("page=3&per_page=500", ok(3, 500)),
            ("per_page=501", out("per_page")),
            ("per_page=0", out("per_page")),
            ("page=0", out("page")),
            ("page=-1", out("page")),
            ("page=18446744073709551615", out("page")),
            ("page=x", bad("page")),
            ("page=", bad("page")),
            ("per_page=1.5", bad("per_page")),
        ] {
            assert_eq!(page_of(query), wanted, "{query}");
        }
    }

    #[test]
    fn links_keep_the_query_and_sort_it() {
        let uri: Uri = "/a/b?status=x%20y&page=2&group=%2F"
            .parse()
            .unwrap_or_default();
        let page = Page {
            page: 2,
            per_page: 5,
        };
        let headers = link_headers(&uri, &page, true, Some(11));
        let links: Vec<_> = headers
            .get_all(LINK)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        assert_eq!(
            links,
            [
                "</a/b?group=%2F&page=1&per_page=5&status=x+y>; rel=\"first\"",
                "</a/b?group=%2F&page=1&per_page=5&status=x+y>; rel=\"prev\"",
                "</a/b?group=%2F&page=3&per_page=5&status=x+y>; rel=\"next\"",
            ]
        );
        assert_eq!(
            headers.get("x-total-count").and_then(|v| v.to_str().ok()),
            Some("11")
        );
        assert_eq!(
            link_headers(
                &uri,
                &Page {
                    page: 1,
                    per_page: 5
                },
                false,
                None
            )
            .len(),
            1
        );
    }
}
