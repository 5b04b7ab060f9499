//! An assessment as NIST OSCAL assessment results, version 1.2.3, in JSON.
//!
//! The same assessment gives the same document, identifiers included, but for
//! `metadata.last-modified`. A trial is an observation; a requirement is a finding, which is satisfied
//! only where it is proved: a waiver leaves it unsatisfied, beside a risk that its owner has accepted.

use anyhow::{Context, Result};
use serde::Serialize;
use uuid::Uuid;

use super::compliance::{prose, time};
use super::human::{controls, safe};
use crate::compliance::{Assessed, Assessment, Catalogue, Evidence, Hold, Standing, Supported};
use crate::verdict::describe;

/// The version of OSCAL, and what names our identifiers and properties. A name only (RFC 2606): there is
/// nothing to fetch.
const OSCAL: &str = "1.2.3";
const NAMESPACE: &str = "https://airtight.invalid/ns/oscal";

/// How many frames of an observation are told of. The record has all.
const FRAMES_SHOWN: usize = 8;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    assessment_results: Results,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Results {
    uuid: Uuid,
    metadata: Metadata,
    import_ap: ImportAp,
    results: Vec<Outcome>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    title: String,
    last_modified: String,
    version: String,
    oscal_version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parties: Vec<Party>,
}

#[derive(Serialize)]
struct Party {
    uuid: Uuid,
    r#type: &'static str,
    name: String,
}

#[derive(Serialize)]
struct ImportAp {
    href: String,
    remarks: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome {
    uuid: Uuid,
    title: String,
    description: String,
    start: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    props: Vec<Property>,
    reviewed_controls: ReviewedControls,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    observations: Vec<Observation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    risks: Vec<Risk>,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Property {
    name: &'static str,
    ns: &'static str,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ReviewedControls {
    control_selections: Vec<Selection>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Selection {
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include_controls: Vec<Include>,
}

#[derive(Serialize)]
struct Link {
    href: String,
    rel: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Include {
    control_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Observation {
    uuid: Uuid,
    title: String,
    description: String,
    props: Vec<Property>,
    methods: [&'static str; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relevant_evidence: Vec<RelevantEvidence>,
    collected: String,
    remarks: String,
}

#[derive(Serialize)]
struct RelevantEvidence {
    description: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Risk {
    uuid: Uuid,
    title: String,
    description: String,
    statement: String,
    props: Vec<Property>,
    status: &'static str,
    deadline: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_observations: Vec<RelatedObservation>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Finding {
    uuid: Uuid,
    title: String,
    description: String,
    props: Vec<Property>,
    target: Target,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_observations: Vec<RelatedObservation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_risks: Vec<RelatedRisk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remarks: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Target {
    r#type: &'static str,
    target_id: String,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    state: &'static str,
    reason: &'static str,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RelatedObservation {
    observation_uuid: Uuid,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RelatedRisk {
    risk_uuid: Uuid,
}

/// The assessment as OSCAL. `modified` is the moment of its making, as RFC 3339 writes it, and
/// `digest` what tells its inputs from others: it is what all identifiers are made of.
pub fn oscal(assessment: &Assessment, modified: &str, digest: &str) -> Result<String> {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{NAMESPACE}#{digest}").as_bytes());
    let product = assessment.requirements.product();
    let title = line(&format!("Egress requirements of {}", product.unwrap_or("the product")));
    let version = assessment.sources.first().map_or("0", |(tool, _)| tool.version.as_str());
    let file = File {
        assessment_results: Results {
            uuid: identify(space, "document", ""),
            metadata: Metadata {
                title: title.clone(),
                last_modified: modified.to_owned(),
                version: line(digest),
                oscal_version: OSCAL,
                parties: parties(assessment, space),
            },
            import_ap: ImportAp {
                href: reference(assessment.requirements.path()),
                remarks: "The product's requirements stand for an assessment plan: which trials \
                          must hold for each.",
            },
            results: vec![outcome(assessment, space, title, version)],
        },
    };
    let text = serde_json::to_string_pretty(&file).context("write OSCAL")?;
    Ok(text + "\n")
}

fn outcome(assessment: &Assessment, space: Uuid, title: String, version: &str) -> Outcome {
    let midnight = format!("{}T00:00:00Z", assessment.today);
    let trials = || assessment.assessed.iter().flat_map(|one| &one.trials);
    let times = || trials().flat_map(|trial| &trial.record.frames).map(|frame| frame.at_ns);
    let kernels = assessment.sources.iter().map(|(_, host)| host.kernel.as_str());
    let observed = |evidence| observation(evidence, assessment, space, &midnight);
    let mut observations: Vec<Observation> = trials().map(observed).collect();
    observations.sort_by(|a, b| (&a.title, a.uuid).cmp(&(&b.title, b.uuid)));
    observations.dedup_by_key(|observation| observation.uuid);
    Outcome {
        uuid: identify(space, "result", ""),
        title,
        description: "Each requirement against the trials that it names. A trial supports \
                      evidence for a control; whether the control is met is the assessor's judgement."
            .to_owned(),
        start: times().min().map_or_else(|| midnight.clone(), time),
        end: times().max().map(time),
        props: vec![
            property("tool-version", version),
            property("kernel", &kernels.collect::<Vec<_>>().join(", ")),
            property("assessed-on", &assessment.today.to_string()),
        ],
        reviewed_controls: reviewed(assessment),
        observations,
        risks: risks(assessment, space),
        findings: assessment.assessed.iter().map(|one| finding(one, space)).collect(),
    }
}

fn parties(assessment: &Assessment, space: Uuid) -> Vec<Party> {
    let mut owners: Vec<String> =
        assessment.waivers.iter().map(|used| line(&used.waiver.owner)).collect();
    owners.sort();
    owners.dedup();
    let party =
        |name: String| Party { uuid: identify(space, "party", &name), r#type: "person", name };
    owners.into_iter().map(party).collect()
}

/// What was reviewed: the requirements, and the controls that they support evidence for, a selection
/// for each catalogue.
fn reviewed(assessment: &Assessment) -> ReviewedControls {
    let mut selections: Vec<(&Catalogue, Vec<String>)> = Vec::new();
    for supported in assessment.assessed.iter().flat_map(|one| &one.requirement.controls) {
        let at =
            selections.iter().position(|(catalogue, _)| catalogue.id == supported.catalogue.id);
        let at = at.unwrap_or_else(|| {
            selections.push((supported.catalogue, Vec::new()));
            selections.len() - 1
        });
        selections[at].1.push(control_id(supported));
    }
    selections.sort_by_key(|(catalogue, _)| catalogue.id.as_str());
    let selection = |(catalogue, mut ids): (&Catalogue, Vec<String>)| {
        ids.sort();
        ids.dedup();
        Selection {
            description: format!("{}: what the findings support evidence for.", catalogue.title),
            links: vec![Link { href: catalogue.href.clone(), rel: "reference" }],
            include_controls: ids.into_iter().map(|control_id| Include { control_id }).collect(),
        }
    };
    // The schema wants a control to be reviewed, and a requirement need name none: the product's own
    // requirements come first.
    let ids = assessment.assessed.iter().map(|one| one.requirement.id.clone());
    let own = Selection {
        description: "The product's own requirements, which the findings are about.".to_owned(),
        links: vec![Link { href: reference(assessment.requirements.path()), rel: "reference" }],
        include_controls: ids.map(|control_id| Include { control_id }).collect(),
    };
    let control_selections = [own].into_iter().chain(selections.into_iter().map(selection));
    let control_selections = control_selections.collect();
    ReviewedControls { control_selections }
}

/// A control's id as a token: NIST's as its own OSCAL catalogue has it (`sc-7.21`), others behind
/// their catalogue's name.
fn control_id(supported: &Supported) -> String {
    let (catalogue, id) = (&supported.catalogue.id, &supported.control.id);
    let plain = id.to_lowercase().replace(' ', "-").replace('(', ".").replace(')', "");
    if catalogue.starts_with("nist-800-53") { plain } else { format!("{catalogue}_{plain}") }
}

fn observation(
    evidence: &Evidence,
    assessment: &Assessment,
    space: Uuid,
    midnight: &str,
) -> Observation {
    let record = evidence.record;
    let kernel = &assessment.sources[evidence.source].1.kernel;
    let seen = record.observed.as_ref().map_or_else(|| "nothing".to_owned(), describe);
    let first = record.frames.iter().map(|frame| frame.at_ns).min();
    let frames = evidence.frames.iter().take(FRAMES_SHOWN).map(|frame| RelevantEvidence {
        description: prose(&format!(
            "{} on {} at {}, {} bytes: {}",
            frame.role,
            frame.link,
            time(frame.at_ns),
            frame.length,
            frame.summary
        )),
    });
    Observation {
        uuid: observation_id(evidence, space),
        title: line(&record.id),
        description: prose(&format!(
            "{} Expected {}, observed {seen}.",
            record.title,
            record.expect.outcome.word()
        )),
        props: vec![
            property("verdict", record.verdict.word()),
            property("observed", &seen),
            property("scenario", &record.place),
            property("kernel", kernel),
            property("frames", &evidence.frames.len().to_string()),
        ],
        methods: ["TEST"],
        relevant_evidence: frames.collect(),
        collected: first.map_or_else(|| midnight.to_owned(), time),
        remarks: prose(&format!("{}. {}", record.reason, controls(record))),
    }
}

fn observation_id(evidence: &Evidence, space: Uuid) -> Uuid {
    identify(space, "observation", &format!("{} {}", evidence.source, evidence.record.id))
}

fn risks(assessment: &Assessment, space: Uuid) -> Vec<Risk> {
    let risk = |(at, used): (usize, &crate::compliance::WaiverUse)| {
        let waiver = used.waiver;
        let mut related: Vec<Uuid> = assessment
            .assessed
            .iter()
            .flat_map(|one| &one.trials)
            .filter(|trial| matches!(trial.hold, Hold::Waived(by, _) if by == at))
            .map(|trial| observation_id(trial, space))
            .collect();
        related.sort();
        related.dedup();
        Risk {
            uuid: risk_id(at, space),
            title: line(&format!("{} is {}", waiver.selector, waiver.outcome.word())),
            description: prose(&waiver.reason),
            statement: prose(&format!("Borne by {} until {}.", waiver.owner, waiver.expires)),
            props: vec![property("waiver", if used.state.fails() { "void" } else { "in-force" })],
            status: if used.state.fails() { "open" } else { "deviation-approved" },
            deadline: format!("{}T23:59:59Z", waiver.expires),
            related_observations: related
                .into_iter()
                .map(|observation_uuid| RelatedObservation { observation_uuid })
                .collect(),
        }
    };
    assessment.waivers.iter().enumerate().map(risk).collect()
}

fn risk_id(at: usize, space: Uuid) -> Uuid {
    identify(space, "risk", &at.to_string())
}

fn finding(one: &Assessed, space: Uuid) -> Finding {
    let requirement = one.requirement;
    let mut waivers: Vec<usize> = one
        .trials
        .iter()
        .filter_map(|trial| if let Hold::Waived(at, _) = trial.hold { Some(at) } else { None })
        .collect();
    waivers.sort_unstable();
    waivers.dedup();
    let (state, reason) = match one.standing {
        Standing::Proved => ("satisfied", "pass"),
        Standing::Violated => ("not-satisfied", "fail"),
        Standing::Waived | Standing::NotProved => ("not-satisfied", "other"),
    };
    let controls = requirement.controls.iter().map(|supported| {
        let value = format!("{}: {}", supported.catalogue.title, supported.control.id);
        property("supports-evidence-for", &value)
    });
    let outcomes = requirement.outcomes.iter();
    Finding {
        uuid: identify(space, "finding", &requirement.id),
        title: line(&requirement.id),
        description: prose(&requirement.text),
        props: [property("standing", one.standing.word())]
            .into_iter()
            .chain(outcomes.map(|outcome| property("takes-outcome", outcome.word())))
            .chain(controls)
            .collect(),
        target: Target {
            r#type: "objective-id",
            target_id: requirement.id.clone(),
            status: Status { state, reason },
        },
        related_observations: one
            .trials
            .iter()
            .map(|trial| RelatedObservation { observation_uuid: observation_id(trial, space) })
            .collect(),
        related_risks: waivers
            .into_iter()
            .map(|at| RelatedRisk { risk_uuid: risk_id(at, space) })
            .collect(),
        remarks: (!one.gaps.is_empty()).then(|| prose(&one.gaps.join("; "))),
    }
}

fn identify(space: Uuid, kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&space, format!("{kind} {name}").as_bytes())
}

fn property(name: &'static str, value: &str) -> Property {
    Property { name, ns: NAMESPACE, value: line(value) }
}

/// Text as OSCAL's strings: one line that begins and ends with a character.
fn line(text: &str) -> String {
    let shown = prose(text);
    if shown.is_empty() { "-".to_owned() } else { shown }
}

/// A file's name as a relative reference (RFC 3986).
fn reference(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut text = if path.starts_with("//") { "." } else { "" }.to_owned();
    for byte in path.bytes() {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            text += &safe(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use toml::value::Date;

    use super::*;
    use crate::compliance::{assess, parse};
    use crate::report::result::Document;
    use crate::report::sample;

    fn made(requirements: &str) -> (String, Value) {
        let text = r#"{"schema":1,"tool":{"name":"airtight","version":"0"},
            "host":{"kernel":" \u001b[31m ","rootless":false},"records":[],"partial":false}"#;
        let mut document: Document = serde_json::from_str(text).unwrap();
        document.records = vec![sample::record()];
        let requirements = parse("a b.toml", requirements.as_bytes()).unwrap();
        let documents = [document];
        let today = Date { year: 2027, month: 1, day: 2 };
        let assessment = assess(&requirements, &documents, today);
        let text = oscal(&assessment, "2027-01-02T03:04:05Z", "d1").unwrap();
        let again = oscal(&assessment, "2027-01-02T03:04:05Z", "d1").unwrap();
        assert_eq!(text, again);
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    const VIOLATED: &str = "[[requirement]]\nid = 'R'\ntext = 't'\ntrials = ['basics/']\n\
        controls = ['nist-800-53r5:SC-7(21)', 'iec-62443-3-3:SR 5.2 RE 1']\n";

    #[test]
    fn a_finding_is_satisfied_only_where_it_is_proved() {
        let state = |value: &Value| {
            value["assessment-results"]["results"][0]["findings"][0]["target"]["status"].clone()
        };
        let (_, violated) = made(VIOLATED);
        assert_eq!(state(&violated)["state"], "not-satisfied");
        assert_eq!(state(&violated)["reason"], "fail");
        let waiver = "[[waiver]]\ntrials = 'basics/'\noutcome = 'leaked'\nowner = 'o'\n\
                      reason = 'r'\nexpires = 2027-01-02\n";
        let (_, waived) = made(&format!("{VIOLATED}{waiver}"));
        assert_eq!(state(&waived)["state"], "not-satisfied");
        assert_eq!(state(&waived)["reason"], "other");
        let result = &waived["assessment-results"]["results"][0];
        assert_eq!(result["risks"][0]["status"], "deviation-approved");
        assert_eq!(
            result["risks"][0]["related-observations"][0]["observation-uuid"],
            result["observations"][0]["uuid"]
        );
        let (_, proved) = made(&VIOLATED.replace("text", "outcomes = ['leaked']\ntext"));
        // The sample deviates, whatever outcomes the requirement takes.
        assert_eq!(state(&proved)["state"], "not-satisfied");
    }

    #[test]
    fn tokens_strings_and_identifiers_are_as_the_schema_wants_them() {
        let (text, value) = made(VIOLATED);
        let document = &value["assessment-results"];
        assert_eq!(document["import-ap"]["href"], "a%20b.toml");
        let uuid = document["uuid"].as_str().unwrap();
        assert_eq!(uuid.as_bytes()[14], b'5', "{uuid}");
        let result = &document["results"][0];
        let selections = &result["reviewed-controls"]["control-selections"];
        let ids = [2, 1, 0].map(|at| selections[at]["include-controls"][0]["control-id"].clone());
        assert_eq!(ids, ["sc-7.21", "iec-62443-3-3_sr-5.2-re-1", "R"]);
        assert_eq!(result["start"], "2026-09-21T14:13:20.000000Z");
        assert!(!text.contains('\u{1b}') && text.contains("\\\\u{1b}[31m"), "{text}");
        assert!(!text.contains("complies"));
    }
}
