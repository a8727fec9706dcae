# SPDX-License-Identifier: Apache-2.0
# A sender that discovers the path MTU, as QUIC does: sends datagrams of a full frame that must not be fragmented until
# the kernel has been told that they are too long, then one that fits, and waits for its answer. Arguments: port,
# addresses. Prints a JSON list of { target, mtu, answer }; mtu is null when nobody said anything in time.
import json
import socket
import sys
import time

LINK_MTU = 1500
UDP_HEADER = 8
# linux/in.h and linux/in6.h
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO, IPV6_MTU = 23, 2, 24
DEADLINE_SECONDS = 5.0


def discover(target, port):
    six = ":" in target
    header = (40 if six else 20) + UDP_HEADER
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    s.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, IPV6_PMTUDISC_DO if six else IP_PMTUDISC_DO)
    s.connect((target, port))
    end, mtu = time.monotonic() + DEADLINE_SECONDS, None
    while mtu is None and time.monotonic() < end:
        try:
            s.send(b"x" * (LINK_MTU - header))
            time.sleep(0.02)
        except OSError:
            mtu = s.getsockopt(level, IPV6_MTU if six else IP_MTU)
    if mtu is None:
        return {"target": target, "mtu": None, "answer": None}
    s.settimeout(DEADLINE_SECONDS)
    answer = ""
    while not answer.startswith("y") and time.monotonic() < end:
        try:
            s.send(b"y" * (mtu - header))
            answer = s.recv(4096).decode()
        except OSError as e:
            # Word of an earlier datagram that was too long.
            answer = str(e)
    return {"target": target, "mtu": mtu, "answer": answer.lstrip("y").strip()}


print(json.dumps([discover(target, int(sys.argv[1])) for target in sys.argv[2:]]))
