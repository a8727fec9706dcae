# SPDX-License-Identifier: Apache-2.0
# ICMP from a client: echo requests that are counted back, and the errors that a router on the way would send about
# packets of given flows. Raw sockets, which Node does not have.
#   echo SECONDS|- INTERVAL DST...    one request to each DST every INTERVAL seconds; "-" = until stdin ends
#   error COUNT|- INTERVAL FLOW...    FLOW = CLIENT,CPORT,VIP,VPORT,tcp|udp; "too big" about a packet from VIP to CLIENT
# Prints one JSON object: sent and received (echo) or sent (error) by destination or flow.
import json
import os
import select
import socket
import struct
import sys
import time

PROTOCOL = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
NEXT_HOP_MTU = 1500
DRAIN_SECONDS = 1.0


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def raw(six):
    if six:
        return socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def icmp(six, kind, code, rest):
    # The kernel fills in the checksum of ICMPv6.
    head = struct.pack("!BBH", kind, code, 0)
    return head + rest if six else struct.pack("!BBH", kind, code, checksum(head + rest)) + rest


def wants_more(limit, begin, rounds, by_count):
    if limit == "-":
        return not select.select([sys.stdin], [], [], 0)[0]
    return rounds < int(limit) if by_count else time.monotonic() < begin + float(limit)


def collect(sockets, ident, received, timeout):
    for s in select.select(list(sockets), [], [], timeout)[0]:
        packet, source = s.recvfrom(2048)
        six = sockets[s]
        body = packet if six else packet[(packet[0] & 15) * 4:]
        if body[0] == (129 if six else 0) and struct.unpack("!H", body[4:6])[0] == ident:
            received.setdefault(source[0], set()).add(struct.unpack("!H", body[6:8])[0])


def echo(limit, interval, destinations):
    ident = os.getpid() & 0xFFFF
    sockets = {raw(six): six for six in {":" in d for d in destinations}}
    by_family = {six: s for s, six in sockets.items()}
    begin, rounds, received = time.monotonic(), 0, {}
    while rounds < 65535 and wants_more(limit, begin, rounds, False):
        for d in destinations:
            six = ":" in d
            body = struct.pack("!HH", ident, rounds) + b"xdpilot-echo-0123456789"
            by_family[six].sendto(icmp(six, 128 if six else 8, 0, body), (d, 0))
        rounds += 1
        due = begin + rounds * interval
        while time.monotonic() < due:
            collect(sockets, ident, received, max(0, due - time.monotonic()))
    end = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < end and any(len(received.get(d, ())) < rounds for d in destinations):
        collect(sockets, ident, received, 0.05)
    return {d: {"sent": rounds, "received": len(received.get(d, ()))} for d in destinations}


def quoted(client, client_port, vip, vip_port, protocol):
    """The packet from vip to client that the error is about: IP header and the first 8 bytes behind it."""
    ports = struct.pack("!HHL", int(vip_port), int(client_port), 0)
    if ":" in vip:
        addresses = socket.inet_pton(socket.AF_INET6, vip) + socket.inet_pton(socket.AF_INET6, client)
        return struct.pack("!LHBB", 6 << 28, 1460, PROTOCOL[protocol], 64) + addresses + ports
    addresses = socket.inet_aton(vip) + socket.inet_aton(client)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 1500, 1, 0x4000, 64, PROTOCOL[protocol], 0) + addresses
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + ports


def error(limit, interval, flows):
    begin, rounds = time.monotonic(), 0
    sockets = {six: raw(six) for six in (False, True)}
    while wants_more(limit, begin, rounds, True):
        for flow in flows:
            client, client_port, vip, vip_port, protocol = flow.split(",")
            six = ":" in vip
            quote = quoted(client, client_port, vip, vip_port, protocol)
            body = struct.pack("!L", NEXT_HOP_MTU) + quote
            sockets[six].sendto(icmp(six, 2 if six else 3, 0 if six else 4, body), (vip, 0))
        rounds += 1
        time.sleep(max(0, begin + rounds * interval - time.monotonic()))
    return {flow: rounds for flow in flows}


what, how_long, pause, *targets = sys.argv[1:]
print(json.dumps((echo if what == "echo" else error)(how_long, float(pause), targets)))
