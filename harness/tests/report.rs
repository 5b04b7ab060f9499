//! Results from their making to their formats: the folder of a run, an interrupted run, a disk
//! that is full, shards, merging, comparing.
//!
//! A main of its own, because it is a suite too: started anew with a variable of the environment it
//! is what `cargo nextest` starts for each trial.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};

use airtight::suite::Suite;
use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const ARTICLE: &str = include_str!("../../scenarios/basics/source-address.toml");
const CLAIM: &str = "expect  = \"leaked\"\nthrough = \"uplink\"";
/// Says that this process is a suite of the scenario file in it.
const SUITE: &str = "AIRTIGHT_TEST_SUITE";

/// A test of this file.
type Test = fn() -> Result<()>;

const TESTS: &[(&str, Test)] = &[
    ("a_run_leaves_a_whole_result", a_run_leaves_a_whole_result),
    ("a_signal_leaves_a_partial_result", a_signal_leaves_a_partial_result),
    ("a_kill_leaves_what_was_proved", a_kill_leaves_what_was_proved),
    ("an_earlier_runs_records_are_not_taken", an_earlier_runs_records_are_not_taken),
    ("a_full_disk_is_told", a_full_disk_is_told),
    ("shards_by_process_make_a_whole", shards_by_process_make_a_whole),
    ("a_retry_makes_nothing_green", a_retry_makes_nothing_green),
    ("what_is_no_result_is_refused", what_is_no_result_is_refused),
    ("a_regression_is_exit_code_1", a_regression_is_exit_code_1),
    ("annotations_are_all_that_is_printed", annotations_are_all_that_is_printed),
    ("the_actions_script_gates", the_actions_script_gates),
];

fn main() -> ExitCode {
    airtight::host::begin();
    if let Some(file) = std::env::var_os(SUITE) {
        return Suite::standard().select(&file.to_string_lossy()).main();
    }
    let arguments = Arguments::from_args();
    let trial = |(name, test): &(&str, Test)| {
        let test = *test;
        Trial::test(*name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
    };
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code()
}

/// A folder of a test's own, removed with its value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("airtight-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        fs::write(self.0.join(name), text)?;
        Ok(self.path(name))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    fn json(&self, name: &str) -> Result<Value> {
        let bytes = fs::read(self.0.join(name)).with_context(|| format!("read {name}"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("parse {name}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn airtight(arguments: &[&str]) -> Command {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    let mut command = Command::new(env!("CARGO_BIN_EXE_airtight"));
    command.args(arguments).current_dir(root);
    command
}

/// Runs airtight, and asks for this exit code and these words.
fn ends(code: i32, arguments: &[&str], words: &[&str]) -> Result<String> {
    let Output { status, stdout, stderr } = airtight(arguments).output()?;
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    ensure!(status.code() == Some(code), "{arguments:?} ends with {status}, not {code}: {said}");
    for word in words {
        ensure!(said.contains(word), "{arguments:?} does not say `{word}`: {said}");
    }
    Ok(said)
}

fn a_run_leaves_a_whole_result() -> Result<()> {
    let folder = Folder::new("whole")?;
    let out = folder.path("out");
    ends(0, &["run", "basics/source-address", "--out", &out], &["12 conform"])?;
    let result = folder.json("out/result.json")?;
    let run = &result["runs"][0];
    ensure!(result["partial"] == false && result["totals"]["conforms"] == 12, "{result}");
    ensure!(run["planned"] == 12 && run["missing"] == serde_json::json!([]), "{run}");
    ensure!(run["scenarios"][0]["sha256"] == sha256(ARTICLE), "{run}");
    ensure!(run["micros"].as_u64().is_some_and(|micros| micros > 0), "{run}");
    ensure!(run["started"].as_str().is_some_and(|at| at.ends_with('Z')), "{run}");
    ensure!(run["kernel"]["sysctls"]["ipv4/ip_forward"].is_string(), "{run}");
    let checks = &result["checks"];
    ensure!(checks["sentinels_seen"] == 72 && checks["sentinels_expected"] == 72, "{checks}");
    ensure!(checks["drops"] == 0 && checks["links_agreed"] == 24, "{checks}");
    ends(0, &["report", &out], &["junit.xml", "12 conform"])?;
    for (name, _) in airtight::report::FILES {
        ensure!(folder.0.join("out").join(name).is_file(), "{name} is not written");
    }
    // What is printed is the same document.
    let printed = airtight(&["run", "basics/source-address", "--format", "json"]).output()?;
    let printed: Value = serde_json::from_slice(&printed.stdout)?;
    let keys = |value: &Value| value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
    ensure!(keys(&printed) == keys(&result), "{:?}", keys(&printed));
    Ok(())
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Starts a run of the whole catalogue, and sends the signal once a trial was made.
fn stopped(out: &str, signal: Signal) -> Result<Output> {
    let mut command = airtight(&["run", "--out", out, "--format", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    for _ in 0..2 {
        lines.next().context("it has ended before the signal")??;
    }
    kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
    let rest: Vec<u8> = lines.map_while(Result::ok).flat_map(String::into_bytes).collect();
    let mut output = child.wait_with_output()?;
    output.stdout = rest;
    Ok(output)
}

fn a_signal_leaves_a_partial_result() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let folder = Folder::new("signal")?;
        let out = folder.path("out");
        let output = stopped(&out, signal)?;
        ensure!(output.status.code() == Some(130), "{signal}: {}", output.status);
        ensure!(output.stdout.ends_with(b"\"partial\": true }"), "the document has no end");
        let result = folder.json("out/result.json")?;
        let records = result["records"].as_array().context("no records")?.len();
        let missing = result["runs"][0]["missing"].as_array().context("no list")?.len();
        ensure!(records > 0 && missing > 0, "{records} records, {missing} missing");
        ensure!(result["runs"][0]["planned"] == records + missing, "{records} and {missing}");
        ends(4, &["report", &out], &["the result is partial", "interrupted"])?;
    }
    Ok(())
}

fn a_kill_leaves_what_was_proved() -> Result<()> {
    let folder = Folder::new("kill")?;
    let out = folder.path("out");
    stopped(&out, Signal::SIGKILL)?;
    let before = folder.json("out/result.json")?;
    ensure!(before["partial"] == true && before["records"] == serde_json::json!([]), "{before}");
    ends(4, &["report", &out], &["the result is partial"])?;
    let after = folder.json("out/result.json")?;
    ensure!(after["totals"]["conforms"].as_u64() > Some(0), "{}", after["totals"]);
    Ok(())
}

fn an_earlier_runs_records_are_not_taken() -> Result<()> {
    let folder = Folder::new("earlier")?;
    let file = folder.file("s.toml", ARTICLE)?;
    let out = folder.path("out");
    ends(0, &["run", &file, "--out", &out], &[])?;
    let runs = folder.0.join("out");
    let records = || -> Result<Vec<PathBuf>> {
        let all = fs::read_dir(&runs)?.map(|entry| Ok(entry?.path()));
        let all: Vec<PathBuf> = all.collect::<Result<_>>()?;
        let record = |path: &PathBuf| path.extension().is_some_and(|of| of == "pcapng");
        Ok(all.into_iter().filter(record).collect())
    };
    ensure!(records()?.len() == 12);
    folder.file("s.toml", &ARTICLE.replace("links    =", "kernel = \"<2.6\"\nlinks    ="))?;
    ends(4, &["run", &file, "--out", &out], &["12 skipped"])?;
    ensure!(records()?.is_empty(), "{:?}", records()?);
    Ok(())
}

/// A small file system of the test's own, in a mount namespace: where that cannot be had, nothing is
/// tried.
fn a_full_disk_is_told() -> Result<()> {
    let folder = Folder::new("full")?;
    fs::create_dir(folder.0.join("disk"))?;
    let flags = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let script = "mount -t tmpfs -o size=256k none \"$1\" || exit 77\n\
                  \"$0\" run basics --out \"$1/r\" >/dev/null; echo \"run $?\"\n\
                  \"$0\" report \"$1/r\" --to \"$2\"; echo \"report $?\"";
    let mut shell = Command::new("unshare");
    shell.args([flags, "sh", "-c", script, env!("CARGO_BIN_EXE_airtight")]);
    let Ok(output) = shell.args([folder.path("disk"), folder.path("to")]).output() else {
        return Ok(());
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || said.starts_with("unshare:") {
        return Ok(());
    }
    for needed in ["run 2\n", "report 4\n", "No space left", "partial: of ", " planned trials"] {
        ensure!(said.contains(needed), "`{needed}` is not said: {said}");
    }
    let result = folder.json("to/result.json")?;
    ensure!(result["totals"]["conforms"].as_u64() > Some(0), "nothing that was proved is left");
    Ok(())
}

/// The trials of the suite in `file`, as `cargo nextest` lists and then starts them: one process
/// each, of which shard `of` makes every second.
fn shard(file: &str, out: &str, of: usize, session: &str) -> Result<()> {
    let suite = || -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(SUITE, file).env("AIRTIGHT_OUT", out).env("NEXTEST_RUN_ID", session);
        Ok(command)
    };
    let listed = suite()?.args(["--list", "--format", "terse"]).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let ids = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    for id in ids.skip(of).step_by(2) {
        let output = suite()?.args([id, "--exact", "--nocapture"]).output()?;
        // What fails, fails: the records tell.
        ensure!(output.status.code().is_some(), "{id}: {output:?}");
    }
    Ok(())
}

fn shards_by_process_make_a_whole() -> Result<()> {
    let folder = Folder::new("shards")?;
    // Half of it is skipped, and nextest starts nothing that is.
    let skipped = "name    = \"address\"";
    let text = ARTICLE.replace(skipped, &format!("{skipped}\nkernel  = \"<2.6\""));
    let file = folder.file("s.toml", &text)?;
    for at in [0, 1] {
        shard(&file, &folder.path(&at.to_string()), at, "session")?;
    }
    // Each suite has a folder of its own, by the name of its test program: this one's.
    let outs = [folder.path("0/report"), folder.path("1/report")];
    let count = |id: &str| folder.json(id).map(|result| result["records"].as_array().map(Vec::len));
    ends(4, &["report", &outs[0], "--to", &folder.path("half")], &["of 12 planned trials"])?;
    ends(0, &["report", &outs[0], &outs[1], "--to", &folder.path("all")], &["12 trials:"])?;
    ensure!(count("half/result.json")? == Some(9), "{:?}", count("half/result.json"));
    ensure!(count("all/result.json")? == Some(12), "{:?}", count("all/result.json"));
    // A merged result in the place of a shard's is merged again to the same.
    ends(0, &["report", &outs[0], &outs[1]], &["12 trials:"])?;
    ends(0, &["report", &outs[0], &outs[1]], &["12 trials:"])?;
    ends(0, &["diff", &outs[0], &folder.path("all")], &["no regression: 0 changes, 12 trials"])?;
    Ok(())
}

fn a_retry_makes_nothing_green() -> Result<()> {
    let folder = Folder::new("retry")?;
    let file = folder.file("s.toml", &ARTICLE.replace(CLAIM, "expect  = \"contained\""))?;
    let out = folder.path("out");
    shard(&file, &out, 0, "first")?;
    folder.file("s.toml", ARTICLE)?;
    shard(&file, &out, 0, "first")?;
    let own = folder.path("out/report");
    ends(1, &["report", &own], &["deviate"])?;
    // Another run begins anew.
    shard(&file, &out, 0, "second")?;
    shard(&file, &out, 1, "second")?;
    ends(0, &["report", &own], &["12 trials: 12 conform"])?;
    Ok(())
}

fn what_is_no_result_is_refused() -> Result<()> {
    let folder = Folder::new("none")?;
    let none = folder.path("none");
    let garbage = folder.file("garbage.json", "{")?;
    ends(2, &["report", &none], &["airtight run --out DIR"])?;
    ends(2, &["report", &garbage], &["garbage.json as a result of airtight's"])?;
    ends(2, &["diff", &garbage, &garbage], &["garbage.json"])?;
    ends(2, &["report"], &["RESULTS"])?;
    let later = r#"{"schema": 7, "tool": {"name": "", "version": ""}, "host": {"kernel": "",
        "rootless": false}, "records": []}"#;
    let later = folder.file("later.json", later)?;
    ends(2, &["report", &later], &["schema 7"])?;
    Ok(())
}

fn a_regression_is_exit_code_1() -> Result<()> {
    let folder = Folder::new("diff")?;
    let claim = "pin     = { address = \"chassis\" }\nexpect  = \"leaked\"\nthrough = \"uplink\"\n\
                 source  = \"chassis\"";
    ensure!(ARTICLE.contains(claim), "the article has changed");
    let held = ARTICLE.replace(claim, "pin = { device = \"chassis\" }\nexpect = \"contained\"");
    let file = folder.file("s.toml", &held)?;
    let out = [folder.path("1"), folder.path("2")];
    ends(0, &["run", &file, "--out", &out[0]], &["12 conform"])?;
    // The pin is weaker now, and the expectation has followed: everything conforms.
    folder.file("s.toml", ARTICLE)?;
    ends(0, &["run", &file, "--out", &out[1]], &["12 conform"])?;
    let words = ["contained before, leaks now (6)", "other texts of the scenarios", "! "];
    ends(1, &["diff", &out[0], &out[1]], &words)?;
    ends(0, &["diff", &out[0], &out[0]], &["no regression"])?;
    ends(0, &["diff", &out[1], &out[0]], &["no regression"])?;
    let json = ends(1, &["diff", &out[0], &out[1], "--format", "json"], &[])?;
    let json: Value = serde_json::from_str(&json)?;
    ensure!(json["regression"] == true, "{json}");
    Ok(())
}

fn annotations_are_all_that_is_printed() -> Result<()> {
    let says = "echo '::error::injected'; echo '  ::add-mask::x%0A::stop-commands::y'";
    let command = ["run", "product", "--format", "github", "--", "sh", "-c", says];
    let said =
        ends(1, &command, &["::error file=scenarios/product/", "::notice title=airtight::"])?;
    ensure!(said.lines().all(|line| line.starts_with("::")), "{said}");
    ensure!(!said.lines().any(|line| line.starts_with("::error::")), "{said}");
    ensure!(said.matches("::error ").count() == 10, "{said}");
    ensure!(!said.contains("the result as a whole"), "{said}");
    ensure!(said.contains("%0A      ::add-mask::x%250A::stop-commands::y%0A"), "{said}");
    Ok(())
}

/// What action.yml runs, in an environment like a runner's.
fn the_actions_script_gates() -> Result<()> {
    let folder = Folder::new("action")?;
    let script = |selectors: &str, product: &str| -> Result<Output> {
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
        for name in ["output", "summary"] {
            folder.file(name, "")?;
        }
        let mut bash = Command::new("bash");
        bash.arg("ci/github.sh").current_dir(root);
        bash.env("INPUT_AIRTIGHT", env!("CARGO_BIN_EXE_airtight"));
        bash.env("INPUT_SELECTORS", selectors).env("INPUT_PRODUCT", product);
        bash.env("INPUT_OUT", folder.path("out"));
        bash.env("GITHUB_OUTPUT", folder.path("output"));
        bash.env("GITHUB_STEP_SUMMARY", folder.path("summary"));
        Ok(bash.output()?)
    };
    for (selectors, product, code, summary) in [
        ("basics/device\nbasics/source-address\n", "", 0, "✅ everything conforms"),
        ("product", "sh\n-c\nexit 0 # $(two words)", 1, "❌ something deviates"),
        ("product", "/no/such program", 4, "❓ not everything is proved"),
        ("basics/no-such", "", 2, ""),
    ] {
        let output = script(selectors, product)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{selectors}: {} {said}", output.status);
        let told = fs::read_to_string(folder.0.join("summary"))?;
        ensure!(told.contains(summary) && told.is_empty() == summary.is_empty(), "{told}");
    }
    Ok(())
}
