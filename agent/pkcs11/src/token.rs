//! A key in its token: found, logged in to, used.

use std::path::PathBuf;

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
    types::AuthPin,
};

use crate::key::{PublicKey, Scheme};
use crate::uri::{Pin, Uri};

#[cfg(target_arch = "x86_64")]
const MULTIARCH_PROXY: &str = "/usr/lib/x86_64-linux-gnu/p11-kit-proxy.so";
#[cfg(target_arch = "aarch64")]
const MULTIARCH_PROXY: &str = "/usr/lib/aarch64-linux-gnu/p11-kit-proxy.so";
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MULTIARCH_PROXY: &str = "/usr/lib/arm-linux-gnueabihf/p11-kit-proxy.so";

/// The library that knows all others of a system, where none is named.
const PROXIES: [&str; 3] = [
    "/usr/lib/p11-kit-proxy.so",
    "/usr/lib64/p11-kit-proxy.so",
    MULTIARCH_PROXY,
];

/// Why the key cannot be used. Names what to do; never the PIN.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(
        "no library of the token is named, and there is no p11-kit-proxy.so: give module-path in the URI, or pkcs11_module in the configuration"
    )]
    NoModule,
    #[error("the library '{}' cannot be used: {error}", path.display())]
    Module {
        path: PathBuf,
        error: cryptoki::error::Error,
    },
    #[error("cannot {doing}: {error}")]
    Refused {
        doing: &'static str,
        error: cryptoki::error::Error,
    },
    #[error("no token fits the URI; there are: {0}")]
    NoToken(String),
    #[error("several tokens fit the URI: {0}; choose one by token, serial or slot-id")]
    ManyTokens(String),
    #[error("the token '{0}' wants a PIN: give pin-value or pin-source in the URI")]
    NoPin(String),
    #[error("the file '{}' with the PIN cannot be read: {error}", path.display())]
    PinFile {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("the token '{token}' has no private key that fits the URI")]
    NoKey { token: String },
    #[error("the token '{token}' has {count} private keys that fit the URI; choose one by id")]
    ManyKeys { token: String, count: usize },
    #[error(
        "the public half of the key is not on the token, or the key is neither RSA, ECDSA P-256 nor Ed25519"
    )]
    NoPublicKey,
    #[error("the key cannot sign like that: it is of another kind")]
    Kind,
    #[error("the token gave something that is no signature")]
    NoSignature,
}

fn refused(doing: &'static str) -> impl Fn(cryptoki::error::Error) -> TokenError {
    move |error| TokenError::Refused { doing, error }
}

/// A key that can be used.
pub struct Token {
    session: Session,
    private: ObjectHandle,
    public: PublicKey,
}

impl Token {
    /// Finds the key and logs in. `module` counts where the URI names no library.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open(uri: &Uri, module: Option<PathBuf>) -> Result<Token, TokenError> {
        let path = uri
            .module
            .clone()
            .or(module)
            .or_else(|| {
                PROXIES
                    .map(PathBuf::from)
                    .into_iter()
                    .find(|path| path.exists())
            })
            .ok_or(TokenError::NoModule)?;
        let unusable = |error| TokenError::Module {
            path: path.clone(),
            error,
        };
        let library = Pkcs11::new(&path).map_err(unusable)?;
        library
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(unusable)?;
        let (slot, info) = slot(&library, uri)?;
        let session = library
            .open_ro_session(slot)
            .map_err(refused("open a session with the token"))?;
        match pin(uri)? {
            Some(pin) => session
                .login(UserType::User, Some(&pin))
                .map_err(refused("log in to the token"))?,
            None if info.login_required() => {
                return Err(TokenError::NoPin(info.label().to_owned()));
            }
            None => {}
        }
        let private = private(&session, uri, info.label())?;
        let public = public(&session, private)?.ok_or(TokenError::NoPublicKey)?;
        Ok(Token {
            session,
            private,
            public,
        })
    }

    /// # Errors
    /// The key has no form in PEM.
    pub fn public_pem(&self) -> Result<String, TokenError> {
        self.public.pem().ok_or(TokenError::NoPublicKey)
    }

    /// # Errors
    /// The key is of another kind, or the token refused.
    pub fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        if !self.public.fits(scheme) {
            return Err(TokenError::Kind);
        }
        let prepared = scheme.prepared(message);
        let signature = self
            .session
            .sign(&scheme.mechanism(), self.private, &prepared)
            .map_err(refused("sign"))?;
        scheme.finished(signature).ok_or(TokenError::NoSignature)
    }
}

fn slot(library: &Pkcs11, uri: &Uri) -> Result<(Slot, TokenInfo), TokenError> {
    let doing = "look for the token";
    let mut all = Vec::new();
    let mut fitting = Vec::new();
    for slot in library.get_slots_with_token().map_err(refused(doing))? {
        let info = library.get_token_info(slot).map_err(refused(doing))?;
        all.push(named(&info));
        let fits = |wanted: &Option<String>, is: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| wanted == is.trim_end())
        };
        if info.token_initialized()
            && fits(&uri.token, info.label())
            && fits(&uri.serial, info.serial_number())
            && fits(&uri.manufacturer, info.manufacturer_id())
            && fits(&uri.model, info.model())
            && uri.slot.is_none_or(|id| id == slot.id())
        {
            fitting.push((slot, info));
        }
    }
    if fitting.len() > 1 {
        let names: Vec<String> = fitting.iter().map(|(_, info)| named(info)).collect();
        return Err(TokenError::ManyTokens(names.join(", ")));
    }
    fitting.pop().ok_or_else(|| {
        TokenError::NoToken(if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        })
    })
}

fn named(info: &TokenInfo) -> String {
    format!("'{}' (serial {})", info.label(), info.serial_number())
}

fn pin(uri: &Uri) -> Result<Option<AuthPin>, TokenError> {
    let text = match &uri.pin {
        None => return Ok(None),
        Some(Pin::Value(value)) => value.clone(),
        Some(Pin::File(path)) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| TokenError::PinFile {
                path: path.clone(),
                error,
            })?,
    };
    Ok(Some(AuthPin::new(text.into())))
}

fn private(session: &Session, uri: &Uri, token: &str) -> Result<ObjectHandle, TokenError> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    template.extend(
        uri.object
            .clone()
            .map(|label| Attribute::Label(label.into())),
    );
    template.extend(uri.id.clone().map(Attribute::Id));
    let found = session
        .find_objects(&template)
        .map_err(refused("look for the key"))?;
    let token = token.to_owned();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(TokenError::NoKey { token }),
        many => Err(TokenError::ManyKeys {
            token,
            count: many.len(),
        }),
    }
}

/// The public half: an object of its own beside the private one, or told by that.
fn public(session: &Session, private: ObjectHandle) -> Result<Option<PublicKey>, TokenError> {
    let doing = "read the key's description";
    let told = session
        .get_attributes(private, &[AttributeType::KeyType, AttributeType::Id])
        .map_err(refused(doing))?;
    let mut kind = None;
    let mut template = vec![Attribute::Class(ObjectClass::PUBLIC_KEY)];
    for attribute in told {
        match attribute {
            Attribute::KeyType(is) => {
                kind = Some(is);
                template.push(Attribute::KeyType(is));
            }
            Attribute::Id(id) => template.push(Attribute::Id(id)),
            _ => {}
        }
    }
    let Some(kind) = kind else { return Ok(None) };
    let objects = session.find_objects(&template).map_err(refused(doing))?;
    for object in objects.into_iter().chain([private]) {
        // What an object does not tell, the next one may.
        if let Some(key) = described(session, object, kind) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn described(session: &Session, object: ObjectHandle, kind: KeyType) -> Option<PublicKey> {
    let wanted: &[AttributeType] = match kind {
        KeyType::RSA => &[AttributeType::Modulus, AttributeType::PublicExponent],
        KeyType::EC | KeyType::EC_EDWARDS => &[AttributeType::EcParams, AttributeType::EcPoint],
        _ => return None,
    };
    let mut parts = [Vec::new(), Vec::new()];
    for attribute in session.get_attributes(object, wanted).ok()? {
        match attribute {
            Attribute::Modulus(bytes) | Attribute::EcParams(bytes) => parts[0] = bytes,
            Attribute::PublicExponent(bytes) | Attribute::EcPoint(bytes) => parts[1] = bytes,
            _ => {}
        }
    }
    let [first, second] = &parts;
    match kind {
        KeyType::RSA => PublicKey::rsa(first, second),
        KeyType::EC => PublicKey::p256(first, second),
        _ => PublicKey::ed25519(second),
    }
}
