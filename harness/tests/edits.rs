//! Scenarios that use every key of the language between them, and for each key an edit that changes its
//! value and nothing else.

/// A key, what is replaced in its scenario, and by what: that changes nothing but the key's value, or adds
/// or removes it.
pub(crate) type Edit = (&'static str, &'static str, &'static str);

/// Each scenario with its edits.
pub(crate) const ALL: &[(&str, &[Edit])] = &[
    (BASE, EDITS),
    (LIFE, LIFE_EDITS),
    (ADVERSARY, ADVERSARY_EDITS),
    (PROGRAM, PROGRAM_EDITS),
    (PRODUCT, PRODUCT_EDITS),
];

/// Every key of a scenario with sockets.
pub(crate) const BASE: &str = r#"
title = "claim"
why = "reason"
refs = ["here"]
heading = "conflict"
links = ["a", "b", "c"]
intended = ["a"]
routes = [
  { to = "default", via = "b", metric = 1, table = 254 },
  { to = "{target}", multipath = ["b", "c"], source = "b" },
  { to = "{elsewhere}", via = "b", dev = "c", onlink = true },
  { to = "{foreign}", type = "blackhole" },
]
sysctls = ["net.ipv4.ip_forward=1"]
advertisements = [{ by = "b", prefix = "2001:db8:b::/64", route = "{elsewhere}", default = true }]
multicast_routes = [{ from = "a", to = "b" }]
lines = [{ at = "host", run = "nft list {target}" }]
neighbours = "permanent"
needs = ["ipv6", "program:nft"]
kernel = ">=5.7"
[[rules]]
from = "{a.network}"
to = "{target}"
mark = 3
oif = "a"
iif = "lo"
uid = [0, 1]
protocol = "udp"
sport = 5
dport = 7
table = 100
priority = 10
[[rules]]
type = "unreachable"
[control]
unpinned = "b"
to = "{target}"
arrives = ["a", "b"]
[matrix]
family = ["v4", "v6", "mapped"]
transport = ["udp", "tcp"]
[[case]]
name = "one"
expect = "leaked"
through = "b"
source = "a"
needs = ["vrf"]
kernel = "<7.0"
only = { family = ["v4"], transport = ["udp"] }
known = { outcome = "silent", until = "there" }
[[case]]
name = "two"
expect = "refused"
errno = "ENODEV"
call = "sendto"
[[case]]
name = "three"
expect = "contained"
carries = "data"
request = { by = "a", to = "a" }
[[case]]
name = "four"
expect = "delivered"
pin = { reuse_port = true, ifreq = "a" }
unpinned = "delivered"
inject = { by = "a", to = "a", from = "{elsewhere}", flows = 2 }
[[case]]
name = "kernel"
expect = "leaked"
provoke = { by = "c", to = "c", frame = "data" }
[[case]]
name = "sends"
expect = "leaked"
held_by = ["namespace", "v4:nft-output"]
to = "{b.gateway}"
size = 100
flows = 3
[[case]]
name = "pins"
only = { family = ["v6"] }
expect = "contained"
[case.pin]
device = "a"
device_name = "x"
ifreq = "a"
index = "a"
address = "a"
unicast_if = "a"
multicast_if = "a"
scope = "a"
mark = 1
packet_mark = 1
dont_route = "option"
freebind = true
transparent = true
hops = 8
broadcast = true
reuse_port = true
multicast_all = true
[[case]]
name = "pins-of-v6"
expect = "contained"
only = { family = ["v6", "mapped"] }
pin = { pktinfo = { index = "a", source = "a", as_v4 = true }, sticky_pktinfo = { index = "b" } }
[[case]]
name = "script"
expect = "delivered"
steps = [
  { open = "udp", on = "x" },
  { open = "udp", on = "y" },
  { pin = { device = "c" }, on = "x" },
  { join = { group = "{group}", by = "c" } },
  { connect = "{loopback}" },
  { call = "listen", on = "x" },
  { call = "listen", on = "y" },
  { send = "{c.gateway}" },
  { inject = { by = "c", to = "b" } },
  { route = { to = "default", dev = "c" } },
  { await = "c" },
  { call = "receive", on = "y" },
]
[[case]]
name = "script-of-v6"
expect = "contained"
only = { family = ["v6"] }
steps = [{ join = { group = "{link-group}" } }, { await = "a" }, { call = "listen" }]
"#;

const EDITS: &[Edit] = &[
    ("title", "title = \"claim\"", "title = \"other\""),
    ("why", "why = \"reason\"", "why = \"other\""),
    ("refs", "refs = [\"here\"]", "refs = []"),
    ("heading", "heading = \"conflict\"", "heading = \"other\""),
    ("links", "[\"a\", \"b\", \"c\"]", "[\"a\", \"b\", \"c\", \"d\"]"),
    ("intended", "intended = [\"a\"]", "intended = [\"a\", \"c\"]"),
    ("routes", "  { to = \"{foreign}\", type = \"blackhole\" },\n", ""),
    ("routes.to", "to = \"default\"", "to = \"{target}\""),
    ("routes.type", "\"blackhole\"", "\"prohibit\""),
    ("routes.via", "via = \"b\"", "via = \"c\""),
    ("routes.dev", "dev = \"c\", onlink", "dev = \"a\", onlink"),
    ("routes.multipath", "multipath = [\"b\", \"c\"]", "multipath = [\"b\", \"a\"]"),
    ("routes.onlink", "via = \"b\", metric", "via = \"b\", onlink = true, metric"),
    ("routes.source", "source = \"b\"", "source = \"c\""),
    ("routes.metric", "metric = 1", "metric = 2"),
    ("routes.table", "table = 254", "table = 100"),
    ("rules", "[[rules]]\ntype = \"unreachable\"\n", ""),
    ("rules.from", "from = \"{a.network}\"", "from = \"{b.network}\""),
    ("rules.to", "to = \"{target}\"\nmark", "to = \"default\"\nmark"),
    ("rules.mark", "mark = 3", "mark = 2"),
    ("rules.oif", "oif = \"a\"", "oif = \"b\""),
    ("rules.iif", "iif = \"lo\"", "iif = \"b\""),
    ("rules.uid", "uid = [0, 1]", "uid = [0, 2]"),
    ("rules.protocol", "protocol = \"udp\"", "protocol = \"tcp\""),
    ("rules.sport", "sport = 5", "sport = 6"),
    ("rules.dport", "dport = 7", "dport = 8"),
    ("rules.type", "type = \"unreachable\"", "type = \"prohibit\""),
    ("rules.table", "table = 100\n", "table = 101\n"),
    ("rules.priority", "priority = 10", "priority = 11"),
    ("sysctls", "ip_forward=1", "ip_forward=0"),
    ("advertisements", "advertisements = [", "# advertisements = ["),
    ("advertisements.by", "{ by = \"b\", prefix", "{ by = \"c\", prefix"),
    ("advertisements.prefix", "2001:db8:b::/64", "2001:db8:c::/64"),
    ("advertisements.route", "route = \"{elsewhere}\"", "route = \"default\""),
    ("advertisements.default", "default = true", "default = false"),
    ("multicast_routes", "[{ from = \"a\", to = \"b\" }]", "[]"),
    ("multicast_routes.from", "{ from = \"a\"", "{ from = \"c\""),
    ("multicast_routes.to", "{ from = \"a\", to = \"b\"", "{ from = \"a\", to = \"c\""),
    ("lines", "lines = [", "# lines = ["),
    ("lines.at", "at = \"host\"", "at = \"b\""),
    ("lines.run", "nft list {target}", "nft list {b.network}"),
    ("neighbours", "\"permanent\"", "\"learned\""),
    ("needs", "\"ipv6\", ", ""),
    ("kernel", ">=5.7", ">=5.8"),
    ("control", "unpinned = \"b\"", "unpinned = \"c\""),
    ("control.unpinned", "unpinned = \"b\"", "unpinned = \"c\""),
    ("control.to", "to = \"{target}\"\narrives", "to = \"{elsewhere}\"\narrives"),
    ("control.arrives", "arrives = [\"a\", \"b\"]", "arrives = [\"c\"]"),
    ("matrix", "family = [\"v4\", \"v6\", \"mapped\"]", "family = [\"v6\", \"mapped\", \"v4\"]"),
    (
        "matrix.family",
        "family = [\"v4\", \"v6\", \"mapped\"]",
        "family = [\"v6\", \"mapped\", \"v4\"]",
    ),
    ("matrix.transport", "transport = [\"udp\", \"tcp\"]", "transport = [\"udp\"]"),
    (
        "case",
        "[[case]]\nname = \"two\"\nexpect = \"refused\"\nerrno = \"ENODEV\"\ncall = \"sendto\"\n",
        "",
    ),
    ("case.name", "\"two\"", "\"other\""),
    ("case.pin", "device = \"a\"\n", ""),
    ("case.pin.device", "device = \"a\"", "device = \"b\""),
    ("case.pin.device_name", "device_name = \"x\"", "device_name = \"y\""),
    ("case.pin.ifreq", "ifreq = \"a\"", "ifreq = \"b\""),
    ("case.pin.index", "index = \"a\"\n", "index = \"b\"\n"),
    ("case.pin.address", "address = \"a\"", "address = \"b\""),
    ("case.pin.unicast_if", "unicast_if = \"a\"", "unicast_if = \"{missing}\""),
    ("case.pin.multicast_if", "multicast_if = \"a\"", "multicast_if = \"b\""),
    ("case.pin.scope", "scope = \"a\"", "scope = \"b\""),
    ("case.pin.mark", "\nmark = 1\n", "\nmark = 2\n"),
    ("case.pin.packet_mark", "packet_mark = 1", "packet_mark = 2"),
    ("case.pin.dont_route", "\"option\"", "\"flag\""),
    ("case.pin.freebind", "freebind = true", "freebind = false"),
    ("case.pin.transparent", "transparent = true", "transparent = false"),
    ("case.pin.hops", "hops = 8", "hops = 9"),
    ("case.pin.broadcast", "broadcast = true", "broadcast = false"),
    ("case.pin.reuse_port", "reuse_port = true", "reuse_port = false"),
    ("case.pin.multicast_all", "multicast_all = true", "multicast_all = false"),
    ("case.pin.pktinfo", "pktinfo = { index = \"a\", source = \"a\", as_v4 = true }, ", ""),
    ("case.pin.pktinfo.index", "pktinfo = { index = \"a\"", "pktinfo = { index = \"b\""),
    ("case.pin.pktinfo.source", "source = \"a\", as_v4", "source = \"b\", as_v4"),
    ("case.pin.pktinfo.as_v4", "as_v4 = true", "as_v4 = false"),
    ("case.pin.sticky_pktinfo", ", sticky_pktinfo = { index = \"b\" }", ""),
    ("case.to", "to = \"{b.gateway}\"", "to = \"{c.gateway}\""),
    ("case.size", "size = 100", "size = 101"),
    ("case.held_by", "\"v4:nft-output\"", "\"v6:nft-output\""),
    ("case.flows", "flows = 3", "flows = 4"),
    ("case.request", "request = {", "# request = {"),
    ("case.request.by", "request = { by = \"a\"", "request = { by = \"b\""),
    ("case.request.to", "request = { by = \"a\", to = \"a\"", "request = { by = \"a\", to = \"b\""),
    ("case.inject", "inject = { by = \"a\", to = \"a\"", "inject = { by = \"b\", to = \"b\""),
    ("case.inject.by", "inject = { by = \"a\"", "inject = { by = \"b\""),
    ("case.inject.to", "inject = { by = \"a\", to = \"a\"", "inject = { by = \"a\", to = \"b\""),
    ("case.inject.from", "from = \"{elsewhere}\"", "from = \"{foreign}\""),
    ("case.inject.frame", "frame = \"data\"", "frame = \"syn\""),
    ("case.unpinned", "unpinned = \"delivered\"", "unpinned = \"refused\""),
    ("case.inject.flows", "flows = 2", "flows = 1"),
    ("case.provoke", "provoke = {", "# provoke = {"),
    ("case.steps", "  { await = \"c\" },\n", ""),
    ("case.steps.on", "\"c\" }, on = \"x\"", "\"c\" }, on = \"y\""),
    ("case.steps.open", "open = \"udp\", on = \"y\"", "open = \"tcp\", on = \"y\""),
    ("case.steps.pin", "pin = { device = \"c\" }", "pin = { device = \"b\" }"),
    ("case.steps.join", "  { join = { group = \"{group}\", by = \"c\" } },\n", ""),
    ("case.steps.join.by", "\"{group}\", by = \"c\"", "\"{group}\", by = \"b\""),
    ("case.steps.connect", "connect = \"{loopback}\"", "connect = \"{c.gateway}\""),
    ("case.steps.send", "send = \"{c.gateway}\"", "send = \"{b.gateway}\""),
    ("case.steps.inject", "inject = { by = \"c\"", "inject = { by = \"b\""),
    ("case.steps.route", "dev = \"c\" } }", "dev = \"b\" } }"),
    ("case.steps.await", "await = \"c\"", "await = \"b\""),
    ("case.steps.call", "{ call = \"listen\" }", "{ call = \"send\" }"),
    (
        "case.steps.join.group",
        "{ join = { group = \"{link-group}\" } }",
        "{ join = { group = \"{group}\" } }",
    ),
    ("case.expect", "expect = \"delivered\"", "expect = \"refused\""),
    ("case.through", "through = \"b\"", "through = \"c\""),
    ("case.source", "source = \"a\"\n", "source = \"{loopback}\"\n"),
    ("case.errno", "ENODEV", "EPERM"),
    ("case.call", "call = \"sendto\"", "call = \"connect\""),
    ("case.carries", "carries = \"data\"", "carries = \"neighbour\""),
    ("case.only", "only = {", "# only = {"),
    ("case.only.family", "only = { family = [\"v4\"]", "only = { family = [\"v6\"]"),
    ("case.only.transport", "transport = [\"udp\"] }", "transport = [\"tcp\"] }"),
    ("case.needs", "needs = [\"vrf\"]", "needs = []"),
    ("case.kernel", "<7.0", "<7.1"),
    ("case.known", "known = {", "# known = {"),
    ("case.known.outcome", "outcome = \"silent\"", "outcome = \"contained\""),
    ("case.known.until", "\"there\"", "\"elsewhere\""),
];

/// What becomes of links, namespaces and privileges in a script of sockets.
const LIFE: &str = r#"
title = "claim"
why = "reason"
links = ["a", "b", "c"]
intended = ["a"]
routes = [{ to = "default", via = "b" }]
[control]
unpinned = "b"
[matrix]
family = ["v4", "v6"]
transport = ["udp"]
[[case]]
name = "life"
expect = "contained"
steps = [
  { cork = "{target}" },
  { pin = { device = "a" }, refused = "EPERM" },
  { enter = "elsewhere" },
  { call = "disconnect" },
  { rename = { link = "a", to = "other" } },
  { set = { link = "c", to = "gone" } },
  { set = { link = "a", to = "gone" } },
  { reindex = { link = "b", like = "c" } },
  { unroute = { to = "default", dev = "c" } },
  { send = "{target}" },
]
"#;

const LIFE_EDITS: &[Edit] = &[
    ("case.steps.cork", "cork = \"{target}\"", "cork = \"{c.gateway}\""),
    ("case.steps.refused", "refused = \"EPERM\"", "refused = \"EINVAL\""),
    ("case.steps.enter", "enter = \"elsewhere\"", "enter = \"host\""),
    ("case.steps.rename", "  { rename = { link = \"a\", to = \"other\" } },\n", ""),
    ("case.steps.rename.link", "rename = { link = \"a\"", "rename = { link = \"b\""),
    ("case.steps.rename.to", "to = \"other\"", "to = \"others\""),
    ("case.steps.reindex", "  { reindex = { link = \"b\", like = \"c\" } },\n", ""),
    ("case.steps.reindex.link", "reindex = { link = \"b\"", "reindex = { link = \"a\""),
    ("case.steps.reindex.like", "like = \"c\"", "like = \"a\""),
    ("case.steps.call", "{ call = \"disconnect\" }", "{ call = \"pass\" }"),
    (
        "case.steps.set",
        "set = { link = \"a\", to = \"gone\"",
        "set = { link = \"a\", to = \"bare\"",
    ),
    ("case.steps.unroute", "unroute = { to = \"default\"", "unroute = { to = \"{target}\""),
];

/// What goes wrong below the sockets.
pub(crate) const ADVERSARY: &str = r#"
title = "claim"
why = "reason"
links = ["a", "b", "c"]
intended = ["a", "c"]
routes = [{ to = "default", via = "a" }]
needs = ["program:ip", "bpf-redirect"]
lines = [{ at = "host", run = "ip link", family = ["v4"] }]
[adversary]
untouched = "a"
redirect = { from = "a", to = "b" }
lines = [{ at = "host", run = "ip neigh add {target} lladdr {b.gateway-mac} dev a" }]
[control]
unpinned = "b"
[matrix]
family = ["v4", "v6"]
transport = ["udp"]
[[case]]
name = "device"
pin = { device = "a" }
expect = "leaked"
"#;

const ADVERSARY_EDITS: &[Edit] = &[
    (
        "adversary",
        "[adversary]\nuntouched = \"a\"\nredirect = { from = \"a\", to = \"b\" }\n",
        "[adversary]\nredirect = { from = \"a\", to = \"b\" }\n",
    ),
    ("adversary.lines", "lines = [{ at = \"host\", run = \"ip neigh", "# lines = [{ run = \"ip"),
    ("adversary.redirect", "redirect = { from", "# redirect = { from"),
    ("adversary.redirect.from", "from = \"a\"", "from = \"c\""),
    ("adversary.redirect.to", "to = \"b\" }", "to = \"c\" }"),
    ("adversary.untouched", "untouched = \"a\"", "untouched = \"c\""),
    ("lines.family", "family = [\"v4\"]", "family = [\"v6\"]"),
];

/// A scenario whose sender is a program: it takes no other word on how to send.
const PROGRAM: &str = r#"
title = "claim"
why = "reason"
links = ["a", "b"]
intended = ["a"]
[sender]
command = ["prog", "{intended.device}", "http://{target.url}:{port}/"]
environment = { NAME = "{b.address}" }
directory = "/tmp"
user = 1
input = "in"
timeout_ms = 100
ready = { port = 8080 }
stop = "SIGINT"
[world]
sink = [443]
names = { "other.test" = "{elsewhere}" }
resolver = "{elsewhere}"
slow = ["a"]
beside = "b"
[control]
unpinned = "b"
[matrix]
family = ["v4", "v6"]
transport = ["udp"]
[[case]]
name = "one"
expect = "contained"
[[case]]
name = "two"
command = ["other"]
expect = "refused"
errno = "exit 1"
[[case]]
name = "three"
expect = "kept"
steps = [
  { set = { link = "a", to = "down" } },
  { program = "start" },
  { program = "under-way" },
  { unroute = { to = "default", via = "b" } },
  { signal = "SIGUSR1" },
  { watch = 100 },
  { ask = { by = "a", what = "request", port = 81, from = "{elsewhere}" } },
  { program = "stop" },
]
[[case]]
name = "four"
expect = "kept"
fault = { setsockopt = "EPERM", bind = "EADDRNOTAVAIL" }
"#;

/// A trap for products: nobody has named the program yet.
const PRODUCT: &str = r#"
title = "claim"
why = "reason"
links = ["a", "b"]
intended = ["a"]
sender = { product = true }
control = { unpinned = "b" }
matrix = { family = ["v4"], transport = ["udp"] }
[[case]]
name = "one"
expect = "contained"
"#;

const PROGRAM_EDITS: &[Edit] = &[
    ("sender", "[sender]\ncommand = [\"prog\"", "[sender]\ncommand = [\"another\""),
    ("sender.command", "{intended.device}", "{b.device}"),
    ("sender.environment", "{b.address}", "{a.address}"),
    ("sender.directory", "\"/tmp\"", "\"/var\""),
    ("sender.user", "user = 1", "user = 2"),
    ("sender.input", "\"in\"", "\"other\""),
    ("sender.timeout_ms", "timeout_ms = 100", "timeout_ms = 200"),
    ("case.command", "[\"other\"]", "[\"third\"]"),
    ("sender.ready", "ready = { port = 8080 }", "ready = { line = \"up\" }"),
    ("sender.ready.port", "8080", "8081"),
    ("sender.ready.line", "{ port = 8080 }", "{ line = \"up\" }"),
    ("sender.ready.file", "{ port = 8080 }", "{ file = \"up\" }"),
    ("sender.stop", "SIGINT", "SIGHUP"),
    ("world", "sink = [443]", "sink = [444]"),
    ("world.sink", "[443]", "[443, 444]"),
    ("world.names", "other.test", "another.test"),
    ("world.resolver", "resolver = \"{elsewhere}\"", "resolver = \"{target}\""),
    ("world.slow", "slow = [\"a\"]", "slow = [\"b\"]"),
    ("world.beside", "beside = \"b\"", ""),
    ("case.fault", "fault = { setsockopt = \"EPERM\"", "fault = { setsockopt = \"ENODEV\""),
    ("case.fault.setsockopt", "setsockopt = \"EPERM\", ", ""),
    ("case.fault.bind", "EADDRNOTAVAIL", "EACCES"),
    ("case.steps.program", "  { program = \"under-way\" },\n", ""),
    ("case.steps.set", "  { set = { link = \"a\", to = \"down\" } },\n", ""),
    ("case.steps.set.link", "link = \"a\"", "link = \"b\""),
    ("case.steps.set.to", "to = \"down\"", "to = \"gone\""),
    ("case.steps.unroute", "unroute = {", "route = {"),
    ("case.steps.watch", "watch = 100", "watch = 200"),
    ("case.steps.signal", "SIGUSR1", "SIGUSR2"),
    ("case.steps.ask", "  { ask = { by", "  # { ask = { by"),
    ("case.steps.ask.by", "ask = { by = \"a\"", "ask = { by = \"b\""),
    ("case.steps.ask.what", "what = \"request\"", "what = \"scan\""),
    ("case.steps.ask.port", "port = 81", "port = 82"),
    ("case.steps.ask.from", ", from = \"{elsewhere}\"", ""),
];

const PRODUCT_EDITS: &[Edit] = &[("sender.product", "sender = { product = true }", "")];
