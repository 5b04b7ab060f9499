//! What is said of a bundle: an in-toto Statement v1 with the predicate test-result v0.1, in a DSSE
//! envelope.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{SUMS, keyid};

const TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://in-toto.io/attestation/test-result/v0.1";
const PAYLOAD: &str = "application/vnd.in-toto+json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: TestResult,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

/// What was found, as in-toto's test-result has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestResult {
    /// `PASSED`, `WARNED` or `FAILED`.
    pub result: String,
    /// What was tried, by what, on what.
    pub configuration: Vec<Configuration>,
    /// The trials that passed.
    pub passed_tests: Vec<String>,
    /// The trials that were waived or not tried.
    pub warned_tests: Vec<String>,
    /// The trials that failed, or proved nothing.
    pub failed_tests: Vec<String>,
}

/// A resource that a result depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Its name.
    pub name: String,
    /// Where it is, or which it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its digest, by algorithm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Sealed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    keyid: String,
    sig: String,
}

/// The statement that `sums`, the digest of the list, is what `result` was found by.
pub(super) fn statement(sums: &str, result: TestResult) -> Result<String> {
    let digest = BTreeMap::from([("sha256".to_owned(), sums.to_owned())]);
    let statement = Statement {
        kind: TYPE.to_owned(),
        subject: vec![Subject { name: SUMS.to_owned(), digest }],
        predicate_type: PREDICATE.to_owned(),
        predicate: result,
    };
    serde_json::to_string(&statement).context("write the statement")
}

/// `statement` in its envelope, signed.
pub(super) fn seal(statement: &str, key: &SigningKey) -> Result<String> {
    let signature = key.sign(&encoding(PAYLOAD, statement.as_bytes()));
    let envelope = Envelope {
        payload_type: PAYLOAD.to_owned(),
        payload: Base64::encode_string(statement.as_bytes()),
        signatures: vec![Sealed {
            keyid: keyid(&key.verifying_key())?,
            sig: Base64::encode_string(&signature.to_bytes()),
        }],
    };
    serde_json::to_string(&envelope).context("write the envelope")
}

/// DSSE's pre-authentication encoding, which is what is signed.
fn encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// An envelope that was opened.
pub(super) struct Opened {
    /// The statement's bytes.
    pub(super) statement: Vec<u8>,
    /// The name that the envelope has for its key.
    pub(super) keyid: String,
    signature: Option<Signature>,
    kind: String,
}

/// Opens an envelope of one signature, which must be spelled as [`seal`] spells it.
pub(super) fn open(bytes: &[u8]) -> Result<Opened> {
    let envelope: Envelope = serde_json::from_slice(bytes).context("it is no DSSE envelope")?;
    if serde_json::to_string(&envelope).ok().as_deref().map(str::as_bytes) != Some(bytes) {
        bail!("it is spelled otherwise than it was written");
    }
    if envelope.payload_type != PAYLOAD {
        bail!("its payload is no in-toto statement");
    }
    let Ok(statement) = Base64::decode_vec(&envelope.payload) else {
        bail!("its payload is no base64");
    };
    let [sealed] = envelope.signatures.as_slice() else {
        bail!("it has {} signatures and must have one", envelope.signatures.len());
    };
    let signature = Base64::decode_vec(&sealed.sig).ok();
    let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
    Ok(Opened { statement, keyid: sealed.keyid.clone(), signature, kind: envelope.payload_type })
}

impl Opened {
    /// What is wrong with the signature, if it is to be `key`'s.
    pub(super) fn check(&self, key: &VerifyingKey) -> Result<()> {
        let name = keyid(key)?;
        let signed = encoding(&self.kind, &self.statement);
        let by_key =
            self.signature.is_some_and(|signature| key.verify_strict(&signed, &signature).is_ok());
        match (by_key, self.keyid == name) {
            (true, true) => Ok(()),
            (true, false) => bail!("the name of its key is altered: it must be {name}"),
            (false, true) => bail!("its signature is not one of this statement by this key"),
            (false, false) => bail!(
                "it is not signed by this key, {name}, but names the key {}",
                self.keyid.escape_debug()
            ),
        }
    }
}

/// What a statement says: the digest of the list, and what was found.
pub(super) fn read(bytes: &[u8]) -> Result<(String, TestResult)> {
    let statement: Statement =
        serde_json::from_slice(bytes).context("it is no in-toto statement of a test result")?;
    if serde_json::to_string(&statement).ok().as_deref().map(str::as_bytes) != Some(bytes) {
        bail!("the statement is spelled otherwise than it was written");
    }
    let Statement { kind, subject, predicate_type, predicate } = statement;
    if kind != TYPE || predicate_type != PREDICATE {
        bail!("it is no in-toto statement v1 of a test result v0.1");
    }
    let [Subject { name, digest }] = subject.as_slice() else {
        bail!("it has {} subjects and must have one", subject.len());
    };
    let (Some(sha256), 1, true) = (digest.get("sha256"), digest.len(), name == SUMS) else {
        bail!("its subject is not the SHA-256 of {SUMS}");
    };
    if !["PASSED", "WARNED", "FAILED"].contains(&predicate.result.as_str()) {
        bail!("its result is none of PASSED, WARNED, FAILED");
    }
    Ok((sha256.clone(), predicate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_encoded_as_dsse_says() {
        // The example of DSSE's protocol.md.
        let example = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(encoding("http://example.com/HelloWorld", b"hello world"), example);
    }
}
