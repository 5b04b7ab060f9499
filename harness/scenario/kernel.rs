//! Ranges of kernel releases, such as `>=4.19, <6.1`. Pure: the release is a value.

use std::fmt;

/// A range of kernel releases, by their first two numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelRange(Vec<(Bound, (u32, u32))>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AtLeast,
    Below,
}

impl KernelRange {
    /// Parses bounds separated by commas. `None` where the text is not such a list.
    pub fn parse(text: &str) -> Option<KernelRange> {
        let bound = |part: &str| {
            let part = part.trim();
            let (bound, release) = match part.strip_prefix(">=") {
                Some(release) => (Bound::AtLeast, release),
                None => (Bound::Below, part.strip_prefix('<')?),
            };
            let (major, minor) = release.trim().split_once('.')?;
            Some((bound, (major.parse().ok()?, minor.parse().ok()?)))
        };
        text.split(',').map(bound).collect::<Option<Vec<_>>>().map(KernelRange)
    }

    /// Whether `release` (as `uname -r` prints it, `6.18.44-generic`) is within the range. A
    /// release that cannot be read is within no bounded range.
    pub fn contains(&self, release: &str) -> bool {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return self.0.is_empty();
        };
        self.0.iter().all(|(bound, limit)| match bound {
            Bound::AtLeast => (major, minor) >= *limit,
            Bound::Below => (major, minor) < *limit,
        })
    }

    /// The range that is within both.
    pub fn and(mut self, other: KernelRange) -> KernelRange {
        self.0.extend(other.0);
        self
    }
}

impl fmt::Display for KernelRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (bound, (major, minor))) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            let sign = match bound {
                Bound::AtLeast => ">=",
                Bound::Below => "<",
            };
            write!(f, "{comma}{sign}{major}.{minor}")?;
        }
        Ok(())
    }
}
