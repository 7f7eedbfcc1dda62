//! Ids in paths.

use ambidex_kit::ApiError;
use uuid::Uuid;

/// Reads an id in its canonical form (letters of either case).
///
/// # Errors
/// 400 for anything else.
pub fn parse(text: &str) -> Result<String, ApiError> {
    const HYPHENATED_BYTES: usize = 36;
    Some(text)
        .filter(|text| text.len() == HYPHENATED_BYTES)
        .and_then(|text| Uuid::try_parse(text).ok())
        .map(|id| id.to_string())
        .ok_or_else(|| ApiError::bad_request("ID is not a valid UUID"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_canonical_form_is_an_id() {
        let id = "0c13a0e6-6b63-475d-8260-ee42a590e8ff";
        assert_eq!(parse(id).ok().as_deref(), Some(id));
        assert_eq!(parse(&id.to_uppercase()).ok().as_deref(), Some(id));
        for wrong in [
            "",
            "x",
            "0c13a0e66b63475d8260ee42a590e8ff",
            "{0c13a0e6-6b63-475d-8260-ee42a590e8ff}",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
