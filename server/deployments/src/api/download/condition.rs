//! What part of a file a conditional or ranged request gets (RFC 9110, sections 13 and 14). Pure.

use std::ops::Range;

use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Whole,
    /// These bytes; never empty.
    Part(Range<u64>),
    /// 304
    NotModified,
    /// 412
    PreconditionFailed,
    /// 416
    Unsatisfiable,
}

/// Judges the conditions of a GET or HEAD request in the order that the standard gives.
pub fn evaluate(headers: &HeaderMap, etag: &str, modified_ms: i64, size: u64) -> Outcome {
    let modified_s = modified_ms.div_euclid(1000);
    if let Some(tags) = text(headers, &IF_MATCH) {
        if !tag_listed(tags, etag) {
            return Outcome::PreconditionFailed;
        }
    } else if date(headers, &IF_UNMODIFIED_SINCE).is_some_and(|since_s| modified_s > since_s) {
        return Outcome::PreconditionFailed;
    }
    if let Some(tags) = text(headers, &IF_NONE_MATCH) {
        if tag_listed(tags, etag) {
            return Outcome::NotModified;
        }
    } else if date(headers, &IF_MODIFIED_SINCE).is_some_and(|since_s| modified_s <= since_s) {
        return Outcome::NotModified;
    }
    let Some(range) = text(headers, &RANGE) else {
        return Outcome::Whole;
    };
    if let Some(condition) = text(headers, &IF_RANGE) {
        let same = if condition.starts_with('"') {
            condition == etag
        } else {
            parse_date(condition) == Some(modified_s)
        };
        if !same {
            return Outcome::Whole;
        }
    }
    match parse_range(range, size) {
        None => Outcome::Whole,
        Some(Some(range)) => Outcome::Part(range),
        Some(None) => Outcome::Unsatisfiable,
    }
}

/// A time as headers carry it.
pub fn http_date(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&at)
        .unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
}

/// Malformed dates count as absent.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    parse_date(text(headers, name)?)
}

fn parse_date(text: &str) -> Option<i64> {
    rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()
        .map(|at| at.as_second())
}

fn tag_listed(list: &str, etag: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// `None`: no range that is understood, serve everything. `Some(None)`: nothing of it exists. Several
/// ranges at once are not served, which the standard allows.
fn parse_range(text: &str, size: u64) -> Option<Option<Range<u64>>> {
    let (unit, spec) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.split_once('-').map(|(a, b)| (a.trim(), b.trim()))?;
    let number = |digits: &str| -> Option<u64> {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // More digits than fit is a position beyond every end.
        Some(digits.parse().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        let suffix = number(last)?;
        return Some((suffix > 0 && size > 0).then(|| size.saturating_sub(suffix)..size));
    }
    let first = number(first)?;
    let end = if last.is_empty() {
        size
    } else {
        let last = number(last)?;
        if last < first {
            return None;
        }
        last.saturating_add(1).min(size)
    };
    Some((first < size).then_some(first..end))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    const ETAG: &str = "\"k1\"";
    // Thu, 01 Jan 1970 00:16:40 GMT
    const MODIFIED_MS: i64 = 1_000_500;
    const THEN: &str = "Thu, 01 Jan 1970 00:16:40 GMT";
    const BEFORE: &str = "Thu, 01 Jan 1970 00:16:39 GMT";

    fn check(pairs: &[(HeaderName, &str)]) -> Outcome {
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect();
        evaluate(&headers, ETAG, MODIFIED_MS, 100)
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-9", Outcome::Part(0..10)),
            ("bytes=10-", Outcome::Part(10..100)),
            ("Bytes=99-", Outcome::Part(99..100)),
            ("bytes=-10", Outcome::Part(90..100)),
            ("bytes=-1000", Outcome::Part(0..100)),
            ("bytes=50-1000", Outcome::Part(50..100)),
            ("bytes=0-99999999999999999999999", Outcome::Part(0..100)),
            ("bytes=100-", Outcome::Unsatisfiable),
            ("bytes=99999999999999999999999-", Outcome::Unsatisfiable),
            ("bytes=-0", Outcome::Unsatisfiable),
            ("bytes=9-8", Outcome::Whole),
            ("bytes=0-1,3-4", Outcome::Whole),
            ("bytes=a-b", Outcome::Whole),
            ("bytes=+1-2", Outcome::Whole),
            ("bytes=-", Outcome::Whole),
            ("bytes", Outcome::Whole),
            ("items=0-1", Outcome::Whole),
        ] {
            assert_eq!(check(&[(RANGE, range)]), expected, "{range}");
        }
        let empty = HeaderMap::from_iter([(RANGE, "bytes=0-".parse().unwrap())]);
        assert_eq!(
            evaluate(&empty, ETAG, MODIFIED_MS, 0),
            Outcome::Unsatisfiable
        );
    }

    #[test]
    fn conditions() {
        assert_eq!(http_date(MODIFIED_MS), THEN);
        for (pairs, expected) in [
            (vec![(IF_MODIFIED_SINCE, THEN)], Outcome::NotModified),
            (vec![(IF_MODIFIED_SINCE, BEFORE)], Outcome::Whole),
            (vec![(IF_MODIFIED_SINCE, "yesterday")], Outcome::Whole),
            (vec![(IF_UNMODIFIED_SINCE, THEN)], Outcome::Whole),
            (
                vec![(IF_UNMODIFIED_SINCE, BEFORE)],
                Outcome::PreconditionFailed,
            ),
            (
                vec![(IF_NONE_MATCH, "\"x\", W/\"k1\"")],
                Outcome::NotModified,
            ),
            (
                vec![(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, THEN)],
                Outcome::Whole,
            ),
            (vec![(IF_MATCH, "\"x\"")], Outcome::PreconditionFailed),
            (
                vec![(IF_MATCH, "*"), (IF_UNMODIFIED_SINCE, BEFORE)],
                Outcome::Whole,
            ),
            (
                vec![(RANGE, "bytes=1-"), (IF_RANGE, ETAG)],
                Outcome::Part(1..100),
            ),
            (
                vec![(RANGE, "bytes=1-"), (IF_RANGE, THEN)],
                Outcome::Part(1..100),
            ),
            (
                vec![(RANGE, "bytes=1-"), (IF_RANGE, "\"x\"")],
                Outcome::Whole,
            ),
            (
                vec![(RANGE, "bytes=1-"), (IF_RANGE, "W/\"k1\"")],
                Outcome::Whole,
            ),
            (
                vec![(RANGE, "bytes=1-"), (IF_RANGE, BEFORE)],
                Outcome::Whole,
            ),
        ] {
            assert_eq!(check(&pairs), expected, "{pairs:?}");
        }
    }
}
