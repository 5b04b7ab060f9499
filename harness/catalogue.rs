//! Where scenarios come from: the embedded catalogue, files and folders, and how a selector picks
//! among them. Knows the file system, nothing of the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use include_dir::{Dir, include_dir};

use crate::plan::{Case, Product, expand};
use crate::scenario::{FILE_BYTES_MAX, Scenario, nearest, parse};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/scenarios");

/// How deep folders may be nested.
const DEPTH_MAX: usize = 32;

/// The embedded catalogue's scenarios, in the order of their names.
pub fn embedded() -> Result<Vec<Scenario>> {
    let mut files = Vec::new();
    embedded_files(&EMBEDDED, &mut files);
    files.sort_by_key(|(path, _)| path.trim_end_matches(".toml").to_owned());
    let parsed = files.into_iter().map(|(path, bytes)| {
        let name = path.trim_end_matches(".toml");
        Ok(parse(name, &format!("scenarios/{path}"), bytes)?)
    });
    parsed.collect()
}

fn embedded_files<'a>(dir: &'a Dir<'a>, files: &mut Vec<(String, &'a [u8])>) {
    for file in dir.files() {
        let path = file.path().to_string_lossy();
        if path.ends_with(".toml") {
            files.push((path.into_owned(), file.contents()));
        }
    }
    for inner in dir.dirs() {
        embedded_files(inner, files);
    }
}

/// The cases that `selectors` pick: each a file, a folder, or the beginning of a trial's id in
/// the embedded catalogue. Without any, the whole catalogue but the traps for products. A selector
/// that picks nothing is an error, since a run that tries nothing must not look like one that found
/// nothing.
pub fn select(selectors: &[String]) -> Result<Vec<Case>> {
    let cases = pick(selectors, |case| !case.wants_product())?;
    if let Some(case) = cases.iter().find(|case| case.wants_product()) {
        bail!(
            "{} is a trap for a product, and there is none\nname it: airtight run {} -- PROGRAM \
             ARGUMENT ...",
            case.id,
            selectors.join(" ")
        );
    }
    Ok(cases)
}

/// The cases that `selectors` pick, with this product as their sender. Without any, all the traps
/// for products. A case with another sender cannot be one.
pub fn select_for(product: &Product, selectors: &[String]) -> Result<Vec<Case>> {
    let cases = pick(selectors, Case::wants_product)?;
    if let Some(other) = cases.iter().find(|case| !case.wants_product()) {
        bail!(
            "{} has a sender of its own\na trap for a product says `[sender] product = true`; \
             `airtight list product` shows those of the catalogue",
            other.id
        );
    }
    Ok(cases.into_iter().map(|case| case.with_product(product)).collect())
}

fn pick(selectors: &[String], without: impl Fn(&Case) -> bool) -> Result<Vec<Case>> {
    let catalogue: Vec<Case> = embedded()?.iter().flat_map(expand).collect();
    if selectors.is_empty() {
        return Ok(catalogue.into_iter().filter(without).collect());
    }
    let mut cases = Vec::new();
    for selector in selectors {
        let path = Path::new(selector);
        if path.exists() {
            let found: Vec<Case> = read(path)?.iter().flat_map(expand).collect();
            if found.is_empty() {
                bail!("selector `{selector}`: the folder holds no scenario (`*.toml`)");
            }
            cases.extend(found);
            continue;
        }
        let matching = catalogue.iter().filter(|case| begins(&case.id, selector));
        let before = cases.len();
        cases.extend(matching.cloned());
        if cases.len() == before {
            bail!("{}", no_match(selector, &catalogue));
        }
    }
    let mut seen = BTreeSet::new();
    cases.retain(|case| seen.insert(case.id.clone()));
    Ok(cases)
}

/// What `selectors` pick, traps for products included: to be listed, not run.
pub fn list(selectors: &[String]) -> Result<Vec<Case>> {
    pick(selectors, |_| true)
}

/// Whether `id` begins with `selector`, which may name a folder (`basics`), a scenario, a case, or
/// a trial, and ends where one of these ends or within its last word.
fn begins(id: &str, selector: &str) -> bool {
    id.starts_with(selector.trim_end_matches('/'))
}

fn no_match(selector: &str, catalogue: &[Case]) -> String {
    let mut words: BTreeSet<&str> = BTreeSet::new();
    for case in catalogue {
        words.insert(case.scenario.split('/').next().unwrap_or_default());
        words.insert(&case.scenario);
        words.insert(&case.id);
    }
    let words: Vec<&str> = words.into_iter().collect();
    let near = nearest(selector, &words).map(|near| format!("; did you mean `{near}`?"));
    format!(
        "selector `{selector}` matches no file, no folder and no trial{}\n`airtight list` shows \
         every trial",
        near.unwrap_or_default()
    )
}

/// The scenarios of a file, or of a folder and all below it, in the order of their names.
pub fn read(path: &Path) -> Result<Vec<Scenario>> {
    let mut files = Vec::new();
    collect(path, 0, &mut BTreeSet::new(), &mut files)?;
    files.sort();
    files.iter().map(|file| read_file(file)).collect()
}

fn collect(
    path: &Path,
    depth: usize,
    above: &mut BTreeSet<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<()> {
    let what = || format!("read {}", path.display());
    if !fs::metadata(path).with_context(what)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let real = path.canonicalize().with_context(what)?;
    if depth > DEPTH_MAX || !above.insert(real.clone()) {
        bail!("{}: the folder contains itself, by a link; remove the link", path.display());
    }
    for entry in fs::read_dir(path).with_context(what)? {
        let inner = entry.with_context(what)?.path();
        if inner.is_dir() || inner.extension().is_some_and(|extension| extension == "toml") {
            collect(&inner, depth + 1, above, files)?;
        }
    }
    above.remove(&real);
    Ok(())
}

fn read_file(path: &Path) -> Result<Scenario> {
    use std::io::Read;
    let shown = path.to_string_lossy();
    let file = fs::File::open(path).with_context(|| format!("open {shown}"))?;
    // One byte more than is allowed is enough to tell that it is too large.
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {shown}"))?;
    let name = shown.trim_start_matches("./").trim_end_matches(".toml");
    let name = name.strip_prefix("scenarios/").unwrap_or(name);
    Ok(parse(name, &shown, &bytes)?)
}
