//! Where a private key is: a file, or a token that signs for us.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// What a URI of a key begins with (RFC 7512).
const SCHEME: &str = "pkcs11:";

/// A private key as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A PEM file.
    File(PathBuf),
    Token(TokenUri),
}

/// A key in a PKCS#11 token. The URI may hold the token's PIN and is never shown as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenUri {
    uri: String,
    /// The token's library, where the URI does not name it.
    module: Option<PathBuf>,
}

impl KeySource {
    pub(super) fn new(text: String, module: Option<&Path>) -> Self {
        if text.starts_with(SCHEME) {
            Self::Token(TokenUri {
                uri: text,
                module: module.map(Path::to_owned),
            })
        } else {
            Self::File(text.into())
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Token(uri) => uri.fmt(f),
        }
    }
}

impl TokenUri {
    /// The URI with all that it says.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.uri
    }

    #[must_use]
    pub fn module(&self) -> Option<&Path> {
        self.module.as_deref()
    }
}

/// Without the PIN.
impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes = self.uri.strip_prefix(SCHEME).unwrap_or(&self.uri);
        let (path, _) = attributes.split_once('?').unwrap_or((attributes, ""));
        let shown = path.split(';').filter(|part| !part.starts_with("pin-"));
        write!(f, "{SCHEME}{}", shown.collect::<Vec<_>>().join(";"))
    }
}

impl fmt::Debug for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_never_shown() {
        for uri in [
            "pkcs11:token=t;object=o?pin-value=1234&module-path=/m",
            "pkcs11:token=t;pin-value=1234;object=o",
            "pkcs11:pin-value=1234;token=t;object=o",
        ] {
            let source = KeySource::new(uri.to_owned(), None);
            for shown in [format!("{source}"), format!("{source:?}")] {
                assert!(shown.contains("pkcs11:token=t;object=o"), "{shown}");
                assert!(!shown.contains("1234"), "{shown}");
            }
        }
        assert_eq!(
            KeySource::new("/key.pem".to_owned(), None),
            KeySource::File("/key.pem".into())
        );
    }
}
