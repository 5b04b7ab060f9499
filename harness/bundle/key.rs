//! Keys: ed25519, as PKCS#8 and SPKI in PEM, which openssl reads too.

use anyhow::{Context, Result, bail};
use base64ct::{Base64, Encoding};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
pub use ed25519_dalek::{SigningKey, VerifyingKey};

/// What the lines around a private key say.
const PRIVATE: &str = "PRIVATE KEY-----";

/// A new pair of keys, as PEM.
pub struct Pair {
    /// The private key, to be kept.
    pub private: String,
    /// The public key, to be given away.
    pub public: String,
}

/// Makes a pair of keys from the kernel's random numbers.
pub fn pair() -> Result<Pair> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("ask the kernel for random numbers")?;
    let key = SigningKey::from_bytes(&secret);
    // Without the public key: version 1 of the format, the only one that openssl 3 reads.
    let bytes = KeypairBytes { secret_key: secret, public_key: None };
    let private = bytes.to_pkcs8_pem(LineEnding::LF).context("write the private key as PEM")?;
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF);
    let public = public.context("write the public key as PEM")?;
    Ok(Pair { private: private.as_str().to_owned(), public })
}

/// The private key that `pem` holds.
pub fn private(pem: &str) -> Result<SigningKey> {
    SigningKey::from_pkcs8_pem(pem).ok().context(
        "this is no ed25519 private key in PKCS#8 PEM without a password\n`airtight keygen FILE` makes \
         one, as does `openssl genpkey -algorithm ed25519`",
    )
}

/// The public key that `pem` holds.
pub fn public(pem: &str) -> Result<VerifyingKey> {
    if pem.contains(PRIVATE) {
        bail!("this is a private key, and a bundle is verified by the public one");
    }
    VerifyingKey::from_public_key_pem(pem).ok().context(
        "this is no ed25519 public key in PEM\n`airtight keygen` writes it as FILE.pub; `openssl pkey \
         -in FILE -pubout` prints it",
    )
}

/// A key's name: the SHA-256 of its SPKI in DER.
pub fn keyid(key: &VerifyingKey) -> Result<String> {
    let der = key.to_public_key_der().context("write the public key as DER")?;
    Ok(super::digest(der.as_bytes()))
}

/// Whether `bytes` are a private key's file.
pub(super) fn is_private(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(4096)];
    let head = String::from_utf8_lossy(head);
    head.trim_start().starts_with("-----BEGIN ") && head.contains(PRIVATE)
}

/// Whether `bytes` hold `key` anywhere, as PEM has it or bare.
pub(super) fn holds(bytes: &[u8], key: &SigningKey) -> bool {
    let secret = key.to_bytes();
    // In PKCS#8 sixteen bytes stand before the secret: with the first two of it they fill six groups.
    let pem = Base64::encode_string(&secret[2..]);
    let within = |needle: &[u8]| {
        let first = needle.first();
        bytes.windows(needle.len()).any(|part| part.first() == first && part == needle)
    };
    within(&secret) || within(&pem.as_bytes()[..40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_reads_back_and_keys_are_told_apart() {
        let made = pair().unwrap();
        let key = private(&made.private).unwrap();
        assert_eq!(public(&made.public).unwrap(), key.verifying_key());
        assert!(is_private(made.private.as_bytes()) && !is_private(made.public.as_bytes()));
        assert!(holds(made.private.as_bytes(), &key) && holds(&key.to_bytes(), &key));
        assert!(!holds(made.public.as_bytes(), &key));
        assert!(private(&made.public).is_err());
        assert!(public(&made.private).unwrap_err().to_string().contains("a private key"));
        assert_ne!(pair().unwrap().private, made.private);
    }
}
