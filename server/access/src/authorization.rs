//! Reading credentials from a request (reference: common conventions, auth).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};

/// Credentials of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization<'a> {
    /// A token from the header or from the cookie `JWT`.
    Bearer(&'a str),
    /// Neither is there.
    Missing,
    /// A header that is not `scheme credentials`.
    Malformed,
    /// A header of another scheme.
    OtherScheme(&'a str),
}

/// Finds the token of a request. A cookie counts only when the request comes from the server's own
/// pages: browsers add cookies to requests that foreign pages make.
pub fn authorization(headers: &HeaderMap) -> Authorization<'_> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let Ok(text) = value.to_str() else {
            return Authorization::Malformed;
        };
        let mut words = text.split_ascii_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(scheme), Some(token), None) if scheme.eq_ignore_ascii_case("bearer") => {
                Authorization::Bearer(token)
            }
            (Some(scheme), Some(_), None) => Authorization::OtherScheme(scheme),
            _ => Authorization::Malformed,
        };
    }
    match cookie(headers) {
        Some(token) if own_page(headers) => Authorization::Bearer(token),
        _ => Authorization::Missing,
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == "JWT")
        .map(|(_, value)| value.trim_matches('"'))
        .filter(|value| !value.is_empty())
}

fn own_page(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let authority = origin
        .to_str()
        .ok()
        .and_then(|o| o.split_once("://"))
        .map(|(_, a)| a);
    let host = headers.get(HOST).and_then(|h| h.to_str().ok());
    matches!((authority, host), (Some(a), Some(h)) if a.eq_ignore_ascii_case(h))
}

/// Name and password of an `Authorization: Basic` header.
pub fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let encoded = encoded.trim();
    let bytes = STANDARD
        .decode(encoded)
        .or_else(|_| STANDARD_NO_PAD.decode(encoded))
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn tokens_are_found_and_bad_forms_told_apart() {
        use Authorization::*;
        for (list, wanted) in [
            (vec![("authorization", "Bearer abc")], Bearer("abc")),
            (vec![("authorization", "bEARER  abc ")], Bearer("abc")),
            (vec![("authorization", "Bearer")], Malformed),
            (vec![("authorization", "Bearer a b")], Malformed),
            (vec![("authorization", "")], Malformed),
            (vec![("authorization", "Basic abc")], OtherScheme("Basic")),
            (vec![("cookie", "a=b; JWT=abc; c=d")], Bearer("abc")),
            (
                vec![("authorization", "Basic abc"), ("cookie", "JWT=abc")],
                OtherScheme("Basic"),
            ),
            (vec![("cookie", "JWT=")], Missing),
            (vec![("cookie", "XJWT=abc")], Missing),
            (vec![], Missing),
        ] {
            assert_eq!(authorization(&headers(&list)), wanted, "{list:?}");
        }
    }

    #[test]
    fn cookies_of_foreign_pages_do_not_count() {
        let cookie = ("cookie", "JWT=abc");
        let host = ("host", "ota.example:8080");
        for (extra, counts) in [
            (vec![("origin", "http://ota.example:8080")], true),
            (vec![("origin", "http://evil.example")], false),
            (vec![("origin", "null")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "same-site")], false),
            (vec![("sec-fetch-site", "same-origin")], true),
        ] {
            let mut list = vec![cookie, host];
            list.extend(&extra);
            let found = authorization(&headers(&list)) == Authorization::Bearer("abc");
            assert_eq!(found, counts, "{extra:?}");
        }
    }

    #[test]
    fn basic_credentials_keep_colons_in_the_password() {
        let encode = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let read = |value: &str| basic_credentials(&headers(&[("authorization", value)]));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(read(&encode("a@b.c:p:w")), pair("a@b.c", "p:w"));
        assert_eq!(read(&encode("a@b.c:")), pair("a@b.c", ""));
        for bad in ["Basic !!", "Basic", "Bearer abc", &encode("nocolon")] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
