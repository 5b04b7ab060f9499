//! What the command line says of a product that goes on running.

use airtight::plan::Product;
use airtight::report::result::quoted;
use airtight::scenario::{Ready, Signal};

/// The options that the product was given, to be given again.
pub(super) fn going_on(product: &Product) -> String {
    let (Some(ready), stop) = (product.is_ready(), product.stops()) else { return String::new() };
    let ready = match ready {
        Ready { port: Some(port), .. } => format!("port:{port}"),
        Ready { line: Some(line), .. } => format!("line:{line}"),
        Ready { file, .. } => format!("file:{}", file.as_deref().unwrap_or_default()),
    };
    format!(" --ready {} --stop {}", quoted(&ready), stop.word())
}

/// How a program tells that it is ready.
pub(super) fn ready(text: &str) -> Result<Ready, String> {
    let own = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let ready = match text.split_once(':') {
        Some(("port", port)) => Ready { port: port.parse().ok(), ..Ready::default() },
        Some(("line", line)) => Ready { line: own(line), ..Ready::default() },
        Some(("file", file)) => Ready { file: own(file), ..Ready::default() },
        _ => Ready::default(),
    };
    let said = ready != Ready::default() && ready.port != Some(0);
    said.then_some(ready).ok_or_else(|| "accepted: port:NUMBER, line:TEXT, file:PATH".to_owned())
}

/// A signal's name.
pub(super) fn signal(name: &str) -> Result<Signal, String> {
    let named = Signal::ALL.iter().find(|signal| signal.word() == name);
    let words = || Signal::ALL.map(Signal::word).join(", ");
    named.copied().ok_or_else(|| format!("accepted: {}", words()))
}
