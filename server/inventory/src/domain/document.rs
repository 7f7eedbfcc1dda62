//! The attributes of one scope of one device as one JSON object, the form they are stored in.
//!
//! A plain attribute is `"name": value`; one with a description or a time is `"name": {"v": value, "d": …, "t": …}`.
//! Searches read a few names out of many documents, so picking skips over the rest without building it.

use std::collections::BTreeMap;
use std::fmt;

use ambidex_wire::inventory::AttributeValue;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;

/// An attribute without its name and scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub value: AttributeValue,
    pub description: Option<String>,
    /// When it was last set; tags have it.
    pub set_ms: Option<i64>,
}

/// All attributes of one scope, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document(pub BTreeMap<String, Entry>);

impl Document {
    /// Reads the stored text.
    pub fn decode(text: &str) -> Result<Document, serde_json::Error> {
        serde_json::from_str(text).map(Document)
    }

    /// The text to store.
    pub fn encode(&self) -> String {
        serde_json::to_string(&self.0).expect("invariant: a map with text keys is JSON")
    }

    /// The values of a few names, in the order of `names`.
    pub fn pick(
        text: &str,
        names: &[&str],
    ) -> Result<Vec<Option<AttributeValue>>, serde_json::Error> {
        let mut found = vec![None; names.len()];
        if text != "{}" {
            let mut input = serde_json::Deserializer::from_str(text);
            Pick {
                names,
                found: &mut found,
            }
            .deserialize(&mut input)?;
        }
        Ok(found)
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.description.is_none() && self.set_ms.is_none() {
            return self.value.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &self.value)?;
        if let Some(description) = &self.description {
            map.serialize_entry("d", description)?;
        }
        if let Some(set_ms) = self.set_ms {
            map.serialize_entry("t", &set_ms)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl EntryVisitor {
    fn plain(value: AttributeValue) -> Entry {
        Entry {
            value,
            description: None,
            set_ms: None,
        }
    }
}

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an attribute value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Entry, E> {
        Ok(EntryVisitor::plain(AttributeValue::Text(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Entry, E> {
        Ok(EntryVisitor::plain(AttributeValue::Number(number.into())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Entry, E> {
        Ok(EntryVisitor::plain(AttributeValue::Number(number.into())))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Entry, E> {
        let number = Number::from_f64(number).ok_or_else(|| E::custom("number out of range"))?;
        Ok(EntryVisitor::plain(AttributeValue::Number(number)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Entry, A::Error> {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        while let Some(item) = items.next_element::<Entry>()? {
            match item.value {
                AttributeValue::Text(text) => texts.push(text),
                AttributeValue::Number(number) => numbers.push(number),
                _ => return Err(A::Error::custom("a list within a list")),
            }
        }
        Ok(EntryVisitor::plain(match numbers.is_empty() {
            true => AttributeValue::Texts(texts),
            false => AttributeValue::Numbers(numbers),
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let (mut value, mut description, mut set_ms) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "v" => value = Some(map.next_value::<Entry>()?.value),
                "d" => description = Some(map.next_value()?),
                "t" => set_ms = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let value = value.ok_or_else(|| A::Error::custom("an attribute without a value"))?;
        Ok(Entry {
            value,
            description,
            set_ms,
        })
    }
}

struct Pick<'a> {
    names: &'a [&'a str],
    found: &'a mut [Option<AttributeValue>],
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// A key of the document: its position among the wanted names, without copying the text.
struct Wanted<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Wanted<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an attribute name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a document of attributes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(position) = map.next_key_seed(Wanted(self.names))? {
            match position {
                Some(position) => self.found[position] = Some(map.next_value::<Entry>()?.value),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn sample() -> Document {
        let entry = |value| Entry {
            value,
            description: None,
            set_ms: None,
        };
        let mut document = Document::default();
        document
            .0
            .insert("a.b$c".into(), entry(AttributeValue::Text("x\"y".into())));
        document.0.insert(
            "n".into(),
            entry(AttributeValue::Number(Number::from_f64(1.5).unwrap())),
        );
        document.0.insert(
            "list".into(),
            entry(AttributeValue::Texts(vec!["p".into(), "q".into()])),
        );
        document
            .0
            .insert("empty".into(), entry(AttributeValue::Texts(vec![])));
        document.0.insert(
            "numbers".into(),
            entry(AttributeValue::Numbers(vec![1.into(), (-2).into()])),
        );
        let described = Entry {
            value: AttributeValue::Number(7.into()),
            description: Some("seven".into()),
            set_ms: Some(5),
        };
        document.0.insert("described".into(), described);
        document
    }

    #[test]
    fn documents_survive_storing() {
        let text = sample().encode();
        assert_eq!(Document::decode(&text).unwrap(), sample());
        assert!(text.contains(r#""n":1.5"#), "{text}");
        assert_eq!(Document::default().encode(), "{}");
    }

    #[test]
    fn picking_finds_the_wanted_names_only() {
        let text = sample().encode();
        let picked = Document::pick(&text, &["described", "missing", "a.b$c"]).unwrap();
        assert_eq!(
            picked,
            vec![
                Some(AttributeValue::Number(7.into())),
                None,
                Some(AttributeValue::Text("x\"y".into()))
            ]
        );
        assert_eq!(Document::pick("{}", &["a"]).unwrap(), vec![None]);
    }
}
