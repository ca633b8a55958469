# SPDX-License-Identifier: GPL-2.0-or-later
"""DNS messages, sound and hostile. What a sound one says is dnslib's word, an implementation of its own."""

from __future__ import annotations

import struct
import time
from typing import Any

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.network.dns_message import decode

ZONE = """
www.example.com. 300 IN CNAME a.cdn.example.net.
a.cdn.example.net. 60 IN A 192.0.2.1
a.cdn.example.net. 60 IN A 192.0.2.2
a.cdn.example.net. 60 IN AAAA 2001:db8::7
example.com. 60 IN MX 10 mail.example.com.
example.com. 60 IN NS ns.example.com.
1.2.0.192.in-addr.arpa. 60 IN PTR host.example.com.
_sip._udp.example.com. 60 IN SRV 1 2 5060 sip.example.com.
example.com. 60 IN TXT "v=spf1 -all" "two"
example.com. 60 IN SOA ns.example.com. root.example.com. 1 2 3 4 5
"""


def response(zone: str = ZONE, question: str = "www.example.com", kind: str = "A") -> dnslib.DNSRecord:
    """What a server answers with these records, names compressed."""
    reply = dnslib.DNSRecord.question(question, kind).reply()
    for record in dnslib.RR.fromZone(zone):
        reply.add_answer(record)
    return reply


def told(message: bytes) -> dict[str, Any]:
    return decode(message, len(message))


def test_every_type() -> None:
    """A, AAAA, CNAME, MX, NS, PTR, SRV, TXT and SOA are told as they are in the zone, through compressed names."""
    found = told(bytes(response().pack()))
    assert "malformed" not in found
    assert [(each["name"], each["type"], each["class"], each["ttl"]) for each in found["answers"]] == [
        (str(record.rname).rstrip("."), dnslib.QTYPE[record.rtype], "IN", record.ttl)
        for record in dnslib.RR.fromZone(ZONE)
    ]
    assert [each["data"] for each in found["answers"]] == [
        "a.cdn.example.net",
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::7",
        "10 mail.example.com",
        "ns.example.com",
        "host.example.com",
        "1 2 5060 sip.example.com",
        '"v=spf1\\032-all" "two"',
        "ns.example.com root.example.com 1 2 3 4 5",
    ]
    assert found["resolved"] == ["192.0.2.1", "192.0.2.2", "2001:db8::7"]
    assert found["answers_text"].startswith("www.example.com CNAME a.cdn.example.net; a.cdn.example.net A 192.0.2.1;")


def test_the_header_and_the_question() -> None:
    """Id, flags, codes and the question are those of the message."""
    reply = response("", "Example.org", "AAAA")
    reply.header.id, reply.header.rcode, reply.header.aa, reply.header.ra = 4711, 3, 1, 0
    found = told(bytes(reply.pack()))
    assert (found["id"], found["qr"], found["opcode"], found["rcode"]) == (4711, 1, 0, 3)
    assert (found["rcode_name"], found["opcode_name"], found["header_flags"]) == ("NXDOMAIN", "QUERY", ["AA", "RD"])
    assert (found["query"], found["qtype"], found["qclass"]) == ("Example.org", "AAAA", "IN")
    assert "answers" not in found
    assert "malformed" not in found


def test_edns() -> None:
    """The response code's upper bits come from the OPT record, which is no answer."""
    reply = response("", "example.org")
    reply.add_ar(dnslib.EDNS0(udp_len=1232, ext_rcode=1))
    found = told(bytes(reply.pack()))
    assert (found["rcode"], found["rcode_name"]) == (16, "BADVERS")
    assert "malformed" not in found


def header(*, questions: int = 0, answers: int = 0, authorities: int = 0, additional: int = 0) -> bytes:
    return struct.pack("!6H", 1, 0x8180, questions, answers, authorities, additional)


def record(name: bytes, kind: int, data: bytes, *, length: int | None = None, number: int = 1) -> bytes:
    return name + struct.pack("!HHIH", kind, number, 60, len(data) if length is None else length) + data


QUESTION = b"\1a\0\0\1\0\1"
NAMELESS = b"\0"

FORWARD, SHORT = "a name points forward", "cut short"
OTHER_LENGTH = "a record of another length than its data"

MALFORMED: dict[str, tuple[bytes, str]] = {
    "half a header": (header()[:7], SHORT),
    "no question": (header(questions=1), SHORT),
    "half a question": (header(questions=1) + QUESTION[:-1], SHORT),
    "counts that lie": (header(questions=1, answers=65535) + QUESTION, SHORT),
    "a name that points at itself": (header(questions=1) + b"\xc0\x0c\0\1\0\1", FORWARD),
    "names that point at each other": (header(questions=1) + b"\xc0\x0e\xc0\x0c\0\1\0\1", FORWARD),
    "a name that points behind the end": (header(questions=1) + b"\xff\xff\0\1\0\1", FORWARD),
    "half a pointer": (header(questions=1) + b"\xc0", SHORT),
    "a label longer than the message": (header(questions=1) + b"\x3fabc", SHORT),
    "a label of another type": (header(questions=1) + b"\x41abc\0\0\1\0\1", "a label of an unknown type"),
    "a long name": (header(questions=1) + (b"\x3f" + b"y" * 63) * 4 + b"\0\0\1\0\1", "a name of over 255 bytes"),
    "too many labels": (header(answers=200) + record(b"\1a" * 100 + b"\0", 5, b"\xc0\x0c") * 200, "too many labels"),
    "an address of 3 bytes": (header(answers=1) + record(NAMELESS, 1, b"\1\2\3"), "an address of another length"),
    "a v6 address for A": (header(answers=1) + record(NAMELESS, 1, bytes(16)), "an address of another length"),
    "data that is not there": (header(answers=1) + record(NAMELESS, 1, b"\1\2", length=4), SHORT),
    "a long text": (header(answers=1) + record(NAMELESS, 16, b"\5ab"), "a text longer than its record"),
    "a name shorter than its record": (header(answers=1) + record(NAMELESS, 5, b"\1a\0xx"), OTHER_LENGTH),
    "a name longer than its record": (header(answers=1) + record(NAMELESS, 5, b"\1a\0", length=1), OTHER_LENGTH),
    "bytes behind the end": (header(questions=1) + QUESTION + b"tunnel", "bytes behind its end"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed(name: str) -> None:
    """A malformed message is said to be that, and why; what stands before the fault is told."""
    message, why = MALFORMED[name]
    found = told(message)
    assert found["malformed"] == why
    assert len(message) < 12 or found["id"] == 1


def test_what_stands_before_the_fault() -> None:
    """Of a message whose second answer is broken, the question and the first answer are told."""
    message = header(questions=1, answers=2) + QUESTION + record(b"\xc0\x0c", 1, b"\x01\x02\x03\x04") + b"\xc0"
    found = told(message)
    assert (found["query"], found["answers_text"], found["malformed"]) == ("a", "a A 1.2.3.4", "cut short")


def test_what_is_only_cut_is_not_malformed() -> None:
    """A message of which we have the beginning alone is not called malformed."""
    message = bytes(response().pack())
    for length in range(12, len(message)):
        found = decode(message[:length], len(message))
        assert "malformed" not in found, length
        assert found["id"] == struct.unpack_from("!H", message)[0]


def test_names_cannot_forge() -> None:
    """Dots, semicolons, spaces, quotes and foreign bytes within a label are numbers: nothing looks like a border."""
    label = b'a.b; c A 6.6.6.6\0"\\\xff'
    message = header(questions=1, answers=1) + bytes([len(label)]) + label + b"\0\0\1\0\1"
    message += record(b"\xc0\x0c", 16, b'\4; x"')
    found = told(message)
    assert found["query"] == r"a\046b\059\032c\032A\0326\0466\0466\0466\000\034\092\255"
    assert found["answers_text"] == found["query"] + r' TXT "\059\032x\034"'
    assert all(" " not in each["name"] and ";" not in each["data"] for each in found["answers"])


def test_multicast() -> None:
    """In multicast DNS an answer stands without a question, and its class with the cache flush bit is IN."""
    name = b"\5_http\4_tcp\5local\0"
    found = told(header(answers=1) + record(name, 12, b"\3web\xc0\x0c", number=0x8001))
    assert "query" not in found
    assert found["answers"] == [
        {"name": "_http._tcp.local", "type": "PTR", "class": "IN", "ttl": 60, "data": "web._http._tcp.local"}
    ]


def test_unknown_types() -> None:
    """Data of an unknown type is told as RFC 3597 has it, up to 64 bytes; the root is a dot."""
    found = told(header(answers=2) + record(NAMELESS, 65280, b"\1\2", number=7) + record(NAMELESS, 65, bytes(100)))
    assert found["answers_text"] == r". TYPE65280 \# 2 0102; . HTTPS \# 100 " + "00" * 64
    assert found["answers"][0]["class"] == "CLASS7"


def test_many_answers() -> None:
    """Of more than 64 answers the first 64 are told, and how many there are."""
    found = told(header(answers=300) + record(NAMELESS, 1, b"\1\2\3\4") * 300)
    assert (len(found["answers"]), found["answers_count"]) == (64, 300)
    assert "malformed" not in found


def test_the_most_that_a_message_can_cost() -> None:
    """The worst messages of 4 KiB that we could think of are decoded within 50 ms."""
    chain = b"".join(struct.pack("!H", 0xC00C + 2 * max(at - 1, 0)) for at in range(1500))
    deep = b"\1a" * 120 + b"\0"
    worst = [
        header(answers=65535) + deep + record(b"\xc0\x0c", 5, b"\xc0\x0c") * 300,
        header(questions=1) + b"\0" + chain[:3000] + record(b"\xcb\x00", 1, b"\1\2\3\4"),
        header(questions=65535) + b"\0\0\1\0\1" * 800,
        header(answers=65535) + record(NAMELESS, 16, b"\0" * 3900),
        header(additional=65535) + record(NAMELESS, 1, b"\1\2\3\4") * 270,
    ]
    for message in worst:
        began = time.process_time()
        told(message[:4096])
        assert time.process_time() - began < 0.05


@given(st.binary(max_size=600), st.integers(0, 700))
def test_any_bytes(message: bytes, size: int) -> None:
    """Whatever the bytes, decoding gives texts, numbers and lists that JSON takes, and never fails."""
    found = decode(message, max(size, len(message)))
    assert len(message) < 12 or found["id"] == int.from_bytes(message[:2], "big")
    assert all(text.isascii() and text.isprintable() for text in found.values() if isinstance(text, str))


@given(st.data())
def test_a_sound_message_with_wrong_bytes(data: st.DataObject) -> None:
    """A sound message with some bytes changed gives what it can, and never fails."""
    message = bytearray(response().pack())
    for _ in range(data.draw(st.integers(1, 8))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    found = told(bytes(message))
    assert len(found.get("answers", [])) <= 64


@given(
    st.lists(
        st.tuples(
            st.lists(st.text("abcdefghij-0123456789", min_size=1, max_size=63), min_size=1, max_size=3),
            st.ip_addresses(v=4),
        ),
        max_size=20,
    )
)
def test_what_dnslib_writes_is_read(records: list[tuple[list[str], Any]]) -> None:
    """Names and addresses that dnslib wrote, compressed, come back."""
    reply = dnslib.DNSRecord.question("x.test").reply()
    for labels, address in records:
        reply.add_answer(dnslib.RR(dnslib.DNSLabel([each.encode() for each in labels]), rdata=dnslib.A(str(address))))
    found = told(bytes(reply.pack()))
    assert "malformed" not in found
    assert [(each["name"], each["data"]) for each in found.get("answers", [])] == [
        (".".join(labels), str(address)) for labels, address in records
    ]
