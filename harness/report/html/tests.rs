//! What must hold of the page, whatever the records.

use super::*;
use crate::program::{End, Ran, Said, Trace};
use crate::report::result::{Document, Run};
use crate::report::sample;

fn document(records: Vec<Record>) -> Document {
    let mut document = Document::new(Run { planned: records.len(), ..Run::default() });
    document.records = records;
    document.sum();
    document
}

fn with(verdict: Verdict) -> Record {
    let mut record = sample::record();
    record.verdict = verdict;
    if matches!(verdict, Verdict::Inconclusive | Verdict::Skipped) {
        record.observed = None;
    }
    record
}

/// The page, and behind it whatever is packed in it.
fn everything(records: Vec<Record>) -> String {
    let page = page(&document(records)).unwrap();
    let packs = page.split("class=\"pack\">").skip(1).map(|rest| rest.split('<').next().unwrap());
    let packed: String = packs.flat_map(pack::unpacked).map(|(html, _)| html + "\n").collect();
    page + &packed
}

#[test]
fn every_trial_is_there_once() {
    let records: Vec<Record> = (0..120)
        .map(|at| {
            let mut record = with([Verdict::Conforms, Verdict::Deviates, Verdict::Skipped][at % 3]);
            record.id = format!("basics/sample::case-{at}::v4-udp");
            record
        })
        .collect();
    let text = everything(records.clone());
    for record in &records {
        let row = format!("<a href=\"#trial&#x2f;{}\">", record.id.replace('/', "&#x2f;"));
        assert_eq!(text.matches(&row).count(), 1, "{}", record.id);
        let detail = format!("id=\"trial&#x2f;{}\"", record.id.replace('/', "&#x2f;"));
        assert_eq!(text.matches(&detail).count(), 1, "{}", record.id);
    }
}

#[test]
fn records_of_one_id_do_not_hide_each_other() {
    let records = vec![with(Verdict::Conforms), with(Verdict::Conforms), with(Verdict::Deviates)];
    assert_eq!(anchors(&records).iter().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn what_was_not_proved_is_never_green() {
    for verdict in
        [Verdict::Skipped, Verdict::Inconclusive, Verdict::Deviates, Verdict::Stale, Verdict::Known]
    {
        let page = page(&document(vec![with(Verdict::Conforms), with(verdict)])).unwrap();
        assert!(!page.contains("<header class=\"page good\">"), "{verdict:?}");
        let word = verdict.word();
        assert!(
            !page.contains(&format!("badge good\"><span aria-hidden=\"true\">✓</span> {word}"))
        );
        assert_ne!(verdict_badge(verdict).tone, "good");
        assert_ne!(verdict_badge(verdict).sign, "✓");
    }
    let good = page(&document(vec![with(Verdict::Conforms)])).unwrap();
    assert!(good.contains("<header class=\"page good\">"));
    let nothing = page(&document(Vec::new())).unwrap();
    assert!(nothing.contains("page unproved") && nothing.contains("nothing is proved"));
}

#[test]
fn what_conforms_without_an_observation_is_not_believed() {
    for verdict in [Verdict::Conforms, Verdict::Known] {
        let mut record = with(verdict);
        record.observed = None;
        let page = page(&document(vec![record])).unwrap();
        assert!(page.contains("page unproved"), "{verdict:?}");
        assert!(page.contains("1 trial does not conform"), "{verdict:?}");
    }
}

#[test]
fn text_of_records_is_shown_and_not_interpreted() {
    let hostile =
        "</script><img src=x onerror=\"alert(1)\">'&\u{202e}\u{1b}[31m\u{0}\u{2028}{{ 7*7 }}";
    let mut record = sample::record();
    for text in [
        &mut record.id,
        &mut record.scenario,
        &mut record.case,
        &mut record.title,
        &mut record.why,
        &mut record.pin,
        &mut record.place,
        &mut record.reason,
    ] {
        *text = hostile.to_owned();
    }
    record.refs = vec![
        hostile.to_owned(),
        "https://x/\"onclick=alert(1)".to_owned(),
        "javascript:x".to_owned(),
    ];
    record.heading = Some(hostile.to_owned());
    record.calls[0].call = hostile.to_owned();
    record.links = vec![hostile.to_owned(), "uplink".to_owned()];
    record.intended = vec![hostile.to_owned()];
    record.controls.unpinned = vec![hostile.to_owned()];
    record.pending = vec![hostile.to_owned()];
    record.cell.insert("transport".to_owned(), hostile.to_owned());
    for frame in &mut record.frames {
        frame.summary = hostile.to_owned();
        frame.phase = hostile.to_owned();
    }
    let said = Said { text: hostile.to_owned(), bytes: hostile.len() as u64 };
    record.program = Some(Ran {
        stopped: None,
        trace: Trace::default(),
        lookups: Vec::new(),
        unanswered: Vec::new(),
        command: vec![hostile.to_owned()],
        end: End::NotStarted(hostile.to_owned()),
        sha256: Some(hostile.to_owned()),
        stdout: said.clone(),
        stderr: said,
        left: false,
        unsettled: 1,
        micros: 1,
    });
    let mut conforming = record.clone();
    conforming.verdict = Verdict::Conforms;
    let mut document = document(vec![record.clone(), conforming.clone()]);
    document.host.kernel = hostile.to_owned();
    document.tool.version = hostile.to_owned();
    let page = page(&document).unwrap();
    let text = page.clone() + &everything(vec![record, conforming]);
    for part in
        ["<img", "\u{202e}", "\u{1b}", "\0", "\u{2028}", ">49", "href=\"javascript", "\"onclick"]
    {
        assert!(!text.contains(part), "{part:?} is in the page");
    }
    assert!(
        text.contains(
            "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&#x27;&amp;\\u{202e}\\u{1b}[31m"
        )
    );
    // Only our own scripts.
    let own = page.matches("<script").count();
    assert_eq!(page.matches("</script>").count(), own);
    assert_eq!(page.matches("<script>").count(), 1);
}

#[test]
fn a_flood_does_not_drown_the_page_nor_the_leak() {
    let mut record = with(Verdict::Deviates);
    let leak = record.frames[1].clone();
    let noise = crate::trial::FrameRecord {
        role: "frame".to_owned(),
        bytes: vec![7; 2048],
        ..leak.clone()
    };
    record.frames = vec![noise; 4000];
    record.frames.push(leak);
    let text = "line\n".repeat(12_000);
    let said = Said { text, bytes: 5_000_000 };
    record.program = Some(Ran {
        stopped: None,
        trace: Trace::default(),
        lookups: Vec::new(),
        unanswered: Vec::new(),
        command: vec!["x".to_owned()],
        end: End::TimedOut,
        sha256: None,
        stdout: said,
        stderr: Said::default(),
        left: false,
        unsettled: 0,
        micros: 1,
    });
    record.reason = "x".repeat(1_000_000);
    let page = page(&document(vec![record])).unwrap();
    assert!(page.len() < 1_500_000, "{}", page.len());
    assert!(
        page.contains("256 of 4,001 frames are kept here, leaks first; of each at most 256 bytes")
    );
    assert!(page.contains("▲ LEAK</td>"));
    assert!(page.contains("the first 1,000 of 5,000,000 bytes; the rest is not shown"));
    assert!(page.contains("more bytes are not shown]"));
}

#[test]
fn the_capture_is_the_one_that_a_run_writes() {
    let record = with(Verdict::Conforms);
    let page = page(&document(vec![record.clone()])).unwrap();
    let pack = page.split("class=\"pack\">").nth(1).unwrap().split('<').next().unwrap();
    let (html, capture) = &pack::unpacked(pack)[0];
    assert_eq!(*capture, crate::report::pcapng::write(&record).unwrap());
    assert!(html.contains("basics_sample__device__v4-udp.pcapng"));
}

#[test]
fn a_record_that_contradicts_itself_is_told_as_far_as_it_goes() {
    let mut record = with(Verdict::Deviates);
    record.frames[0].length = 1;
    record.frames[1].link = "nowhere".to_owned();
    let page = page(&document(vec![record])).unwrap();
    assert!(page.contains("no capture can be made of these frames: "));
    assert!(!page.contains("class=\"download\""));
}

#[test]
fn the_policy_lets_nothing_in_but_what_is_there() {
    let page = page(&document(vec![sample::record()])).unwrap();
    let within = |from: &str, to: &str| {
        page.split(from).nth(1).unwrap().split(to).next().unwrap().to_owned()
    };
    let hash = |text: &str| Base64::encode_string(&Sha256::digest(text.as_bytes()));
    let policy = within("Content-Security-Policy\" content=\"", "\"")
        .replace("&#x27;", "'")
        .replace("&#x2f;", "/");
    let expected = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(&within("<script>", "</script>")),
        hash(&within("<style>", "</style>")),
    );
    assert_eq!(policy, expected);
    // A style within an element would be refused by it.
    assert!(!page.contains(" style="));
}

#[test]
fn a_document_has_one_page() {
    let document =
        document(vec![with(Verdict::Deviates), with(Verdict::Conforms), with(Verdict::Skipped)]);
    assert_eq!(page(&document).unwrap(), page(&document).unwrap());
}
