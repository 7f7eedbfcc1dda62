//! The order of search results. Pure.
//!
//! Rule: reference section 3.2 (f): missing first in ascending order, numbers before texts, texts by bytes, lists by
//! their smallest element ascending and their largest descending.

use std::cmp::Ordering;

use ambidex_wire::management::inventory::SortCriteria;

use super::predicate::{AttributeKey, Element, Found, PredicateError, elements};
use super::scope::Scope;

/// Sort keys of one search.
pub const SORT_KEYS_MAX: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// One sort key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortBy {
    pub key: AttributeKey,
    pub direction: Direction,
}

/// What one device sorts by under one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Rank {
    Missing,
    Number(f64),
    Text(String),
}

impl SortBy {
    /// Checks one sort key of a search.
    pub fn compile(criteria: &SortCriteria) -> Result<SortBy, PredicateError> {
        let mut wrong = Vec::new();
        if criteria.attribute.is_empty() {
            wrong.push("attribute: cannot be blank");
        }
        let direction = match criteria.order.as_str() {
            "asc" => Some(Direction::Ascending),
            "desc" => Some(Direction::Descending),
            "" => {
                wrong.push("order: cannot be blank");
                None
            }
            _ => {
                wrong.push("order: must be a valid value");
                None
            }
        };
        let scope = Scope::parse(&criteria.scope);
        if criteria.scope.is_empty() {
            wrong.push("scope: cannot be blank");
        } else if scope.is_none() {
            wrong.push("scope: must be one of system, identity, inventory, monitor, tags");
        }
        match (scope, direction, wrong.is_empty()) {
            (Some(scope), Some(direction), true) => Ok(SortBy {
                key: AttributeKey {
                    scope,
                    name: criteria.attribute.clone(),
                },
                direction,
            }),
            _ => Err(PredicateError(format!("{}.", wrong.join("; ")))),
        }
    }

    /// Checks all sort keys of a search.
    pub fn compile_all(criteria: &[SortCriteria]) -> Result<Vec<SortBy>, PredicateError> {
        if criteria.len() > SORT_KEYS_MAX {
            return Err(PredicateError(format!(
                "more than {SORT_KEYS_MAX} sort keys in one search"
            )));
        }
        criteria.iter().map(SortBy::compile).collect()
    }

    /// What a device with this attribute sorts by.
    pub fn rank(&self, found: Option<&Found>) -> Rank {
        let value = match found {
            None => return Rank::Missing,
            Some(Found::Time(ms)) => return Rank::Number(*ms as f64),
            Some(Found::Value(value)) => value,
        };
        let order = |left: &Element<'_>, right: &Element<'_>| match (left, right) {
            (Element::Number(left), Element::Number(right)) => left.total_cmp(right),
            (Element::Text(left), Element::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
            (Element::Number(_), Element::Text(_)) => Ordering::Less,
            (Element::Text(_), Element::Number(_)) => Ordering::Greater,
        };
        let elements = elements(value).into_iter();
        let chosen = match self.direction {
            Direction::Ascending => elements.min_by(order),
            Direction::Descending => elements.max_by(order),
        };
        match chosen {
            None => Rank::Missing,
            Some(Element::Number(number)) => Rank::Number(number),
            Some(Element::Text(text)) => Rank::Text(text.to_owned()),
        }
    }

    /// The order of two devices under this key.
    pub fn compare(&self, left: &Rank, right: &Rank) -> Ordering {
        let ascending = match (left, right) {
            (Rank::Number(left), Rank::Number(right)) => left.total_cmp(right),
            (Rank::Text(left), Rank::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
            (left, right) => left.kind().cmp(&right.kind()),
        };
        match self.direction {
            Direction::Ascending => ascending,
            Direction::Descending => ascending.reverse(),
        }
    }
}

impl Rank {
    fn kind(&self) -> u8 {
        match self {
            Rank::Missing => 0,
            Rank::Number(_) => 1,
            Rank::Text(_) => 2,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use crate::domain::attribute::read_value;
    use serde_json::{Value, json};

    fn sort(direction: Direction, values: &[Option<Value>]) -> Vec<usize> {
        let by = SortBy {
            key: AttributeKey {
                scope: Scope::Inventory,
                name: "a".into(),
            },
            direction,
        };
        let ranks: Vec<Rank> = values
            .iter()
            .map(|value| {
                by.rank(
                    value
                        .as_ref()
                        .map(|value| Found::Value(read_value(value).unwrap()))
                        .as_ref(),
                )
            })
            .collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|left, right| by.compare(&ranks[*left], &ranks[*right]));
        order
    }

    #[test]
    fn kinds_have_an_order() {
        let values = [
            Some(json!("b")),
            Some(json!(10)),
            None,
            Some(json!("B")),
            Some(json!(9)),
        ];
        assert_eq!(sort(Direction::Ascending, &values), [2, 4, 1, 3, 0]);
        assert_eq!(sort(Direction::Descending, &values), [0, 3, 1, 4, 2]);
    }

    #[test]
    fn lists_sort_by_their_extremes() {
        let values = [Some(json!([1, 9])), Some(json!([2, 3])), Some(json!([]))];
        assert_eq!(sort(Direction::Ascending, &values), [2, 0, 1]);
        assert_eq!(sort(Direction::Descending, &values), [0, 1, 2]);
    }

    #[test]
    fn wrong_keys_are_refused() {
        let key = |scope: &str, attribute: &str, order: &str| {
            SortBy::compile(&SortCriteria {
                scope: scope.into(),
                attribute: attribute.into(),
                order: order.into(),
            })
        };
        assert!(key("inventory", "a", "asc").is_ok());
        assert_eq!(
            key("inventory", "a", "up").unwrap_err().0,
            "order: must be a valid value."
        );
        assert_eq!(
            key("inventory", "a", "").unwrap_err().0,
            "order: cannot be blank."
        );
        assert_eq!(
            key("", "", "asc").unwrap_err().0,
            "attribute: cannot be blank; scope: cannot be blank."
        );
    }
}
