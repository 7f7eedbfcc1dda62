//! `ambidex-pkcs11`: shows the public half of a key in a PKCS#11 token, and signs with the private one.
//!
//! A program of its own because a token's library is loaded at run time, which the static agent cannot do. The
//! agent starts it for each signature: one process, one operation, nothing kept. A TPM 2.0 is a token, too,
//! through `libtpm2_pkcs11`.
//!
//! The key's URI may hold a PIN. It comes in the environment, which other users cannot read, never as an
//! argument.

mod key;
mod token;
mod uri;

use std::{
    env,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use key::Scheme;
use token::Token;
use uri::Uri;

const URI: &str = "AMBIDEX_PKCS11_URI";
const MODULE: &str = "AMBIDEX_PKCS11_MODULE";
/// A token that does not answer must not hold up its user.
const LIMIT: Duration = Duration::from_secs(30);
/// What is signed is a login request or a TLS handshake.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

const HELP: &str = "\
Sign with a key that lives in a PKCS#11 token (a security module, a smart card, a TPM).

usage: ambidex-pkcs11 public-key      print the public key in PEM
       ambidex-pkcs11 sign SCHEME     sign what comes on standard input; the bare signature comes out

SCHEME is rsa-pkcs1-sha256, rsa-pss-sha256, ecdsa-p256-sha256 or ed25519.

environment:
  AMBIDEX_PKCS11_URI      which key, as an RFC 7512 URI:
                          pkcs11:token=device;object=identity?pin-source=/etc/ambidex/pin
                          token, manufacturer, model, serial, slot-id choose the token; object and id the
                          key; pin-value or pin-source (a file) give the PIN, module-path the library
  AMBIDEX_PKCS11_MODULE   the token's library, where the URI does not name it

ambidex-agent starts this program when a key in its configuration is such a URI.
";

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{URI} is not set; see --help")]
    NoUri,
    #[error("the URI in {URI} cannot be used: {0}")]
    Uri(#[from] uri::UriError),
    #[error("{0}")]
    Token(#[from] token::TokenError),
    #[error("the message cannot be read: {0}")]
    Message(std::io::Error),
    #[error("the message is larger than {MESSAGE_BYTES_MAX} bytes")]
    Large,
    #[error("the answer cannot be written: {0}")]
    Output(std::io::Error),
}

enum Verb {
    Help,
    PublicKey,
    Sign(Scheme),
}

fn main() -> ExitCode {
    let verb = match arguments() {
        Ok(verb) => verb,
        Err(error) => {
            eprintln!("ambidex-pkcs11: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("ambidex-pkcs11: the token does not answer");
        std::process::exit(1);
    });
    match run(&verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ambidex-pkcs11: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Verb, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value, ValueExt as _};
    let mut parser = lexopt::Parser::from_env();
    let mut words = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Verb::Help),
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    match words
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["public-key"] => Ok(Verb::PublicKey),
        ["sign", scheme] => Scheme::parse(scheme)
            .map(Verb::Sign)
            .ok_or_else(|| format!("there is no scheme '{scheme}'").into()),
        _ => Err("say public-key, or sign and a scheme".into()),
    }
}

fn run(verb: &Verb) -> Result<(), Failure> {
    let output = match verb {
        Verb::Help => HELP.as_bytes().to_vec(),
        Verb::PublicKey => open()?.public_pem()?.into_bytes(),
        Verb::Sign(scheme) => {
            let mut message = Vec::new();
            let mut input = std::io::stdin().lock().take(MESSAGE_BYTES_MAX + 1);
            input.read_to_end(&mut message).map_err(Failure::Message)?;
            if message.len() as u64 > MESSAGE_BYTES_MAX {
                return Err(Failure::Large);
            }
            open()?.sign(*scheme, &message)?
        }
    };
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&output)
        .and_then(|()| stdout.flush())
        .map_err(Failure::Output)
}

fn open() -> Result<Token, Failure> {
    let text = env::var(URI).map_err(|_| Failure::NoUri)?;
    let module = env::var_os(MODULE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    Ok(Token::open(&Uri::parse(&text)?, module)?)
}
