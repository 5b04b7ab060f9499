//! `airtight keygen`, `airtight bundle` and `airtight verify`: a run's files in one signed archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use airtight::bundle::{
    self, BYTES_MAX, Configuration, File, SigningKey, TestResult, VerifyingKey, digest, keyid,
};
use airtight::report::result::Document;
use airtight::trial::Record;
use airtight::verdict::Verdict;
use anyhow::{Context, Result, bail};
use clap::Args;

use super::whole;

/// What ends where a bundle is whole, and nothing shows who made it.
const EXIT_NOT_CHECKED: u8 = 4;

/// How deep a run's folders may be nested.
const DEPTH_MAX: usize = 32;

/// The options of `airtight keygen`.
#[derive(Args)]
pub(crate) struct KeygenOptions {
    /// The private key's file, for yourself alone; the public key, to be given away, goes to FILE.pub.
    file: PathBuf,
}

/// The options of `airtight bundle`.
#[derive(Args)]
pub(crate) struct BundleOptions {
    /// The folder that `airtight run --out` wrote.
    folder: PathBuf,
    /// Signs with this ed25519 private key (PKCS#8 PEM), as `airtight keygen` makes one.
    #[arg(long)]
    key: Option<PathBuf>,
    /// The archive, a tar.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// The options of `airtight verify`.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 intact, and signed by that key; 1 altered, or not signed by that \
    key; 2 usage, or a file that cannot be read; 4 intact as far as can be told without a key."
)]
pub(crate) struct VerifyOptions {
    /// The archive that `airtight bundle` wrote. Nothing is extracted.
    bundle: PathBuf,
    /// The public key that must have signed it. Without one, nothing shows who made it.
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
}

/// Makes a pair of keys, and gives what to print. What is there is never written over.
pub(crate) fn keygen(options: &KeygenOptions) -> Result<(String, u8)> {
    let private = options.file.as_path();
    let mut public = private.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    for path in [private, &public] {
        if fs::symlink_metadata(path).is_ok() {
            bail!("{} is there already, and keys are not written over", path.display());
        }
    }
    let pair = bundle::pair()?;
    put_new(private, &pair.private, 0o600)?;
    if let Err(error) = put_new(&public, &pair.public, 0o644) {
        let _ = fs::remove_file(private);
        return Err(error);
    }
    let text = format!(
        "wrote {}, the private key: keep it\nwrote {}, the public key: give it to whoever verifies\n\
         key {}\n",
        private.display(),
        public.display(),
        keyid(&bundle::public(&pair.public)?)?
    );
    Ok((text, 0))
}

/// Writes a file that must not be there yet, whole or not at all.
fn put_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let context = || format!("write {}", path.display());
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.with_context(context)?;
    let put = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if put.is_err() {
        let _ = fs::remove_file(path);
    }
    put.with_context(context)
}

/// Bundles a run's folder, and gives what to print.
pub(crate) fn bundle(options: &BundleOptions) -> Result<(String, u8)> {
    let folder = options.folder.as_path();
    let key = options.key.as_deref().map(private).transpose()?;
    outside(folder, &options.to)?;
    let mut files = Vec::new();
    let mut left = BYTES_MAX;
    collect(folder, "", 0, &mut left, &mut files)?;
    let found = found(files.iter().map(|file| (file.name.as_str(), file.bytes.as_slice())))?;
    let Some(found) = found else {
        bail!(
            "{} holds no record of a trial\n`airtight run --out {0}` writes them",
            folder.display()
        );
    };
    let count = files.len();
    let words = counts(&found);
    let archive = bundle::make(files, found, key.as_ref())?;
    whole::write(&options.to, &archive)?;
    let signed = match &key {
        Some(key) => format!("signed by the key {}", keyid(&key.verifying_key())?),
        None => "not signed: nothing will show who made it, nor that it is as it was (--key FILE)"
            .to_owned(),
    };
    let to = options.to.display();
    Ok((format!("wrote {to}: {count} files, {words}\n{signed}\n"), 0))
}

fn private(path: &Path) -> Result<SigningKey> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    bundle::private(&text).with_context(|| format!("read {}", path.display()))
}

fn public(path: &Path) -> Result<VerifyingKey> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    bundle::public(&text).with_context(|| format!("read {}", path.display()))
}

/// An archive within the folder would hold itself the next time.
fn outside(folder: &Path, to: &Path) -> Result<()> {
    let inside = fs::canonicalize(folder).with_context(|| format!("read {}", folder.display()))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")))
        .with_context(|| format!("write {}: its folder is not there", to.display()))?;
    if parent.starts_with(&inside) {
        bail!("{} is within {}: name a place outside it", to.display(), folder.display());
    }
    Ok(())
}

/// The files of `folder` and all below it; `left` is how many bytes they may still have.
fn collect(
    folder: &Path,
    below: &str,
    depth: usize,
    left: &mut u64,
    files: &mut Vec<File>,
) -> Result<()> {
    let context = || format!("read {}", folder.display());
    if depth > DEPTH_MAX {
        bail!("{} is nested too deeply: at most {DEPTH_MAX} folders", folder.display());
    }
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            bail!("{} has a name that is no UTF-8: rename it", path.display());
        };
        let name = format!("{below}{name}");
        let kind = entry.file_type().with_context(|| format!("read {}", path.display()))?;
        if kind.is_dir() {
            collect(&path, &format!("{name}/"), depth + 1, left, files)?;
        } else if kind.is_file() {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                bail!("the files are larger than a bundle may be: at most {BYTES_MAX} bytes");
            };
            *left = rest;
            files.push(File { name, bytes });
        } else {
            bail!(
                "{} is neither a file nor a folder, and a bundle holds files alone: remove it",
                path.display()
            );
        }
    }
    Ok(())
}

/// What the records among `files` say; nothing where there is none.
fn found<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Option<TestResult>> {
    let mut worst: BTreeMap<String, u8> = BTreeMap::new();
    let mut configuration = BTreeSet::new();
    for (name, bytes) in files.filter(|(name, _)| name.ends_with(".json")) {
        for record in records(name, bytes, &mut configuration)? {
            let grade = match record.verdict {
                Verdict::Conforms => 0,
                Verdict::Known | Verdict::Skipped => 1,
                Verdict::Deviates | Verdict::Stale | Verdict::Inconclusive => 2,
            };
            let tried = record.verdict != Verdict::Skipped;
            if let Some(program) = record.program.as_ref().filter(|_| tried)
                && let (Some(name), Some(sha256)) = (program.command.first(), &program.sha256)
            {
                configuration.insert(resource(name, None, Some(sha256)));
            }
            let before = worst.entry(record.id).or_insert(grade);
            *before = grade.max(*before);
        }
    }
    if worst.is_empty() {
        return Ok(None);
    }
    let graded = |wanted: u8| -> Vec<String> {
        let those = worst.iter().filter(|(_, grade)| **grade == wanted);
        those.map(|(id, _)| id.clone()).collect()
    };
    let [passed_tests, warned_tests, failed_tests] = [0, 1, 2].map(graded);
    let result = if !failed_tests.is_empty() || passed_tests.is_empty() {
        // What proved nothing has not passed.
        "FAILED"
    } else if warned_tests.is_empty() {
        "PASSED"
    } else {
        "WARNED"
    };
    let configuration = configuration.into_iter().collect();
    let result = result.to_owned();
    Ok(Some(TestResult { result, configuration, passed_tests, warned_tests, failed_tests }))
}

/// The records in one JSON file: a record, a whole result, or neither.
fn records(
    name: &str,
    bytes: &[u8],
    configuration: &mut BTreeSet<Configuration>,
) -> Result<Vec<Record>> {
    let shown = name.escape_debug();
    let value: serde_json::Value = serde_json::from_slice(bytes).with_context(|| {
        format!("`{shown}` is no whole JSON: was the run cut short? remove it, or run anew")
    })?;
    let no_record = || format!("`{shown}` is no record that this airtight reads");
    if value.get("records").is_some() && value.get("tool").is_some() {
        let document: Document = serde_json::from_value(value).with_context(no_record)?;
        let (tool, kernel) = (&document.tool, &document.host.kernel);
        let uri = format!("pkg:cargo/{}@{}", escape(&tool.name), escape(&tool.version));
        configuration.insert(resource(&tool.name, Some(uri), None));
        let uri = format!("pkg:generic/linux@{}", escape(kernel));
        configuration.insert(resource("linux", Some(uri), None));
        configuration.insert(resource(name, None, Some(&digest(bytes))));
        Ok(document.records)
    } else if value.get("verdict").is_some() && value.get("controls").is_some() {
        Ok(vec![serde_json::from_value(value).with_context(no_record)?])
    } else {
        Ok(Vec::new())
    }
}

fn resource(name: &str, uri: Option<String>, sha256: Option<&str>) -> Configuration {
    let digest = sha256.map(|sha256| ("sha256".to_owned(), sha256.to_owned()));
    Configuration { name: name.to_owned(), uri, digest: digest.into_iter().collect() }
}

/// Text as a part of a URI.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let part = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(part).collect()
}

fn counts(result: &TestResult) -> String {
    format!(
        "{}: {} passed, {} warned, {} failed",
        result.result,
        result.passed_tests.len(),
        result.warned_tests.len(),
        result.failed_tests.len()
    )
}

/// Checks a bundle, and gives what to print and the exit code.
pub(crate) fn verify(options: &VerifyOptions) -> Result<(String, u8)> {
    let path = options.bundle.display();
    let key = options.key.as_deref().map(public).transpose()?;
    let meta = fs::metadata(&options.bundle).with_context(|| format!("read {path}"))?;
    if meta.len() > 2 * BYTES_MAX {
        bail!("{path} has {} bytes, and no bundle is larger than {BYTES_MAX}", meta.len());
    }
    let archive = fs::read(&options.bundle).with_context(|| format!("read {path}"))?;
    let verified = bundle::verify(&archive, key.as_ref());
    let mut altered = verified.altered.clone();
    if altered.is_empty() {
        // A statement says no more than the records that it was made of.
        match found(verified.files.iter().map(|(name, bytes)| (name.as_str(), *bytes))) {
            Ok(found) if found == verified.result => {}
            Ok(_) => altered.push("the statement says otherwise than the records".to_owned()),
            Err(error) => altered.push(format!("the records cannot be read: {error:#}")),
        }
    }
    if !altered.is_empty() {
        let lines: String = altered.iter().map(|what| format!("  {what}\n")).collect();
        return Ok((format!("{path} is altered:\n{lines}"), 1));
    }
    let mut text = format!("{path} is intact: {} files as its list has them", verified.files.len());
    text += &verified.result.as_ref().map_or_else(String::new, |r| format!("; {}", counts(r)));
    text.push('\n');
    let (more, code) = match (&verified.keyid, verified.authentic) {
        (Some(keyid), true) => (format!("signed by the key {keyid}"), 0),
        (Some(keyid), false) => (
            format!(
                "not checked: who made it. It says that the key {} signed it; whoever altered it could \
                 have made it anew\ngive the public key: --key PUB",
                keyid.escape_debug()
            ),
            EXIT_NOT_CHECKED,
        ),
        (None, _) => (
            "not checked: who made it. It is not signed, so whoever altered it could have made it anew"
                .to_owned(),
            EXIT_NOT_CHECKED,
        ),
    };
    Ok((text + &more + "\n", code))
}
