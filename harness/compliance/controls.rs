//! The control catalogues that ship with airtight, as data.

use std::sync::LazyLock;

use serde::Deserialize;

const TEXT: &str = include_str!("controls.toml");

static CATALOGUES: LazyLock<Result<Vec<Catalogue>, String>> = LazyLock::new(|| {
    let file: Result<File, _> = toml::from_str(TEXT);
    file.map(|file| file.catalogue).map_err(|error| error.to_string())
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    catalogue: Vec<Catalogue>,
}

/// A published list of controls.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Its name in `requirements.toml`: `nist-800-53r5`.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Where its publisher has it.
    pub href: String,
    /// Those of its controls that egress bears on.
    pub controls: Vec<Control>,
}

/// A control of a catalogue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Its number, as its publisher writes it: `SC-7(21)`.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A control that a requirement supports evidence for, with its catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Supported {
    /// The catalogue.
    pub catalogue: &'static Catalogue,
    /// The control.
    pub control: &'static Control,
}

/// Every catalogue, in the order of the data file.
pub fn catalogues() -> &'static [Catalogue] {
    // A unit test reads the file, so that it cannot be empty here.
    CATALOGUES.as_ref().map_or(&[], Vec::as_slice)
}

/// The control that `word` names, as in `nist-800-53r5:SC-7(21)`. The error is what is wrong and
/// the words among which the nearest is to be looked for.
pub(super) fn find(word: &str) -> Result<Supported, (String, Vec<String>)> {
    let ids = || catalogues().iter().map(|catalogue| catalogue.id.as_str());
    let Some((name, id)) = word.split_once(':') else {
        let accepted = ids().map(|id| format!("{id}:CONTROL")).collect();
        return Err((format!("`{word}` names no catalogue"), accepted));
    };
    let Some(catalogue) = catalogues().iter().find(|catalogue| catalogue.id == name) else {
        let accepted = ids().map(|catalogue| format!("{catalogue}:{id}")).collect();
        return Err((format!("there is no catalogue `{name}`"), accepted));
    };
    let control = catalogue.controls.iter().find(|control| control.id == id);
    control.map(|control| Supported { catalogue, control }).ok_or_else(|| {
        let accepted = catalogue.controls.iter().map(|control| format!("{name}:{}", control.id));
        (
            format!("{} has no control `{id}` that egress bears on", catalogue.title),
            accepted.collect(),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_data_file_is_well_formed_and_claims_nothing() {
        assert!(CATALOGUES.is_ok(), "{:?}", CATALOGUES.as_ref().err());
        assert!(catalogues().len() >= 5);
        let mut seen = BTreeSet::new();
        for catalogue in catalogues() {
            assert!(!catalogue.id.contains(':') && catalogue.href.starts_with("https://"));
            for control in &catalogue.controls {
                let word = format!("{}:{}", catalogue.id, control.id);
                assert_eq!(find(&word).unwrap().control.name, control.name);
                assert!(seen.insert(word));
            }
        }
        // What could not be checked is left out.
        for word in ["nist-800-53r5:SA-11", "pci-dss-4.0.1:1.4.3"] {
            assert!(find(word).is_err(), "{word}");
        }
    }
}
