//! What happens to links in a script of sockets, as lines of Python.

use std::net::IpAddr;

use super::lab::route_words;
use super::{mac, python};
use crate::plan::{Case, Link, LinkChange, Step};
use crate::scenario::LinkState;

/// The lines of a step that changes a link, or deletes a route.
pub(super) fn lines(case: &Case, step: &Step) -> Vec<String> {
    match step {
        Step::Unroute(route) => {
            let words = route_words(route, &case.links);
            vec![ip(case, ["route", "del"], words)]
        }
        Step::Set(LinkChange { link, to }) => match to {
            LinkState::Down => vec![format!("set_link({link}, \"down\")")],
            LinkState::Unplugged => vec![format!("set_link({link}, \"unplugged\")")],
            LinkState::Bare => vec![format!("set_link({link}, \"bare\")")],
            LinkState::Gone => vec![format!("set_link({link}, \"gone\")")],
            LinkState::Whole => {
                let back = vec![format!("set_link({link}, \"back\")")];
                [back, whole(case, *link)].concat()
            }
        },
        Step::Rename(link, name) => vec![format!("rename({link}, {})", python(name))],
        Step::Reindex(link, like) => {
            let index = case.links[*like].index;
            [vec![format!("reindex({link}, {index})")], whole(case, *link)].concat()
        }
        _ => Vec::new(),
    }
}

/// Gives a link its addresses, neighbours and routes, under the name that its device has by then.
fn whole(case: &Case, at: usize) -> Vec<String> {
    let Link { address, prefix_length, link_local, gateway, far_mac, .. } = &case.links[at];
    let mut addresses: Vec<(IpAddr, u8)> = vec![(*address, *prefix_length)];
    if case.link_local {
        addresses.push(((*link_local).into(), 64));
    }
    let device = format!("device({at})");
    let nodad = if case.family.is_v4() { "" } else { ", \"nodad\"" };
    let mut lines = Vec::new();
    for (address, length) in &addresses {
        lines.push(format!(
            "run(\"ip\", \"addr\", \"replace\", \"{address}/{length}\", \"dev\", {device}{nodad})"
        ));
    }
    if !case.family.is_v4() {
        lines.extend(addresses.iter().map(|(address, _)| format!("in_use(\"{address}\")")));
    }
    let own = [*address, *gateway];
    let others = case.neighbour_addresses.iter().filter(|known| !own.contains(known));
    for known in std::iter::once(gateway).chain(others) {
        let far = mac(*far_mac);
        lines.push(format!(
            "run(\"ip\", \"neigh\", \"replace\", \"{known}\", \"lladdr\", \"{far}\", \"dev\", {device}, \
             \"nud\", \"permanent\")"
        ));
    }
    let name = &case.links[at].name;
    for route in case.routes.iter().filter(|route| route.hops.iter().any(|hop| hop.link == at)) {
        let words = route_words(route, &case.links);
        lines.push(ip(case, ["route", "replace"], words).replace(&python(name), &device));
    }
    lines
}

pub(super) fn ip(case: &Case, verb: [&str; 2], words: Vec<String>) -> String {
    let mut all = vec![python("ip")];
    all.extend((!case.family.is_v4()).then(|| python("-6")));
    all.extend(verb.map(python));
    all.extend(words.iter().map(|word| python(word)));
    format!("run({})", all.join(", "))
}
