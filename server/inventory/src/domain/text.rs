//! Searching for words in everything that is known of a device.

use ambidex_db::DbError;
use ambidex_wire::inventory::AttributeValue;

use super::document::Document;
use crate::error::InventoryError;
use crate::store::selection::Candidate;

/// Words of one search: each is looked for in every attribute of every device.
pub const WORDS_MAX: usize = 16;

/// The words of a text, in lower case.
pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

/// Whether each word occurs in the device's id, status or group, or in the value of one of its attributes. The
/// candidate has the documents of all scopes.
pub(super) fn contains(candidate: &Candidate, words: &[String]) -> Result<bool, InventoryError> {
    let mut missing: Vec<&String> = words.iter().collect();
    let mut look = |text: &str| {
        let text = text.to_lowercase();
        missing.retain(|word| !text.contains(word.as_str()));
        missing.is_empty()
    };
    for column in [&candidate.id, &candidate.status, &candidate.group] {
        if look(column) {
            return Ok(true);
        }
    }
    for document in &candidate.documents {
        let document = Document::decode(document).map_err(|error| {
            DbError::Corrupt(format!("attributes of device {}: {error}", candidate.id))
        })?;
        for entry in document.0.values() {
            let found = match &entry.value {
                AttributeValue::Text(text) => look(text),
                AttributeValue::Number(number) => look(&number.to_string()),
                AttributeValue::Texts(texts) => texts.iter().any(|text| look(text)),
                AttributeValue::Numbers(numbers) => {
                    numbers.iter().any(|number| look(&number.to_string()))
                }
            };
            if found {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
