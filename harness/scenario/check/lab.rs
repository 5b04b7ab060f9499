//! The laboratory: links, routes, rules, settings, advertisements and command lines.

use std::ops::Range;

use toml::Spanned;

use super::Checker;
use crate::scenario::attempt::{Case, Outcome};
use crate::scenario::diagnostic::accepted_words;
use crate::scenario::file::{
    Adversary, Advertisement, Family, Line, Redirect, Route, RouteKind, Rule,
};

/// The most links of one scenario: the subnets that 192.0.2.0/24 has room for.
const LINKS_MAX: usize = 16;
/// The longest device name in bytes (`IFNAMSIZ` less the NUL, linux/if.h).
const DEVICE_NAME_BYTES_MAX: usize = 15;
/// What cannot name a link: what the kernel, or a key of the language, means something else by.
const DEVICE_NAMES_TAKEN: [&str; 6] = [".", "..", "all", "default", "host", "lo"];

impl Checker<'_> {
    pub(super) fn lab(&mut self) {
        let file = self.file;
        self.links();
        for route in &file.routes {
            self.route(route);
        }
        for rule in &file.rules {
            self.rule(rule);
        }
        for setting in &file.sysctls {
            self.sysctl(setting);
        }
        for advertisement in &file.advertisements {
            self.advertisement(advertisement);
        }
        for spanned in &file.multicast_routes {
            let route = spanned.get_ref();
            let known = [&route.from, &route.to].map(|link| self.link(link));
            if known == [true; 2] && route.from.get_ref() == route.to.get_ref() {
                let message = format!("the multicast route leads back to `{}`", route.to.get_ref());
                self.fault(route.to.span(), message, "name another link");
            }
        }
        for line in &file.lines {
            self.line(line.get_ref());
        }
        if let Some(adversary) = &file.adversary {
            self.adversary(adversary);
        }
    }

    fn links(&mut self) {
        let file = self.file;
        let whole = file.links.first().map_or(0, |l| l.span().start)
            ..file.links.last().map_or(0, |l| l.span().end);
        if !(2..=LINKS_MAX).contains(&file.links.len()) {
            let message = format!("the number of links is {}", file.links.len());
            self.fault(whole.clone(), message, format!("accepted: 2 to {LINKS_MAX} links"));
        }
        for link in &file.links {
            let name = link.get_ref();
            let fits = (1..=DEVICE_NAME_BYTES_MAX).contains(&name.len());
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            let address = name.parse::<std::net::IpAddr>().is_ok();
            if !fits || !plain || address || DEVICE_NAMES_TAKEN.contains(&name.as_str()) {
                let help = format!(
                    "accepted: 1 to {DEVICE_NAME_BYTES_MAX} letters, digits, `-`, `_`, `.`; not \
                     `all`, `default`, `host`, `lo`"
                );
                self.fault(link.span(), format!("`{name}` cannot be a device's name"), help);
            }
        }
        self.unique("link", &file.links);
        self.unique("intended link", &file.intended);
        for link in &file.intended {
            self.link(link);
        }
        if file.intended.is_empty() || file.intended.len() >= file.links.len() {
            let message =
                format!("{} of {} links are intended", file.intended.len(), file.links.len());
            let first = file.intended.first().or(file.links.first());
            let span = first.map_or(0..0, Spanned::span);
            self.fault(span, message, "at least one link is intended and one is a decoy");
        }
    }

    pub(super) fn route(&mut self, spanned: &Spanned<Route>) {
        let route = spanned.get_ref();
        // A route of one family stands in that family's cells alone.
        self.prefix(&route.to, &[]);
        for link in [&route.via, &route.dev, &route.source].into_iter().flatten() {
            self.link(link);
        }
        self.unique("link", &route.multipath);
        for link in &route.multipath {
            self.link(link);
        }
        self.hops(spanned);
        self.table(route.table, spanned.span());
    }

    /// Whether a route leads somewhere, and to one place only.
    fn hops(&mut self, spanned: &Spanned<Route>) {
        let route = spanned.get_ref();
        let (via, dev) = (route.via.is_some(), route.dev.is_some());
        let multipath = !route.multipath.is_empty();
        let (message, help) = if route.kind != RouteKind::Unicast && (via || dev || multipath) {
            (
                "a route of this type sends nothing on",
                "`via`, `dev` and `multipath` go with the type `unicast` alone",
            )
        } else if route.onlink && !via {
            ("`onlink` says nothing without `via`", "add the `via` that is a neighbour on `dev`")
        } else if route.kind != RouteKind::Unicast {
            return;
        } else if via && dev && !route.onlink && !multipath {
            (
                "the route has both `via` and `dev`",
                "`via` for the link's gateway, `dev` for a neighbour on the link, both beside \
                 `onlink = true`",
            )
        } else if multipath && (via || dev) {
            ("the route has `multipath` beside `via` or `dev`", "name every link in `multipath`")
        } else if route.multipath.len() == 1 {
            ("the route shares its traffic with nobody", "two links in `multipath`, or `via`")
        } else if !(via || dev || multipath) {
            (
                "the route leads nowhere",
                "add `via` (the link's gateway), `dev` (a neighbour on the link) or `multipath` \
                 (the gateways of several links)",
            )
        } else {
            return;
        };
        self.fault(spanned.span(), message, help);
    }

    fn table(&mut self, table: Option<u32>, span: Range<usize>) {
        if table == Some(0) {
            self.fault(span, "there is no routing table 0", "accepted: 1 to 4294967295");
        }
    }

    fn rule(&mut self, spanned: &Spanned<Rule>) {
        let rule = spanned.get_ref();
        for prefix in [&rule.from, &rule.to].into_iter().flatten() {
            self.prefix(prefix, &[]);
        }
        if let Some(oif) = &rule.oif {
            self.link(oif);
        }
        if let Some(iif) = &rule.iif {
            self.link_or(iif, "lo");
        }
        self.table(rule.table, spanned.span());
        let fault = match (rule.kind, rule.table) {
            (RouteKind::Throw, _) => Some((
                "a rule cannot be of the type `throw`".to_owned(),
                "accepted: `unicast`, `unreachable`, `blackhole`, `prohibit`",
            )),
            (RouteKind::Unicast, None) => Some((
                "the rule looks up no table".to_owned(),
                "add `table`, or a `type` that refuses",
            )),
            (RouteKind::Unicast, Some(_)) | (_, None) => None,
            (_, Some(table)) => Some((
                format!("the rule refuses, and never looks up table {table}"),
                "`table` goes with the type `unicast` alone",
            )),
        };
        if let Some((message, help)) = fault {
            self.fault(spanned.span(), message, help);
        }
        if let Some([first, last]) = rule.uid.filter(|[first, last]| first > last) {
            let message = format!("the user ids {first} to {last} are none");
            self.fault(spanned.span(), message, "accepted: the first and the last, in this order");
        }
        if [rule.sport, rule.dport].contains(&Some(0)) {
            self.fault(spanned.span(), "there is no port 0", "accepted: 1 to 65535");
        }
    }

    fn sysctl(&mut self, setting: &Spanned<String>) {
        let text = setting.get_ref();
        let segment = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            !part.is_empty() && part.bytes().all(plain)
        };
        let whole = text.split_once('=').is_some_and(|(name, value)| {
            name.strip_prefix("net.").is_some_and(|rest| rest.split('.').all(segment))
                && !value.trim().is_empty()
                && !value.chars().any(char::is_control)
        });
        if !whole {
            let help = "accepted: `net.NAME=VALUE`, as in `net.ipv4.conf.all.rp_filter=1`";
            self.fault(setting.span(), format!("`{}` is no setting", text.escape_debug()), help);
        }
    }

    fn advertisement(&mut self, spanned: &Spanned<Advertisement>) {
        let advertisement = spanned.get_ref();
        self.link(&advertisement.by);
        for prefix in [&advertisement.prefix, &advertisement.route].into_iter().flatten() {
            self.prefix(prefix, &[Family::V6]);
        }
        if advertisement.prefix.is_none() && advertisement.route.is_none() && !advertisement.default
        {
            self.fault(
                spanned.span(),
                "the advertisement says nothing",
                "add `prefix`, `route` or `default = true`",
            );
        }
    }

    fn adversary(&mut self, spanned: &Spanned<Adversary>) {
        let (file, adversary) = (self.file, spanned.get_ref());
        for line in &adversary.lines {
            self.line(line.get_ref());
        }
        if let Some(redirect) = &adversary.redirect {
            let Redirect { from, to } = redirect.get_ref();
            let known = [from, to].map(|link| self.link(link));
            if known == [true; 2] && from.get_ref() == to.get_ref() {
                let message = format!("the redirection leads back to `{}`", to.get_ref());
                self.fault(to.span(), message, "name another link");
            }
            self.needed("bpf-redirect", redirect.span());
        } else if adversary.lines.is_empty() {
            let help = "add `lines` or `redirect`, or leave the adversary out";
            self.fault(spanned.span(), "the adversary does nothing", help);
        }
        let commands = file.case.iter().any(|case| case.get_ref().command.is_some());
        let leaks = |case: &Spanned<Case>| *case.get_ref().expect.get_ref() == Outcome::Leaked;
        if adversary.untouched.is_none() && !file.case.iter().any(leaks) {
            let help = "add `untouched`, or a case that leaks by the adversary alone";
            self.fault(spanned.span(), "nothing shows what the adversary does", help);
        }
        if let (Some(link), true) = (&adversary.untouched, file.sender.is_some() || commands) {
            let help = "leave it out, and add a case that leaks by the adversary alone";
            self.fault(link.span(), "`untouched` is not for programs", help);
        }
        if let Some(link) = &adversary.untouched
            && self.link(link)
            && !self.intended(link.get_ref())
        {
            let message =
                format!("untouched, the control leaves by the decoy `{}`", link.get_ref());
            let intended = file.intended.iter().map(|link| link.get_ref().as_str());
            self.fault(link.span(), message, accepted_words("", intended));
        }
    }

    fn line(&mut self, line: &Line) {
        self.link_or(&line.at, "host");
        let mut words = line.run.get_ref().split_whitespace();
        let Some(program) = words.next() else {
            self.fault(line.run.span(), "the command line is empty", "a program and its arguments");
            return;
        };
        let need = format!("program:{program}");
        if !self.file.needs.iter().any(|known| *known.get_ref() == need) {
            let needs = self.file.needs.iter().filter_map(|n| n.get_ref().strip_prefix("program:"));
            let needs: Vec<&str> = needs.collect();
            let help = match needs.as_slice() {
                [] => format!("add needs = [\"{need}\"]"),
                _ => format!("{}; or add \"{need}\" to `needs`", accepted_words(program, needs)),
            };
            self.fault(line.run.span(), format!("`{program}` does not stand in `needs`"), help);
        }
        let mut families = self.families();
        if let Some(only) = &line.family {
            if only.get_ref().is_empty() || !only.get_ref().iter().all(|f| families.contains(f)) {
                let message = "`family` names no part of the matrix";
                let help = "accepted: families that the cases are tried in, at least one";
                self.fault(only.span(), message, help);
            }
            families.retain(|family| only.get_ref().contains(family));
        }
        for word in words {
            if let Some((message, help)) = self.placeholder(word, &families) {
                self.fault(line.run.span(), message, help);
            }
        }
    }
}
