//! What is put underneath between the control and the attempt, as lines of Python.

use super::lab::{route_words, rule_words};
use super::life::ip;
use super::python;
use crate::plan::Case;

/// The lines that put the case's guard underneath. BPF programs have none.
pub(super) fn lines(case: &Case) -> Vec<String> {
    let Some(guard) = &case.guard else { return Vec::new() };
    let mut lines = vec![String::new(), format!("# the guard: {}", guard.kind.description())];
    lines.extend(guard.away.iter().map(|at| format!("set_link({at}, \"gone\")")));
    for line in &guard.lines {
        let words: Vec<String> = line.words.iter().map(|word| python(word)).collect();
        lines.push(format!("run({})", words.join(", ")));
    }
    for route in &guard.routes {
        lines.push(ip(case, ["route", "add"], route_words(route, &case.links)));
    }
    for rule in &guard.rules {
        lines.push(ip(case, ["rule", "add"], rule_words(rule, case.family.is_v4())));
    }
    if guard.wants_cgroup() {
        lines.push(
            "# Its BPF program is not part of this script: `airtight run` hooks it in.".into(),
        );
        lines.push("# Without it the attempt leaks here.".into());
    }
    lines
}
