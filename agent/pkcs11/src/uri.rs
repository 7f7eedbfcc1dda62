//! The URI that names a key: RFC 7512, the attributes that choose a token and a key in it.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// Why a text is no URI of a key. Never repeats a value: it may be the PIN.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UriError {
    #[error("it does not begin with 'pkcs11:'")]
    Scheme,
    #[error("'{0}' has no value")]
    NoValue(String),
    #[error("'{0}' is given twice")]
    Twice(String),
    #[error("there is no attribute '{0}'")]
    Unknown(String),
    #[error("the value of '{0}' is no text in UTF-8")]
    Text(String),
    #[error("the value of 'slot-id' is no number")]
    Slot,
    #[error("'type' must be 'private': the key is to sign")]
    Type,
    #[error("'object' or 'id' must say which key")]
    NoKey,
    #[error("'pin-value' and 'pin-source' are both given")]
    TwoPins,
    #[error("'pin-source' must be a path or a file: URI")]
    PinSource,
}

/// Where the PIN is.
#[derive(PartialEq, Eq)]
pub enum Pin {
    Value(String),
    File(PathBuf),
}

/// Which key of which token.
#[derive(Default, PartialEq, Eq)]
pub struct Uri {
    pub token: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub slot: Option<u64>,
    pub object: Option<String>,
    pub id: Option<Vec<u8>>,
    pub pin: Option<Pin>,
    pub module: Option<PathBuf>,
}

impl Uri {
    /// # Errors
    /// [`UriError`].
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        let rest = text.strip_prefix("pkcs11:").ok_or(UriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parts = path.split(';').chain(query.split('&'));
        let mut uri = Uri::default();
        let mut seen = Vec::new();
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| UriError::NoValue(part.to_owned()))?;
            if seen.contains(&name) {
                return Err(UriError::Twice(name.to_owned()));
            }
            seen.push(name);
            uri.take(name, value)?;
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(UriError::NoKey);
        }
        Ok(uri)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), UriError> {
        let bytes: Vec<u8> = percent_decode_str(value).collect();
        let text = || String::from_utf8(bytes.clone()).map_err(|_| UriError::Text(name.to_owned()));
        match name {
            "token" => self.token = Some(text()?),
            "manufacturer" => self.manufacturer = Some(text()?),
            "model" => self.model = Some(text()?),
            "serial" => self.serial = Some(text()?),
            "slot-id" => self.slot = Some(text()?.parse().map_err(|_| UriError::Slot)?),
            "object" => self.object = Some(text()?),
            "id" => self.id = Some(bytes),
            "type" if value == "private" => {}
            "type" => return Err(UriError::Type),
            "pin-value" => self.pin(Pin::Value(text()?))?,
            "pin-source" => {
                let source = text()?;
                let path = source.strip_prefix("file:").unwrap_or(&source);
                let path = path.strip_prefix("//").unwrap_or(path);
                if !path.starts_with('/') {
                    return Err(UriError::PinSource);
                }
                self.pin(Pin::File(path.into()))?;
            }
            "module-path" => self.module = Some(text()?.into()),
            // These tell of the library or the slot; the path of the library says as much.
            "module-name"
            | "library-manufacturer"
            | "library-description"
            | "library-version"
            | "slot-manufacturer"
            | "slot-description" => {}
            // Attributes of vendors.
            other if other.starts_with("x-") => {}
            other => return Err(UriError::Unknown(other.to_owned())),
        }
        Ok(())
    }

    fn pin(&mut self, pin: Pin) -> Result<(), UriError> {
        match self.pin.replace(pin) {
            None => Ok(()),
            Some(_) => Err(UriError::TwoPins),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_has_its_place() {
        let uri = Uri::parse(
            "pkcs11:token=My%20token;serial=12;slot-id=7;object=key;id=%01%ff;type=private;x-vendor=1\
             ?pin-source=file:/etc/pin&module-path=/usr/lib/a.so",
        );
        let Ok(uri) = uri else { panic!("refused") };
        assert_eq!(uri.token.as_deref(), Some("My token"));
        assert_eq!(uri.serial.as_deref(), Some("12"));
        assert_eq!(uri.slot, Some(7));
        assert_eq!(uri.object.as_deref(), Some("key"));
        assert_eq!(uri.id, Some(vec![1, 255]));
        assert!(uri.pin == Some(Pin::File("/etc/pin".into())));
        assert_eq!(uri.module, Some("/usr/lib/a.so".into()));
    }

    #[test]
    fn mistakes_are_named_and_values_kept_quiet() {
        for (text, error) in [
            ("file:x", UriError::Scheme),
            ("pkcs11:", UriError::NoKey),
            ("pkcs11:token=t", UriError::NoKey),
            ("pkcs11:object", UriError::NoValue("object".to_owned())),
            (
                "pkcs11:object=a;object=b",
                UriError::Twice("object".to_owned()),
            ),
            ("pkcs11:objekt=a", UriError::Unknown("objekt".to_owned())),
            ("pkcs11:object=%ff", UriError::Text("object".to_owned())),
            ("pkcs11:object=a;slot-id=x", UriError::Slot),
            ("pkcs11:object=a;type=public", UriError::Type),
            ("pkcs11:object=a?pin-source=pin", UriError::PinSource),
            (
                "pkcs11:object=a?pin-value=1&pin-source=/p",
                UriError::TwoPins,
            ),
        ] {
            assert!(Uri::parse(text).err() == Some(error), "{text}");
        }
    }
}
