//! The house: which module may know which. DESIGN.md's one-way flow, held by a test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and the modules that it may use. Whatever is not listed is not allowed.
const MAY_USE: &[(&str, &[&str])] = &[
    ("errno", &[]),
    ("sys", &[]),
    ("cgroup", &[]),
    ("host", &["cgroup", "program"]),
    ("program", &["errno", "plan", "scenario", "sys"]),
    ("init", &[]),
    ("scenario", &["errno"]),
    ("schema", &["report", "scenario"]),
    ("plan", &["scenario"]),
    ("catalogue", &["plan", "scenario"]),
    ("lab", &["errno", "host", "plan", "scenario", "sys"]),
    ("sender", &["errno", "plan", "program", "scenario", "sys"]),
    ("capture", &["lab", "plan", "sys"]),
    ("peer", &["capture", "plan", "scenario"]),
    ("probe", &["cgroup", "host", "lab", "plan", "scenario", "sys"]),
    ("world", &["plan", "program", "scenario", "sys"]),
    ("verdict", &["capture", "plan", "program", "scenario", "sender"]),
    (
        "trial",
        &[
            "capture", "cgroup", "host", "lab", "peer", "plan", "program", "scenario", "sender",
            "sys", "verdict", "world",
        ],
    ),
    ("batch", &["host", "plan", "probe", "trial"]),
    ("bundle", &[]),
    ("compliance", &["report", "scenario", "trial", "verdict"]),
    ("coverage", &[]),
    ("script", &["plan", "scenario"]),
    (
        "report",
        &[
            "compliance",
            "coverage",
            "plan",
            "program",
            "scenario",
            "script",
            "sender",
            "trial",
            "verdict",
        ],
    ),
    ("facts", &["host", "lab", "plan", "program", "report"]),
    ("folder", &["plan", "report", "trial", "verdict"]),
    (
        "suite",
        &[
            "catalogue",
            "facts",
            "folder",
            "host",
            "plan",
            "probe",
            "report",
            "scenario",
            "trial",
            "verdict",
        ],
    ),
];

/// Modules that touch neither the kernel nor the clock nor the environment.
const PURE: &[&str] = &[
    "scenario",
    "schema",
    "plan",
    "peer",
    "verdict",
    "report",
    "coverage",
    "compliance",
    "script",
];
/// What a pure module does not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "libc::",
    "tokio::",
    "rtnetlink::",
    "netns_rs::",
    "pnet::",
];
/// Crates that only one module uses.
const ONLY_USER: &[(&str, &str)] = &[
    ("rtnetlink::", "lab"),
    ("netns_rs::", "lab"),
    ("tokio::", "lab"),
    ("pnet::", "capture"),
    ("libtest_mimic::", "suite"),
];

fn harness() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned()))
        .join("harness")
}

/// Every module's source, without its own unit tests.
fn modules() -> BTreeMap<String, String> {
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    let mut folders = vec![harness()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(harness()).unwrap();
            let first = below.iter().next().unwrap().to_string_lossy();
            let module = first.trim_end_matches(".rs").to_owned();
            if ["lib", "main", "tests"].contains(&module.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let code: String = text
                    .split("#[cfg(test)]")
                    .next()
                    .unwrap()
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .map(|line| format!("{line}\n"))
                    .collect();
                modules.entry(module).or_default().push_str(&code);
            }
        }
    }
    modules
}

#[test]
fn modules_use_only_what_they_may() {
    let modules = modules();
    let listed: Vec<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    for (module, code) in &modules {
        assert!(listed.contains(&module.as_str()), "module `{module}` is not in the house's plan");
        let (_, allowed) = MAY_USE.iter().find(|(name, _)| name == module).unwrap();
        for rest in code.split("crate::").skip(1) {
            let used: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let own = used == *module;
            assert!(own || allowed.contains(&used.as_str()), "`{module}` must not use `{used}`");
        }
    }
    for module in listed {
        assert!(modules.contains_key(module), "module `{module}` is planned and not there");
    }
}

#[test]
fn pure_modules_stay_pure() {
    let modules = modules();
    for module in PURE {
        for word in IMPURE {
            assert!(!modules[*module].contains(word), "`{module}` is pure and names `{word}`");
        }
    }
}

#[test]
fn prescribed_crates_have_one_user() {
    for (module, code) in modules() {
        for (word, user) in ONLY_USER {
            assert!(module == *user || !code.contains(word), "`{module}` uses `{word}`");
        }
    }
}

/// Whoever builds on airtight builds on its own types.
#[test]
fn no_signature_names_a_prescribed_crate() {
    let foreign = ["rtnetlink", "netns_rs", "NetNs", "pnet", "MacAddr", "NetworkInterface"];
    for (module, code) in modules() {
        let items = ["pub fn", "pub struct", "pub enum", "pub type"];
        let signatures = items.iter().flat_map(|item| code.split(item).skip(1));
        for signature in signatures {
            let signature = signature.split(['{', ';']).next().unwrap();
            let named = foreign.iter().find(|word| signature.contains(**word));
            assert!(named.is_none(), "`{module}` names {named:?} in `pub fn{signature}`");
        }
    }
}

#[test]
fn nothing_sleeps_and_only_sys_is_unsafe() {
    for (module, code) in modules() {
        assert!(!code.contains("sleep("), "`{module}` sleeps: wait for an event instead");
        let unsafe_code = code.contains("unsafe {") || code.contains("unsafe_code");
        assert!(module == "sys" || !unsafe_code, "`{module}` has unsafe code");
        assert!(!code.contains("#[allow"), "`{module}` silences a lint without a reason");
        // The lines of a scenario, and its sender: both inside the laboratory's namespaces; and the keeper
        // of cgroups, which is airtight's own executable.
        let may = ["cgroup", "lab", "program"].contains(&module.as_str());
        assert!(may || !code.contains("Command::new"), "`{module}` runs a command");
    }
}
