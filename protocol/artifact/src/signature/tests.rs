#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use p256::elliptic_curve::rand_core::OsRng;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::pkcs1::{EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _};

use super::*;

const MESSAGE: &[u8] = b"the bytes of a manifest";

fn signs(private: &str, public: &str) {
    let signing = SigningKey::from_pem(private).unwrap();
    let signature = signing.sign(MESSAGE).unwrap();
    for key in [signing.verify_key(), VerifyKey::from_pem(public).unwrap()] {
        assert!(key.verify(MESSAGE, &signature));
        assert!(!key.verify(b"other bytes", &signature));
        assert!(!key.verify(MESSAGE, &signature[1..]));
        assert!(!key.verify(MESSAGE, b""));
        let mut damaged = signature.clone();
        damaged[10] ^= 1;
        assert!(!key.verify(MESSAGE, &damaged));
    }
}

#[test]
fn p256_in_every_form() {
    let secret = p256::SecretKey::random(&mut OsRng);
    let public = secret
        .public_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let sec1 = secret.to_sec1_pem(LineEnding::LF).unwrap();
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    signs(&sec1, &public);
    signs(&format!("{parameters}{}", sec1.as_str()), &public);
    signs(
        &format!(
            "a comment\n{}",
            secret.to_pkcs8_pem(LineEnding::CRLF).unwrap().as_str()
        ),
        &public,
    );
}

#[test]
fn p256_signatures_are_written_raw_and_read_in_der_too() {
    let secret = p256::SecretKey::random(&mut OsRng);
    let key = SigningKey::from_pem(&secret.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
    for round in 0..20_u8 {
        let message = [round; 3];
        let raw = key.sign(&message).unwrap();
        assert_eq!(raw.len(), 64);
        let der = p256::ecdsa::Signature::from_slice(&raw).unwrap().to_der();
        assert!(key.verify_key().verify(&message, der.as_bytes()));
    }
}

#[test]
fn rsa_in_every_form() {
    let secret = rsa::RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
    let public = secret
        .to_public_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    signs(&secret.to_pkcs1_pem(LineEnding::LF).unwrap(), &public);
    signs(&secret.to_pkcs8_pem(LineEnding::LF).unwrap(), &public);
    let pkcs1 = secret.to_public_key().to_pkcs1_pem(LineEnding::LF).unwrap();
    assert!(
        VerifyKey::from_pem(&pkcs1)
            .unwrap_err()
            .to_string()
            .contains("-RSAPublicKey_in")
    );
}

#[test]
fn short_rsa_keys_are_refused() {
    let secret = rsa::RsaPrivateKey::new(&mut OsRng, 1024).unwrap();
    let error = SigningKey::from_pem(&secret.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap_err();
    assert!(error.to_string().contains("1024 bits"), "{error}");
    let public = secret
        .to_public_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    assert!(
        VerifyKey::from_pem(&public)
            .unwrap_err()
            .to_string()
            .contains("1024 bits")
    );
}

#[test]
fn wrong_texts_say_what_to_do() {
    let secret = p256::SecretKey::random(&mut OsRng);
    let private = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
    let public = secret
        .public_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let block = |label: &str, body: &str| {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let too_long = " ".repeat(70_000);
    for (text, why) in [
        ("", "no PEM block"),
        (private.as_str(), "private key and a public key is needed"),
        (&block("CERTIFICATE", "AAAA"), "openssl x509"),
        (&block("OPENSSH PRIVATE KEY", "AAAA"), "private key"),
        (&block("NOTHING", "AAAA"), "unsupported key type"),
        (&block("PUBLIC KEY", "!!!!"), "not base64"),
        (&block("PUBLIC KEY", "AAAA"), "damaged"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "no line -----END"),
        (&too_long, "more than"),
    ] {
        let message = VerifyKey::from_pem(text).unwrap_err().to_string();
        assert!(message.contains(why), "{text:?}: {message}");
    }
    for (text, why) in [
        (public.as_str(), "public key"),
        (&block("ENCRYPTED PRIVATE KEY", "AAAA"), "encrypted"),
        (
            &block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nAAAA"),
            "encrypted",
        ),
        (&block("EC PRIVATE KEY", "AAAA"), "P-256"),
        (&block("PRIVATE KEY", "AAAA"), "damaged"),
        (&private.as_str()[..100], "no line -----END"),
    ] {
        let message = SigningKey::from_pem(text).unwrap_err().to_string();
        assert!(message.contains(why), "{text:?}: {message}");
        assert!(
            !message.contains("AAAA"),
            "the message shows the key: {message}"
        );
    }
}
