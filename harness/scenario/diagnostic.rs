//! What is wrong with a scenario file, and where. Knows text and places, not the language.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// One fault of one file: a title, the bytes it concerns and what would be accepted instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as the user named it.
    pub path: String,
    /// The whole text of the file, for the caret.
    pub text: String,
    /// The bytes at fault, within `text`.
    pub span: Range<usize>,
    /// What is wrong, in lower case without a period.
    pub message: String,
    /// What would be accepted, and a near match where there is one.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The line and the column of the fault, both counted from one, columns in characters.
    pub fn place(&self) -> (usize, usize) {
        place(&self.text, self.span.start)
    }
}

/// The line and the column of byte `offset` of `text`, both counted from one.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
    (line, column)
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.place();
        writeln!(f, "{}:{line}:{column}: {}", self.path, self.message)?;
        let start = self.text.floor_char_boundary(self.span.start);
        let end = self.text.ceil_char_boundary(self.span.end.max(start));
        let snippet = Snippet::source(self.text.as_str())
            .path(self.path.as_str())
            .annotation(AnnotationKind::Primary.span(start..end));
        let mut group =
            Group::with_title(Level::ERROR.primary_title(self.message.as_str())).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        write!(f, "{}", Renderer::plain().render(&[group]))
    }
}

/// All faults of one file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// What would be accepted in place of `word`, with the nearest of `accepted` named first.
pub(crate) fn accepted_words<'a>(
    word: &str,
    accepted: impl IntoIterator<Item = &'a str>,
) -> String {
    let accepted: Vec<&str> = accepted.into_iter().collect();
    let list = accepted.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match nearest(word, &accepted) {
        Some(near) => format!("did you mean `{near}`? accepted: {list}"),
        None => format!("accepted: {list}"),
    }
}

/// The word of `accepted` that `word` was probably meant to be: at most a third of it differs, or
/// one begins with the other.
pub fn nearest<'a>(word: &str, accepted: &[&'a str]) -> Option<&'a str> {
    let prefix = |candidate: &str| {
        word.len().min(candidate.len()) >= 4
            && (word.starts_with(candidate) || candidate.starts_with(word))
    };
    accepted
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(far, candidate)| *far <= (candidate.len() / 3).max(1) || prefix(candidate))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The edit distance of two words, two neighbours that changed places counted as one edit.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut least =
                (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && left[i - 1] == *b && *a == right[j - 1] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}
