# Helpers: captures, crafted frames, their decoder. The lines of this very trial stand below them.
import ctypes, errno, fcntl, ipaddress, mmap, os, secrets, select, struct, subprocess, sys, time
from collections import namedtuple
from socket import *

# Numbers that this Python's socket module may lack.
IP_PKTINFO, IP_FREEBIND, IP_TRANSPARENT, IP_MULTICAST_ALL, IP_UNICAST_IF = 8, 15, 19, 49, 50
IPV6_MULTICAST_ALL, IPV6_PKTINFO = 29, 50
IPV6_TRANSPARENT, IPV6_UNICAST_IF, IPV6_FREEBIND = 75, 76, 78
SO_MARK, SO_BINDTOIFINDEX, MSG_FASTOPEN, IPPROTO_MPTCP = 36, 62, 0x20000000, 262
SOL_PACKET, PACKET_AUXDATA, PACKET_QDISC_BYPASS = 263, 8, 20
ETH_P_ALL, ETH_P_SENTINEL = 3, 0x88B5
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
FAR = 100_000  # bytes: outside of every window

Link = namedtuple("Link", "name index near far gateway intended")
Packet = namedtuple("Packet", "source to protocol offset body")

TOKEN = b"airtight-attempt-" + secrets.token_hex(8).encode()
PROTOCOL = 17          # of the gateways' frames: 17 UDP, 6 TCP, 253
links, captures, near = [], [], []
frames = []            # what the host has sent: (place of the link, frame)
seen, awaited, ports, rings, kept, held = set(), {}, {}, {}, [], []
spaces, names, states, indices, endings = [], {}, {}, {}, []  # what has become of links
libc = ctypes.CDLL(None, use_errno=True)
# One processor, so that no frame overtakes another.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
setdefaulttimeout(0.2)


def enter(netns):
    run = "/run/netns/" if os.path.isdir("/run/netns") else "/var/run/netns/"
    with open(run + netns) as handle:
        if libc.setns(handle.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns to " + netns)


def packet_socket(link, protocol):
    s = socket(AF_PACKET, SOCK_RAW, 0)  # protocol 0: nothing is received before bind(2)
    s.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 20)
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    s.bind((link.name, protocol))
    s.setblocking(False)
    return s


def arm(owning=False, sink=0):
    """Opens a capture in each gateway, and goes on when each of them is alive."""
    host, *gateways = sys.argv[1:]
    for link, gateway in zip(links, gateways):
        enter(gateway)
        captures.append(packet_socket(link, ETH_P_ALL))
        for kind, protocol in [(SOCK_DGRAM, 0), (SOCK_STREAM, sink)] if owning else []:
            s = socket(AF_INET6 if ":" in link.gateway else AF_INET, kind, protocol)
            s.bind(("", 7))
            if kind == SOCK_STREAM:
                s.listen(64)
            held.append(s)
    enter(host)
    near.extend(packet_socket(link, ETH_P_SENTINEL) for link in links)
    barrier()
    frames.clear()


def barrier():
    """Returns when everything that the host has sent is in `frames`."""
    for at in range(len(links)):
        sentinel(at)


def control(to, kind, must):
    """An unpinned sender: it shows which way the kernel takes where no pin holds it."""
    s = socket(AF_INET6 if ":" in to else AF_INET, kind)
    s.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
    try:
        if kind == SOCK_STREAM:
            s.connect((to, 9))
            s.send(b"airtight control")
        else:
            s.sendto(b"airtight control", (to, 9))
    except OSError as error:  # nobody listens at port 9, or nobody answers: it has left
        if error.errno not in (None, errno.ECONNREFUSED):
            print("control:", error)
    reset(s)
    barrier()
    way = sorted({links[at].name for at, _ in frames})
    print("control: without a pin it leaves by", ", ".join(way) or "no link")
    if way != [must]:
        print(f"control: the trap is not armed, because it must leave by {must}")
    frames.clear()


def reset(s):
    """Closes a socket; a connection is reset, so that nothing is sent later."""
    if s.fileno() >= 0 and s.family != AF_PACKET and s.type == SOCK_STREAM:
        s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def collect(wait=0.0):
    """Reads what the captures hold; waits at most so long, in seconds, for the first frame."""
    select.select(captures, [], [], wait)
    for at, capture in enumerate(captures):
        while True:
            try:
                frame, auxiliary, _, address = capture.recvmsg(70_000, 64)
            except OSError:
                break
            if address[2] == PACKET_OUTGOING:
                continue
            if auxiliary:  # the kernel has cut out the VLAN tag
                status, *_, tci, tpid = struct.unpack("=3I4H", auxiliary[0][2][:20])
                if status & 0x10:
                    frame = frame[:12] + struct.pack("!HH", tpid or 0x8100, tci) + frame[12:]
            if frame[12:22] == b"\x88\xb5airtight":
                seen.add((at, frame))
            else:
                frames.append((at, frame))


def sentinel(at, inbound=False):
    """Sends a tagged frame, and returns when it has arrived: so has whatever went before it."""
    link, out = links[at], captures[at] if inbound else near[at]
    there, back = (link.near, link.far) if inbound else (link.far, link.near)
    tag = b"\x88\xb5airtight" + secrets.token_bytes(8)
    frame = (mac(there) + mac(back) + tag).ljust(60, b"\0")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            out.send(frame)
            if inbound:
                select.select([near[at]], [], [], 0.05)
                if near[at].recv(100) == frame:
                    return
            else:
                collect(0.05)
                if (at, frame) in seen:
                    return
        except OSError:
            collect(0.01)  # the link is not up yet
    sys.exit(f"{link.name} carries no sentinel: nothing is proved")


def inject(at, frame):
    captures[at].send(frame)
    sentinel(at, inbound=True)


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def address(text):
    return inet_pton(AF_INET6 if ":" in text else AF_INET, text)


def shown(raw):
    return inet_ntop(AF_INET if len(raw) == 4 else AF_INET6, raw)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF or 0xFFFF)


def packet(source, to, protocol, body, at=None, hops=64):
    """An IP packet. `at` is where in its body the checksum belongs."""
    source, to = address(source), address(to)
    if at is not None:
        pseudo = b"" if protocol == 1 else source + to + struct.pack("!II", len(body), protocol)
        body = body[:at] + checksum(pseudo + body) + body[at + 2:]
    if len(to) == 16:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, hops) + source + to + body
    header = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(body), 0, hops, protocol, 0) + source + to
    return header[:10] + checksum(header) + header[12:] + body


def udp(source, to, sport, dport, data):
    body = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    return packet(source, to, 17, body, 6)


def tcp(source, to, sport, dport, flags, sequence, acknowledgement, data=b""):
    numbers = sequence % 2**32, acknowledgement % 2**32
    body = struct.pack("!HHIIBBHHH", sport, dport, *numbers, 0x50, flags, 65_000, 0, 0) + data
    return packet(source, to, 6, body, 16)


def icmp(source, to, kinds, code, body):
    """`kinds`: the ICMP type and the ICMPv6 type."""
    v6 = ":" in to
    body = struct.pack("!BBH", kinds[v6], code, 0) + body
    return packet(source, to, 58 if v6 else 1, body, 2, 255)


def ethernet(to, source, destination, payload):
    """`destination` is an IP address: groups and broadcasts have hardware addresses too."""
    ip = ipaddress.ip_address(destination)
    if ip.version == 6 and ip.is_multicast:
        to = "3333" + ip.packed[-4:].hex()
    elif ip.version == 4 and ip.is_multicast:
        to = "01005e" + bytes([ip.packed[1] & 0x7F, *ip.packed[2:]]).hex()
    elif destination in BROADCASTS:
        to = "ff" * 6
    return mac(to) + mac(source) + (b"\x86\xdd" if ip.version == 6 else b"\x08\x00") + payload


def approach(kind, by, source, to, sport=None, dport=7, flows=1):
    """A gateway's frames, one a flow."""
    for flow in range(flows):
        mine = ports.setdefault((source, to, flow), sport or 40_001 + len(ports))
        link, ends = links[by], (source, to, mine, dport)
        send = lambda payload: inject(by, ethernet(link.near, link.far, to, payload))
        if kind == "opening" and PROTOCOL != 6:
            send(udp(*ends, TOKEN) if PROTOCOL == 17 else packet(source, to, PROTOCOL, TOKEN))
        elif kind in ("opening", "syn"):
            send(tcp(*ends, SYN, 1000, 0))
            if kind == "opening" and connection(*ends):
                send(tcp(*ends, PSH | ACK, *connection(*ends), TOKEN))
        elif kind == "echo-request":
            send(icmp(source, to, (8, 128), 0, struct.pack("!HH", 7, 1) + TOKEN))
        elif kind == "who-has":
            ask(by, source, to)
        elif kind in ("redirect", "too-big"):
            send(complain(by, to, kind == "redirect"))
        elif connection(*ends):
            sequence, acknowledgement = connection(*ends)
            sequence -= FAR if kind == "stale-ack" else 0
            acknowledgement += FAR if kind == "bad-ack" else 0
            flags = {"fin": FIN | ACK, "rst": RST | ACK, "data": PSH | ACK}.get(kind, ACK)
            data = TOKEN if kind == "data" else b""
            send(tcp(*ends, flags, sequence, acknowledgement, data))
        else:
            sys.exit(f"there is no connection to continue: the host has not answered {source}")


def connection(source, to, sport, dport):
    """The next sequence number and acknowledgement, from the host's own segments."""
    barrier()
    sequence, acknowledgement = 1000, None
    for _, frame in frames:
        ip = decode(frame)
        if not ip or ip.protocol != 6 or (ip.source, ip.to) != (to, source) or ip.offset:
            continue
        theirs, mine, first, confirmed, length, flags = struct.unpack("!HHIIBB", ip.body[:14])
        if (theirs, mine) == (dport, sport) and not flags & RST:
            size = len(ip.body) - (length >> 4) * 4 + bool(flags & SYN) + bool(flags & FIN)
            acknowledgement = first + size
            sequence = confirmed if flags & ACK else sequence
    return None if acknowledgement is None else (sequence, acknowledgement)


def ask(by, source, to):
    """An ARP request or a neighbour solicitation, which is sent to the address itself."""
    link = links[by]
    if ":" in to:
        body = bytes(4) + address(to) + b"\1\1" + mac(link.far)
        payload = icmp(source, to, (0, 135), 0, body)
        return inject(by, ethernet(link.near, link.far, to, payload))
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    body += mac(link.far) + address(source) + bytes(6) + address(to)
    inject(by, (b"\xff" * 6 + mac(link.far) + b"\x08\x06" + body).ljust(60, b"\0"))


def complain(by, to, redirect):
    """An ICMP error of the gateway's that quotes the last packet that its link has carried."""
    barrier()
    own = [frame for at, frame in frames if at == by]
    if not own:
        sys.exit(f"{links[by].name} has carried nothing that an ICMP error could quote")
    quoted, gateway = own[-1][14:], links[by].gateway
    other = (ipaddress.ip_address(gateway) + 1).packed
    if ":" in gateway:
        if redirect:
            return icmp(gateway, to, (0, 137), 0, bytes(4) + other + quoted[24:40])
        return icmp(gateway, to, (0, 2), 0, struct.pack("!I", 1400) + quoted[:48])
    if redirect:
        return icmp(gateway, to, (5, 0), 1, other + quoted[:28])
    return icmp(gateway, to, (3, 0), 4, struct.pack("!HH", 0, 1400) + quoted[:28])


def advertise(by, prefix=None, route=None, default=False):
    """A router advertisement (RFC 4861, RFC 4191). Prefixes: address and length."""
    body = struct.pack("!BBHII", 64, 0, 1800 if default else 0, 0, 0)
    if prefix:
        body += struct.pack("!BBBBIII", 3, 4, prefix[1], 0x80, 1800, 1800, 0) + address(prefix[0])
    if route:
        body += struct.pack("!BBBBI", 24, 3, route[1], 0, 1800) + address(route[0])
    body += b"\1\1" + mac(links[by].far)
    payload = icmp("fe80::9", "ff02::1", (0, 134), 0, body)
    inject(by, ethernet(links[by].near, links[by].far, "ff02::1", payload))


def multicast_route(group, sources, by, to):
    """MRT_INIT, MRT_ADD_VIF, MRT_ADD_MFC (linux/mroute.h, linux/mroute6.h)."""
    v6 = ":" in group
    level = IPPROTO_IPV6 if v6 else IPPROTO_IP
    if not held or getattr(held[-1], "proto", 0) not in (2, 58):
        held.append(socket(AF_INET6, SOCK_RAW, 58) if v6 else socket(AF_INET, SOCK_RAW, 2))
        held[-1].setsockopt(level, 200, 1)
    for at in (by, to):
        index = links[at].index
        vif = struct.pack("=HBBHxxI", at, 0, 1, index, 0) if v6 else b""
        vif = vif or struct.pack("=HBBIi4x", at, 8, 1, 0, index)
        try:
            held[-1].setsockopt(level, 202, vif)
        except OSError as error:  # another route has it already
            assert error.errno == errno.EADDRINUSE
    for source in sources:
        ends = [address(source), address(group)]
        if v6:
            ends = [struct.pack("=HHI16sI", AF_INET6, 0, 0, end, 0) for end in ends]
            rest = struct.pack("=Hxx32s", by, (1 << to).to_bytes(32, "little"))
        else:
            rest = struct.pack("=H32s2x16x", by, bytes(at == to for at in range(32)))
        held[-1].setsockopt(level, 204, b"".join(ends) + rest)


def sll(index, kind=0):
    """A struct sockaddr_ll, by index: Python would look a name up first."""
    return struct.pack("=HHiHBB8s", AF_PACKET, htons(kind), index, 0, 0, 0, b"")


def bind_to(s, to):
    if libc.bind(s.fileno(), to, len(to)):
        raise OSError(ctypes.get_errno(), "bind")


def send_to(s, frame, to):
    if libc.sendto(s.fileno(), frame, len(frame), 0, to, len(to)) < 0:
        raise OSError(ctypes.get_errno(), "sendto")


def sxdp(index):
    """A struct sockaddr_xdp: the first queue of the device, frames copied (XDP_COPY)."""
    return struct.pack("=HHIII", 44, 2, index, 0, 0)


def xdp_socket():
    """An AF_XDP socket that only sends (linux/if_xdp.h): memory, and the rings it insists on."""
    s = socket(44, SOCK_RAW, 0)
    memory = mmap.mmap(-1, 8192)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    s.setsockopt(283, 4, struct.pack("=QQII", start, 8192, 4096, 0))  # XDP_UMEM_REG
    for ring in (5, 6, 3):  # XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING
        s.setsockopt(283, ring, 2)
    producer, _, slots, _ = struct.unpack("=16Q", s.getsockopt(283, 1, 128))[4:8]
    ring = mmap.mmap(s.fileno(), slots + 32, offset=0x80000000)  # XDP_PGOFF_TX_RING
    rings[s] = memory, ring, producer, slots
    return s


def xdp_send(s, frame):
    memory, ring, producer, slots = rings[s]
    memory[:len(frame)] = frame
    ring[slots:slots + 16] = struct.pack("=QII", 0, len(frame), 0)
    ring[producer:producer + 4] = struct.pack("=I", 1)
    if libc.sendto(s.fileno(), None, 0, MSG_DONTWAIT, None, 0) < 0:
        raise OSError(ctypes.get_errno(), "sendto")


def await_frame(at):
    """Waits for one more frame by this link, sent by a timer or a workqueue of the kernel's."""
    deadline = time.monotonic() + 2.5
    wanted = awaited.get(at, 0) + 1
    while sum(link == at for link, _ in frames) < wanted:
        if time.monotonic() > deadline:
            raise timeout("no frame")
        collect(max(0, deadline - time.monotonic()))
    awaited[at] = wanted


def run(*words):
    subprocess.run(words, check=True)


def refusing(name, line):
    """A call that must be refused with this error, and then goes on."""
    try:
        exec(line, globals())
    except OSError as error:
        print("   ", errno.errorcode.get(error.errno, str(error.errno)))
        if errno.errorcode.get(error.errno) == name:
            return
    sys.exit("it was to be refused with " + name)


def disconnect(s):
    """connect(2) to AF_UNSPEC."""
    if libc.connect(s.fileno(), bytes(16), 16):
        raise OSError(ctypes.get_errno(), "connect")


def passed(s):
    """The same socket by another descriptor, sent over a UNIX socket (SCM_RIGHTS)."""
    near_end, far_end = socketpair(AF_UNIX)
    send_fds(near_end, [b"s"], [s.fileno()])
    descriptor = recv_fds(far_end, 1, 1)[1][0]
    near_end.close(), far_end.close(), s.close()
    return socket(fileno=descriptor)


def drop_privileges():
    """Without CAP_NET_ADMIN and CAP_NET_RAW (capget, capset: linux/capability.h)."""
    get, put = {"x86_64": (125, 126)}.get(os.uname().machine, (90, 91))
    header, sets = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    if libc.syscall(get, header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("6I", sets.raw))
    words[0] &= ~(1 << 12 | 1 << 13)
    if libc.syscall(put, header, struct.pack("6I", *words)):
        raise OSError(ctypes.get_errno(), "capset")


def go_to(place):
    """The namespace of the host, 0, or another, 1, which is made when it is first needed."""
    if not spaces:
        spaces.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        if libc.unshare(0x40000000):  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "unshare")
        spaces.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
    if libc.setns(spaces[place], 0):
        raise OSError(ctypes.get_errno(), "setns")


def device(at):
    return names.get(at, links[at].name)


def move(at, to, index=None):
    """Moves a device to the other namespace and perhaps to another index (RTM_SETLINK)."""
    go_to(1 - to)
    s = socket(AF_NETLINK, SOCK_RAW, 0)
    body = struct.pack("=BxHiII", 0, 0, indices.get(at, links[at].index), 0, 0)
    body += struct.pack("=HHI", 8, 28, spaces[to])  # IFLA_NET_NS_FD
    body += struct.pack("=HHI", 8, 49, index) if index else b""  # IFLA_NEW_IFINDEX
    s.send(struct.pack("=IHHII", 16 + len(body), 19, 5, 1, 0) + body)
    error = -struct.unpack("=i", s.recv(4096)[16:20])[0]
    s.close()
    go_to(0)
    if error:
        sys.exit(f"{device(at)} cannot be moved: {os.strerror(error)}")
    indices[at] = index or indices.get(at, links[at].index)


def set_link(at, state):
    """`down`, `unplugged`, `bare` or `gone`, or `back` from it."""
    endings[:] = [lambda: revive()]
    far = ["ip", "-n", sys.argv[2 + at], "link", "set", "dev", links[at].name]
    own = ["ip", "link", "set", "dev", device(at)]
    # Without ARP an IPv6 device joins no groups, which it would report on the wire.
    up = (["arp", "off"] if ":" in links[at].gateway else []) + ["up"]
    was, states[at] = states.get(at, "back"), state
    if state == "down":
        run(*own, "down")
    elif state == "unplugged":
        run(*far, "down")
        carrier(at, False)
    elif state == "bare":
        run("ip", "addr", "flush", "dev", device(at))
    elif state == "gone":
        move(at, 1)
    elif was != "back":
        if was == "gone":
            move(at, 0)
        if was == "unplugged":
            run(*far, "up")
        run(*own, *up)
        carrier(at, True)


def carrier(at, wanted):
    """Waits until the kernel knows that a device has a carrier, or has none (IFF_RUNNING)."""
    deadline = time.monotonic() + 10
    with socket(AF_INET, SOCK_DGRAM) as s:
        while time.monotonic() < deadline:
            flags = fcntl.ioctl(s, 0x8913, struct.pack("16s24x", device(at).encode()))
            if bool(flags[16] & 0x40) == wanted:
                return
    sys.exit(f"waited for the carrier of {device(at)} in vain")


def in_use(address):
    """Waits until an IPv6 address is in use, which a workqueue sees to."""
    show = ["ip", "-6", "route", "show", "table", "local", address]
    for _ in range(999):
        if subprocess.run(show, capture_output=True).stdout:
            return
    sys.exit(f"waited for {address} in vain")


def rename(at, name):
    endings[:] = [lambda: revive()]
    run("ip", "link", "set", "dev", device(at), "name", name)
    names[at] = name


def reindex(at, index):
    """Takes a device away, and back with this index."""
    move(at, 1)
    move(at, 0, index)
    states[at] = "gone"
    up = (["arp", "off"] if ":" in links[at].gateway else []) + ["up"]
    run("ip", "link", "set", "dev", device(at), *up)
    carrier(at, True)
    endings[:] = [lambda: revive()]
    states[at] = "back"


def revive():
    """Gives every device its index, name and carrier back, so that the wires can be drained."""
    go_to(0)
    for at, link in enumerate(links):
        if indices.get(at, link.index) != link.index:
            move(at, 1, link.index)
            states[at] = "gone"
    renamed = [at for at, link in enumerate(links) if device(at) != link.name]
    for back in (False, True):  # they may have been swapped
        for at in renamed:
            go_to(states.get(at) == "gone")
            run("ip", "link", "set", "dev", device(at), "down")
            run("ip", "link", "set", "dev", device(at), "name", links[at].name if back else f"airtight-{at}")
            names[at] = links[at].name if back else f"airtight-{at}"
            go_to(0)
            if states.get(at, "back") in ("back", "bare"):
                states[at] = "down"
    for at, link in enumerate(links):
        if states.get(at, "back") not in ("back", "bare"):
            set_link(at, "back")
        near[at].close()
        near[at] = packet_socket(link, ETH_P_SENTINEL)


def attempt(steps, flows=1):
    """Makes the calls, line by line, up to the first that is refused, and tells its errno."""
    refused, scope = None, globals()
    for flow in range(flows):
        for step in steps.strip().split("\n\n"):
            for line in step.splitlines() if not refused else []:
                if flow == 0:
                    print(">>>", line, flush=True)
                try:
                    exec(line, scope)
                except OSError as error:
                    if error.errno not in (None, errno.EINPROGRESS):
                        refused = errno.errorcode.get(error.errno, str(error.errno))
                        print("   ", refused)
                    else:  # our own 0.2 s are over: the next step is made all the same
                        print("    nothing yet")
                    break
        kept.extend(s for s in list(scope.values()) if isinstance(s, socket))
    for s in kept:
        reset(s)
    for ending in endings:
        ending()
    barrier()
    return refused


def decode(frame):
    """The IP packet in a frame, or None."""
    kind, ip = frame[12:14], frame[14:]
    if kind == b"\x81\x00":
        kind, ip = frame[16:18], frame[18:]
    if kind == b"\x08\x00" and len(ip) >= 20:
        total, offset = struct.unpack("!HxxH", ip[2:8])
        body = ip[(ip[0] & 15) * 4:total]
        return Packet(shown(ip[12:16]), shown(ip[16:20]), ip[9], (offset & 0x1FFF) * 8, body)
    if kind != b"\x86\xdd" or len(ip) < 40:
        return None
    protocol, offset, body = ip[6], 0, ip[40:40 + struct.unpack("!H", ip[4:6])[0]]
    while protocol in (0, 43, 44, 60) and len(body) >= 8:
        offset = struct.unpack("!H", body[2:4])[0] & ~7 if protocol == 44 else offset
        protocol, body = body[0], body[8 if protocol == 44 else 8 + 8 * body[1]:]
    return Packet(shown(ip[8:24]), shown(ip[24:40]), protocol, offset, body)


def neighbour(frame):
    ip = decode(frame)
    discovery = ip and ip.protocol == 58 and ip.body[:1] in (b"\x87", b"\x88")
    return frame[12:14] == b"\x08\x06" or bool(discovery)


def describe(frame):
    ip = decode(frame)
    if frame[12:14] == b"\x08\x06" and len(frame) >= 42:
        sender, target = shown(frame[28:32]), shown(frame[38:42])
        asks = frame[20:22] == b"\0\1"
        is_at = f"ARP {sender} is-at {frame[22:28].hex(':')}"
        return f"ARP who-has {target} tell {sender}" if asks else is_at
    if not ip:
        return f"ethertype 0x{frame[12:14].hex()} (len {len(frame)})"
    ends = f"{ip.source} > {ip.to}"
    if ip.offset or len(ip.body) < 8 or ip.protocol not in (1, 6, 17, 58):
        at = f" fragment at {ip.offset}" if ip.offset else ""
        return f"protocol {ip.protocol}{at} {ends} (len {len(ip.body)})"
    if ip.protocol in (1, 58):
        names = {(1, 0): "echo reply", (1, 3): "unreachable", (1, 8): "echo request",
                 (58, 1): "unreachable", (58, 128): "echo request", (58, 129): "echo reply",
                 (58, 133): "router solicitation", (58, 135): "neighbour solicitation",
                 (58, 136): "neighbour advertisement", (58, 143): "MLDv2 report"}
        name = names.get((ip.protocol, ip.body[0]), f"type {ip.body[0]}")
        return f"ICMP{'v6' if ip.protocol == 58 else ''} {name} {ends} (len {len(ip.body) - 8})"
    sport, dport = struct.unpack("!HH", ip.body[:4])
    show = (lambda host, port: f"[{host}]:{port}") if ":" in ip.to else "{}:{}".format
    ends = f"{show(ip.source, sport)} > {show(ip.to, dport)}"
    if ip.protocol == 17:
        return f"UDP {ends} (len {len(ip.body) - 8})"
    flags = "".join(letter for letter, bit in zip("FSRP.", (1, 2, 4, 8, 16)) if ip.body[13] & bit)
    return f"TCP {ends} [{flags}] (len {len(ip.body) - (ip.body[12] >> 4) * 4})"


def outcome(refused, received, reception):
    strays = [link.name for at, link in enumerate(links)
              if not link.intended and any(at == by for by, _ in frames)]
    error = f" with {refused}" if refused else ""
    if reception:
        return "delivered" if received else "refused" + error
    if strays:
        return "leaked through " + ", ".join(strays)
    if frames:
        only = all(neighbour(frame) for _, frame in frames)
        return "contained (neighbour traffic only)" if only else "contained"
    if refused:
        return "refused" + error
    if received is False:
        return "none: the request did not reach the socket, which had nothing to answer"
    return "silent"


def report(refused, reception):
    print()
    for at, link in enumerate(links):
        own = [frame for by, frame in frames if by == at]
        for frame in own:
            print(f"{link.name}: {describe(frame)}\n    {frame.hex()}")
        if not own:
            print(f"{link.name}: no frame")
    print("outcome:", outcome(refused, globals().get("received"), reception))
