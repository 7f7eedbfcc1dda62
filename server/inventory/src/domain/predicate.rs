//! Conditions of a search and how they compare. Pure.
//!
//! Rules: specification "Search Device Inventories", reference section 3.2. In short: values compare only with values
//! of their own kind; a list matches when one of its elements does; `$ne` and `$nin` hold for devices that lack the
//! attribute; `$regex` starts at the beginning of the text and never fails, an invalid pattern matches nothing.

use std::cmp::Ordering;

use ambidex_wire::inventory::AttributeValue;
use ambidex_wire::management::inventory::FilterPredicate;
use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::scope::Scope;

/// Conditions of one search: each is checked on every device.
pub const TERMS_MAX: usize = 100;
/// Longest regular expression, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Steps of backtracking one match may take: patterns come from users and run on every device.
const BACKTRACK_MAX: usize = 20_000;
/// Memory of one compiled pattern, in bytes.
const PATTERN_MEMORY_MAX: usize = 1 << 20;

/// Which attribute a condition, sort key or projection speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttributeKey {
    pub scope: Scope,
    pub name: String,
}

/// What an attribute looks like to a search.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    Value(AttributeValue),
    /// Milliseconds since 1970; compares with times and sorts by time.
    Time(i64),
}

/// The right-hand side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Text(String),
    Number(f64),
    List(Vec<Operand>),
    /// Booleans and objects: no attribute is of these kinds.
    Other,
}

/// How an attribute is judged.
#[derive(Debug, Clone)]
pub enum Test {
    Equal(Operand),
    NotEqual(Operand),
    Greater(Operand),
    GreaterOrEqual(Operand),
    Less(Operand),
    LessOrEqual(Operand),
    In(Vec<Operand>),
    NotIn(Vec<Operand>),
    Exists(bool),
    /// `None` is a pattern that cannot be compiled.
    Matches(Option<Box<Regex>>),
}

/// One condition.
#[derive(Debug, Clone)]
pub struct Term {
    pub key: AttributeKey,
    pub test: Test,
}

/// Why a search is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct PredicateError(pub String);

impl Term {
    /// Checks and compiles one condition.
    pub fn compile(predicate: &FilterPredicate) -> Result<Term, PredicateError> {
        // The texts of all members that are wrong, by name, as real clients show them.
        let mut wrong = Vec::new();
        if predicate.attribute.is_empty() {
            wrong.push("attribute: cannot be blank");
        }
        let scope = Scope::parse(&predicate.scope);
        if predicate.scope.is_empty() {
            wrong.push("scope: cannot be blank");
        } else if scope.is_none() {
            wrong.push("scope: must be one of system, identity, inventory, monitor, tags");
        }
        if predicate.operator.is_empty() {
            wrong.push("type: cannot be blank");
        } else if !OPERATORS.contains(&predicate.operator.as_str()) {
            wrong.push("type: must be a valid value");
        }
        if predicate.value.is_null() {
            wrong.push("value: is required");
        }
        let (Some(scope), true) = (scope, wrong.is_empty()) else {
            return Err(PredicateError(format!("{}.", wrong.join("; "))));
        };
        let key = AttributeKey {
            scope,
            name: predicate.attribute.clone(),
        };
        Ok(Term {
            key,
            test: compile_test(&predicate.operator, &predicate.value)?,
        })
    }

    /// Compiles all conditions of a search.
    pub fn compile_all(predicates: &[FilterPredicate]) -> Result<Vec<Term>, PredicateError> {
        if predicates.len() > TERMS_MAX {
            return Err(PredicateError(format!(
                "more than {TERMS_MAX} conditions in one search"
            )));
        }
        predicates.iter().map(Term::compile).collect()
    }

    /// Whether a device whose attribute is `found` meets the condition.
    pub fn holds(&self, found: Option<&Found>) -> bool {
        match &self.test {
            Test::Exists(wanted) => found.is_some() == *wanted,
            Test::NotEqual(operand) => !found.is_some_and(|found| equals(found, operand)),
            Test::NotIn(operands) => {
                !found.is_some_and(|found| operands.iter().any(|operand| equals(found, operand)))
            }
            Test::Equal(operand) => found.is_some_and(|found| equals(found, operand)),
            Test::In(operands) => {
                found.is_some_and(|found| operands.iter().any(|operand| equals(found, operand)))
            }
            Test::Greater(operand) => {
                found.is_some_and(|found| compares(found, operand, Ordering::is_gt))
            }
            Test::GreaterOrEqual(operand) => {
                found.is_some_and(|found| compares(found, operand, Ordering::is_ge))
            }
            Test::Less(operand) => {
                found.is_some_and(|found| compares(found, operand, Ordering::is_lt))
            }
            Test::LessOrEqual(operand) => {
                found.is_some_and(|found| compares(found, operand, Ordering::is_le))
            }
            Test::Matches(pattern) => match (found, pattern) {
                (Some(found), Some(pattern)) => matches(found, pattern),
                _ => false,
            },
        }
    }
}

const OPERATORS: [&str; 10] = [
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$regex",
];

fn compile_test(operator: &str, value: &Value) -> Result<Test, PredicateError> {
    Ok(match operator {
        "$eq" => Test::Equal(operand(value)),
        "$ne" => Test::NotEqual(operand(value)),
        "$gt" => Test::Greater(operand(value)),
        "$gte" => Test::GreaterOrEqual(operand(value)),
        "$lt" => Test::Less(operand(value)),
        "$lte" => Test::LessOrEqual(operand(value)),
        "$in" | "$nin" => {
            let items = value.as_array().ok_or_else(|| {
                PredicateError(format!("(BadValue) {operator} needs an array as value"))
            })?;
            let operands = items.iter().map(operand).collect();
            if operator == "$in" {
                Test::In(operands)
            } else {
                Test::NotIn(operands)
            }
        }
        "$exists" => Test::Exists(truth(value)?),
        _ => {
            let pattern = value.as_str().ok_or_else(|| {
                PredicateError("(BadValue) $regex needs a string as value".to_owned())
            })?;
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(PredicateError(format!(
                    "regular expression is longer than {PATTERN_BYTES_MAX} bytes"
                )));
            }
            Test::Matches(compile_pattern(pattern).map(Box::new))
        }
    })
}

fn operand(value: &Value) -> Operand {
    match value {
        Value::String(text) => Operand::Text(text.clone()),
        Value::Number(number) => number.as_f64().map_or(Operand::Other, Operand::Number),
        Value::Array(items) => Operand::List(items.iter().map(operand).collect()),
        Value::Null | Value::Bool(_) | Value::Object(_) => Operand::Other,
    }
}

/// Web interfaces send 1 and 0 where the specification has booleans.
fn truth(value: &Value) -> Result<bool, PredicateError> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        Value::String(text) if text == "true" || text == "1" => Ok(true),
        Value::String(text) if text == "false" || text == "0" => Ok(false),
        _ => Err(PredicateError(
            "(BadValue) $exists needs a boolean as value".to_owned(),
        )),
    }
}

/// Takes a bare pattern or `/pattern/flags`; both start at the beginning of the text.
fn compile_pattern(text: &str) -> Option<Regex> {
    let (pattern, flags) = match text
        .strip_prefix('/')
        .and_then(|rest| rest.rsplit_once('/'))
    {
        Some((pattern, flags)) if flags.bytes().all(|flag| flag.is_ascii_lowercase()) => {
            (pattern, flags)
        }
        _ => (text, ""),
    };
    if !flags.bytes().all(|flag| b"imsxgu".contains(&flag)) {
        return None;
    }
    let known: String = flags
        .chars()
        .filter(|flag| "imsx".contains(*flag))
        .collect();
    // The newline ends a trailing comment of an extended pattern.
    let close = if known.contains('x') { "\n)" } else { ")" };
    let anchored = match known.is_empty() {
        true => format!("^(?:{pattern}{close}"),
        false => format!("^(?{known}:{pattern}{close}"),
    };
    RegexBuilder::new(&anchored)
        .backtrack_limit(BACKTRACK_MAX)
        .delegate_size_limit(PATTERN_MEMORY_MAX)
        .delegate_dfa_size_limit(PATTERN_MEMORY_MAX)
        .build()
        .ok()
}

fn equals(found: &Found, operand: &Operand) -> bool {
    match (found, operand) {
        (Found::Time(ms), Operand::Text(text)) => time(text) == Some(*ms),
        (Found::Time(_), _) => false,
        (Found::Value(value), Operand::List(items)) => {
            let elements = elements(value);
            is_list(value)
                && elements.len() == items.len()
                && elements
                    .iter()
                    .zip(items)
                    .all(|(element, item)| element.compare(item) == Some(Ordering::Equal))
        }
        (Found::Value(value), operand) => elements(value)
            .iter()
            .any(|element| element.compare(operand) == Some(Ordering::Equal)),
    }
}

fn compares(found: &Found, operand: &Operand, wanted: fn(Ordering) -> bool) -> bool {
    match (found, operand) {
        (Found::Time(ms), Operand::Text(text)) => {
            time(text).is_some_and(|operand| wanted(ms.cmp(&operand)))
        }
        (Found::Time(_), _) => false,
        // A list compares as a whole only with a list: element by element, then by length.
        (Found::Value(value), Operand::List(items)) => {
            let elements = elements(value);
            let first_difference = elements
                .iter()
                .zip(items)
                .map(|(element, item)| element.compare(item));
            let ordering = first_difference
                .into_iter()
                .find(|ordering| *ordering != Some(Ordering::Equal))
                .unwrap_or_else(|| Some(elements.len().cmp(&items.len())));
            is_list(value) && ordering.is_some_and(wanted)
        }
        (Found::Value(value), operand) => elements(value)
            .iter()
            .any(|element| element.compare(operand).is_some_and(wanted)),
    }
}

fn matches(found: &Found, pattern: &Regex) -> bool {
    // A match that backtracks too far counts as none: the search goes on with the next device.
    let text_matches = |text: &str| pattern.is_match(text).unwrap_or(false);
    match found {
        Found::Time(ms) => text_matches(&ambidex_kit::rfc3339(*ms)),
        Found::Value(AttributeValue::Text(text)) => text_matches(text),
        Found::Value(AttributeValue::Texts(texts)) => texts.iter().any(|text| text_matches(text)),
        Found::Value(AttributeValue::Number(_) | AttributeValue::Numbers(_)) => false,
    }
}

/// One scalar of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Element<'a> {
    Number(f64),
    Text(&'a str),
}

impl Element<'_> {
    /// `None` when the kinds differ.
    fn compare(&self, operand: &Operand) -> Option<Ordering> {
        match (self, operand) {
            (Element::Number(left), Operand::Number(right)) => left.partial_cmp(right),
            (Element::Text(left), Operand::Text(right)) => {
                Some(left.as_bytes().cmp(right.as_bytes()))
            }
            _ => None,
        }
    }
}

pub(super) fn elements(value: &AttributeValue) -> Vec<Element<'_>> {
    let number = |number: &serde_json::Number| Element::Number(number.as_f64().unwrap_or_default());
    match value {
        AttributeValue::Text(text) => vec![Element::Text(text)],
        AttributeValue::Number(one) => vec![number(one)],
        AttributeValue::Texts(texts) => texts.iter().map(|text| Element::Text(text)).collect(),
        AttributeValue::Numbers(numbers) => numbers.iter().map(number).collect(),
    }
}

fn is_list(value: &AttributeValue) -> bool {
    matches!(value, AttributeValue::Texts(_) | AttributeValue::Numbers(_))
}

fn time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(|time| time.as_millisecond())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use crate::domain::attribute::read_value;
    use serde_json::json;

    fn predicate(operator: &str, value: Value) -> FilterPredicate {
        FilterPredicate {
            scope: "inventory".into(),
            attribute: "a".into(),
            operator: operator.into(),
            value,
        }
    }

    #[track_caller]
    fn check(operator: &str, operand: Value, attribute: Option<Value>, expected: bool) {
        let term = Term::compile(&predicate(operator, operand.clone())).unwrap();
        let found = attribute
            .as_ref()
            .map(|value| Found::Value(read_value(value).unwrap()));
        assert_eq!(
            term.holds(found.as_ref()),
            expected,
            "{attribute:?} {operator} {operand}"
        );
    }

    #[test]
    fn equality_never_crosses_kinds() {
        check("$eq", json!(1), Some(json!(1)), true);
        check("$eq", json!(1), Some(json!(1.0)), true);
        check("$eq", json!(1), Some(json!("1")), false);
        check("$eq", json!("1"), Some(json!(1)), false);
        check("$eq", json!(true), Some(json!("true")), false);
        check("$eq", json!("a"), None, false);
        check("$ne", json!("a"), None, true);
        check("$ne", json!("a"), Some(json!("a")), false);
        check("$ne", json!(1), Some(json!("1")), true);
    }

    #[test]
    fn lists_match_by_any_element_or_as_a_whole() {
        check("$eq", json!("b"), Some(json!(["a", "b"])), true);
        check("$eq", json!("c"), Some(json!(["a", "b"])), false);
        check("$ne", json!("b"), Some(json!(["a", "b"])), false);
        check("$eq", json!(["a", "b"]), Some(json!(["a", "b"])), true);
        check("$eq", json!(["b", "a"]), Some(json!(["a", "b"])), false);
        check("$eq", json!(["a"]), Some(json!("a")), false);
        check("$gt", json!(2), Some(json!([1, 3])), true);
        check("$gt", json!(3), Some(json!([1, 3])), false);
        check("$gt", json!([1, 2]), Some(json!([1, 3])), true);
        check("$regex", json!("b"), Some(json!(["a", "b"])), true);
    }

    #[test]
    fn order_compares_within_a_kind() {
        for (operator, below, same, above) in [
            ("$gt", false, false, true),
            ("$gte", false, true, true),
            ("$lt", true, false, false),
            ("$lte", true, true, false),
        ] {
            check(operator, json!(5), Some(json!(4.5)), below);
            check(operator, json!(5), Some(json!(5)), same);
            check(operator, json!(5), Some(json!(5.5)), above);
            check(operator, json!("m"), Some(json!("a")), below);
            check(operator, json!("m"), Some(json!("m")), same);
            check(operator, json!("m"), Some(json!("z")), above);
            check(operator, json!("m"), Some(json!(5)), false);
            check(operator, json!(5), None, false);
        }
    }

    #[test]
    fn membership() {
        check("$in", json!(["a", 5]), Some(json!(5)), true);
        check("$in", json!(["a", "5"]), Some(json!(5)), false);
        check("$in", json!([]), Some(json!("a")), false);
        check("$in", json!(["a"]), None, false);
        check("$nin", json!(["a"]), None, true);
        check("$nin", json!(["a"]), Some(json!("a")), false);
        check("$nin", json!([]), Some(json!("a")), true);
    }

    #[test]
    fn existence_takes_truth_in_several_spellings() {
        for yes in [json!(true), json!(1), json!("true")] {
            check("$exists", yes.clone(), Some(json!("")), true);
            check("$exists", yes, None, false);
        }
        for no in [json!(false), json!(0), json!("0")] {
            check("$exists", no.clone(), Some(json!("")), false);
            check("$exists", no, None, true);
        }
    }

    #[test]
    fn patterns_start_at_the_beginning() {
        check("$regex", json!("ab"), Some(json!("xab")), false);
        check("$regex", json!("ab"), Some(json!("abc")), true);
        check("$regex", json!("x|ab"), Some(json!("yab")), false);
        check("$regex", json!("/AB/i"), Some(json!("abc")), true);
        check("$regex", json!("/AB/"), Some(json!("abc")), false);
        check("$regex", json!("/a b # c/x"), Some(json!("ab")), true);
        check("$regex", json!("/b/q"), Some(json!("b")), false);
        check("$regex", json!("/usr/bin"), Some(json!("/usr/bin")), false);
        check("$regex", json!("(?=.*b)a"), Some(json!("ab")), true);
        check("$regex", json!("(a)\\1"), Some(json!("aa")), true);
        check("$regex", json!("("), Some(json!("(")), false);
        check("$regex", json!("5"), Some(json!(5)), false);
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let started = std::time::Instant::now();
        check(
            "$regex",
            json!("(a|a)*(?=b)\\1c"),
            Some(json!("a".repeat(5000))),
            false,
        );
        check(
            "$regex",
            json!("(((a{100}){100}){100}){100}"),
            Some(json!("a")),
            false,
        );
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn times_compare_as_times() {
        let term = |operator: &str, value: &str| {
            Term::compile(&predicate(operator, json!(value))).unwrap()
        };
        let found = Found::Time(1_612_173_600_120);
        assert!(term("$gt", "2021-02-01T10:00:00Z").holds(Some(&found)));
        assert!(term("$eq", "2021-02-01T10:00:00.12Z").holds(Some(&found)));
        assert!(!term("$lt", "yesterday").holds(Some(&found)));
        assert!(term("$regex", "2021-02").holds(Some(&found)));
    }

    #[test]
    fn wrong_conditions_are_refused_with_all_reasons() {
        let error = |predicate: FilterPredicate| Term::compile(&predicate).unwrap_err().0;
        let good = predicate("$eq", json!(1));
        assert_eq!(
            error(FilterPredicate {
                scope: "foo".into(),
                ..good.clone()
            }),
            "scope: must be one of system, identity, inventory, monitor, tags."
        );
        assert_eq!(
            error(FilterPredicate {
                attribute: String::new(),
                scope: String::new(),
                ..good.clone()
            }),
            "attribute: cannot be blank; scope: cannot be blank."
        );
        assert_eq!(
            error(FilterPredicate {
                operator: String::new(),
                ..good.clone()
            }),
            "type: cannot be blank."
        );
        assert_eq!(
            error(FilterPredicate {
                operator: "$where".into(),
                ..good.clone()
            }),
            "type: must be a valid value."
        );
        assert_eq!(
            error(FilterPredicate {
                value: Value::Null,
                ..good
            }),
            "value: is required."
        );
        assert!(error(predicate("$in", json!("a"))).contains("BadValue"));
        assert!(error(predicate("$nin", json!(1))).contains("BadValue"));
        assert!(error(predicate("$regex", json!(1))).contains("BadValue"));
        assert!(error(predicate("$exists", json!({}))).contains("BadValue"));
        assert!(Term::compile_all(&vec![predicate("$eq", json!(1)); TERMS_MAX + 1]).is_err());
        assert!(
            Term::compile(&predicate(
                "$regex",
                json!("a".repeat(PATTERN_BYTES_MAX + 1))
            ))
            .is_err()
        );
    }
}
