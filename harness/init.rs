//! The first lines of a gate in a product's repository: a test or a command line, a first scenario,
//! a CI job. It adds what is missing, and never touches what is there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was written.
    Wrote(String),
    /// It was there already, and is as it was.
    Kept(String),
}

const SCENARIO: &str = r#"# A trap of your own for your product. `airtight schema --reference` has every key.
#
#   host under test                 gateways (a namespace each)
#     eth     .17 ---------------- .18   default, metric 200   <- where your traffic belongs
#     uplink  .33 ---------------- .34   default, metric 100   <- what the kernel prefers

title = "Our traffic keeps to its link"
why   = "Two default routes, and the wrong one has the better metric."

links    = ["eth", "uplink"]
intended = ["eth"]
routes   = [
  { to = "default", via = "uplink", metric = 100 },
  { to = "default", via = "eth",    metric = 200 },
]

sender  = { product = true }
control = { unpinned = "uplink" }   # else the trap is not armed, and nothing counts
matrix  = { family = ["v4", "v6"], transport = ["tcp"] }

[[case]]
name   = "product"
expect = "contained"
"#;

const WORKFLOW_HEAD: &str = r"# Does the product keep to its link? Written by `airtight init`.
name: egress
on: [push, pull_request]
jobs:
  egress:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
      # The runner forbids user namespaces, which airtight takes without root.
      - run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
";

/// Writes into `folder`, for Rust where it holds a Cargo.toml, for any other language otherwise.
pub fn init(folder: &Path) -> Result<Vec<Step>> {
    let manifest = folder.join("Cargo.toml");
    if manifest.is_file() { rust(folder, &manifest) } else { other(folder) }
}

fn rust(folder: &Path, manifest: &Path) -> Result<Vec<Step>> {
    let text =
        fs::read_to_string(manifest).with_context(|| format!("read {}", manifest.display()))?;
    let parsed: toml::Table =
        toml::from_str(&text).with_context(|| format!("read {}", manifest.display()))?;
    let package = parsed
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str)
        .with_context(|| format!("{} has no package: run this in one", manifest.display()))?;
    let test = format!(
        "//! Does this product keep to its link, whatever the routes are?\n\n\
         fn main() -> std::process::ExitCode {{\n    \
         airtight::suite::Suite::standard()\n        \
         .select(\"product\") // airtight's own traps\n        \
         .dir(\"tests/egress\") // and yours\n        \
         // What your program is told: {{intended.device}}, {{intended.address}}, {{target}},\n        \
         // {{target.name}}, {{port}}, {{token}}. A daemon: airtight::plan::Product::command([..])\n        \
         // .ready_on_port(8080); a library: Product::function(|task| ..).\n        \
         .product([env!(\"CARGO_BIN_EXE_{package}\"), \"{{intended.device}}\", \
         \"{{target}}\", \"{{port}}\"])\n        \
         .main()\n}}\n"
    );
    let mut steps = vec![
        write(folder, "tests/egress.rs", &test)?,
        write(folder, "tests/egress/first.toml", SCENARIO)?,
    ];
    let known = parsed.get("test").and_then(toml::Value::as_array).into_iter().flatten();
    let named =
        |test: &toml::Value| test.get("name").and_then(toml::Value::as_str) == Some("egress");
    if known.into_iter().any(named) {
        steps.push(Step::Kept("Cargo.toml, [[test]] egress".to_owned()));
    } else {
        let more = "\n# Trials run on a main of their own: `airtight init`.\n\
                    [[test]]\nname = \"egress\"\nharness = false\n";
        fs::write(manifest, text + more)
            .with_context(|| format!("add to {}", manifest.display()))?;
        steps.push(Step::Wrote("Cargo.toml, [[test]] egress, at its end".to_owned()));
    }
    let job = format!("{WORKFLOW_HEAD}      - run: cargo test --test egress\n");
    steps.push(write(folder, ".github/workflows/egress.yml", &job)?);
    Ok(steps)
}

fn other(folder: &Path) -> Result<Vec<Step>> {
    let run =
        "airtight run product egress -- ./your-program '{intended.device}' '{target}' '{port}'";
    let job = format!(
        "{WORKFLOW_HEAD}      - run: cargo install airtight\n      \
         # What your program is told: {{intended.device}}, {{target}}, {{port}}, {{token}} ...\n      \
         - run: {run}\n"
    );
    Ok(vec![
        write(folder, "egress/first.toml", SCENARIO)?,
        write(folder, ".github/workflows/egress.yml", &job)?,
    ])
}

fn write(folder: &Path, name: &str, text: &str) -> Result<Step> {
    use std::io::Write;
    let path = folder.join(name);
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).with_context(|| format!("create {}", above.display()))?;
    }
    // Made anew or not at all, whoever else is at work.
    match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
            Ok(Step::Wrote(name.to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok(Step::Kept(name.to_owned()))
        }
        Err(error) => Err(error).with_context(|| format!("write {}", path.display())),
    }
}
