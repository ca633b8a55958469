# SPDX-License-Identifier: GPL-2.0-or-later
"""DNS messages (RFC 1035) to text, whatever their bytes: bounded in time, and never an error.

A message comes from a stranger. What can be read of it is told, and `malformed` says why the rest cannot:
names may point at each other, counts may promise what is not there. Each pointer must go further back than the
one before it, and a message may have `_MOST_LABELS` labels, pointers counted too; so the work for one is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct
from typing import Any

_HEADER = Struct("!6H")
_QUESTION = Struct("!HH")
_RECORD = Struct("!HHIH")
_PREFERENCE = Struct("!H")
_SERVICE = Struct("!HHH")
_AUTHORITY = Struct("!5I")

_MOST_LABELS = 2000
_MOST_NAME = 255
"""bytes of a name on the wire (RFC 1035, 3.1)"""

_MOST_ANSWERS = 64
"""Answers that are told; the rest is counted by `answers_count`."""

_MOST_DATA = 64
"""bytes of data of an unknown type that are told, in hexadecimal (RFC 3597)"""

_OPT = 41

TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 17: "RP",
    24: "SIG", 25: "KEY", 28: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR", 37: "CERT", 39: "DNAME", 41: "OPT",
    43: "DS", 44: "SSHFP", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3", 52: "TLSA", 64: "SVCB", 65: "HTTPS",
    99: "SPF", 250: "TSIG", 251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip
CLASSES = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
OPCODES = {0: "QUERY", 1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE", 6: "DSO"}
RCODES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET",
    8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI", 16: "BADVERS", 17: "BADKEY", 18: "BADTIME",
    22: "BADTRUNC", 23: "BADCOOKIE",
}  # fmt: skip
_FLAGS = ((0x0400, "AA"), (0x0200, "TC"), (0x0100, "RD"), (0x0080, "RA"), (0x0020, "AD"), (0x0010, "CD"))

_CACHE_FLUSH = 0x8000
"""In a class of multicast DNS (RFC 6762, 10.2): forget other answers; in a question: answer to me alone."""


class _Malformed(Exception):
    """Why the message cannot be read further."""


def _escaped(byte: int) -> str:
    """One byte of a label or text as zone files have it: what could be taken for a separator is a number."""
    char = chr(byte)
    if (char.isalnum() and byte < 0x80) or char in "-_*/+=:@~!#%&,<>?[]{}|^'`":
        return char
    return f"\\{byte:03d}"


_ESCAPED = [_escaped(byte) for byte in range(256)]
_PLAIN = bytes(byte for byte in range(256) if len(_ESCAPED[byte]) == 1)


def _text(raw: bytes) -> str:
    if not raw.translate(None, _PLAIN):
        return raw.decode("ascii")
    return "".join([_ESCAPED[byte] for byte in raw])


class _Reader:
    """The message, where reading it has come to, and what it may still cost."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.at = 0
        self._labels = _MOST_LABELS

    def take(self, fields: Struct) -> tuple[Any, ...]:
        """The next fields."""
        if self.at + fields.size > len(self.message):
            raise _Malformed("cut short")
        values = fields.unpack_from(self.message, self.at)
        self.at += fields.size
        return values

    def name(self) -> str:
        """The next name, without its last dot; "." is the root."""
        message, at = self.message, self.at
        labels: list[str] = []
        size, limit, end = 1, at, 0
        try:
            while length := message[at]:
                self._labels -= 1
                if self._labels < 0:
                    raise _Malformed("too many labels")
                if length >= 0xC0:
                    end = end or at + 2
                    at = (length & 0x3F) << 8 | message[at + 1]
                    if at >= limit:
                        raise _Malformed("a name points forward")
                    limit = at
                elif length >= 0x40:
                    raise _Malformed("a label of an unknown type")
                else:
                    label = message[at + 1 : at + 1 + length]
                    size += length + 1
                    at += length + 1
                    if len(label) < length:
                        raise _Malformed("cut short")
                    if size > _MOST_NAME:
                        raise _Malformed("a name of over 255 bytes")
                    labels.append(_text(label))
        except IndexError:
            raise _Malformed("cut short") from None
        self.at = end or at + 1
        return ".".join(labels) or "."


def _address(family: int, length: int) -> Callable[[_Reader, int], str]:
    def read(reader: _Reader, size: int) -> str:
        if size != length:
            raise _Malformed("an address of another length")
        at = reader.at
        reader.at += size
        return inet_ntop(family, reader.message[at : reader.at])

    return read


def _host(reader: _Reader, _size: int) -> str:
    return reader.name()


def _mail(reader: _Reader, _size: int) -> str:
    (preference,) = reader.take(_PREFERENCE)
    return f"{preference} {reader.name()}"


def _service(reader: _Reader, _size: int) -> str:
    priority, weight, port = reader.take(_SERVICE)
    return f"{priority} {weight} {port} {reader.name()}"


def _start(reader: _Reader, _size: int) -> str:
    names = f"{reader.name()} {reader.name()}"
    return " ".join([names, *map(str, reader.take(_AUTHORITY))])


def _strings(reader: _Reader, size: int) -> str:
    end = reader.at + size
    parts = []
    while reader.at < end:
        length = reader.message[reader.at]
        reader.at += length + 1
        if reader.at > end:
            raise _Malformed("a text longer than its record")
        parts.append(f'"{_text(reader.message[reader.at - length : reader.at])}"')
    return " ".join(parts)


def _unknown(reader: _Reader, size: int) -> str:
    raw = reader.message[reader.at : reader.at + min(size, _MOST_DATA)]
    return f"\\# {size} {raw.hex()}".rstrip()


_DATA: dict[int, Callable[[_Reader, int], str]] = {
    1: _address(AF_INET, 4),
    2: _host,
    5: _host,
    6: _start,
    12: _host,
    15: _mail,
    16: _strings,
    28: _address(AF_INET6, 16),
    33: _service,
    39: _host,
    99: _strings,
}


def _class(number: int) -> str:
    return CLASSES.get(number) or CLASSES.get(number & ~_CACHE_FLUSH) or f"CLASS{number}"


def _type(number: int) -> str:
    return TYPES.get(number) or f"TYPE{number}"


def _record(reader: _Reader) -> tuple[dict[str, Any], int, int]:
    """The next record as ECS names its parts, its type's number and its time to live."""
    name = reader.name()
    kind, class_number, ttl, size = reader.take(_RECORD)
    end = reader.at + size
    if end > len(reader.message):
        raise _Malformed("cut short")
    data = ""
    if kind != _OPT:
        data = _DATA.get(kind, _unknown)(reader, size)
        if kind in _DATA and reader.at != end:
            raise _Malformed("a record of another length than its data")
    reader.at = end
    return {"name": name, "type": _type(kind), "class": _class(class_number), "ttl": ttl, "data": data}, kind, ttl


def decode(message: bytes, size: int) -> dict[str, Any]:
    """What a response says, by the names that `probes.network.dns` gives its fields.

    `message` begins with the id, without the length that TCP puts before it; of its `size` bytes the end may be
    missing. What is not known is left out. `malformed` says in English what is wrong with the message: one that is
    only cut, by us, is not.
    """
    reader = _Reader(message)
    found: dict[str, Any] = {}
    answers: list[dict[str, Any]] = []
    try:
        _decode(reader, found, answers)
        if reader.at < max(size, len(message)):
            raise _Malformed("bytes behind its end")
    except _Malformed as error:
        if len(message) >= size or str(error) != "cut short":
            found["malformed"] = str(error)
    if answers:
        found["answers"] = answers
        found["answers_text"] = "; ".join([f"{each['name']} {each['type']} {each['data']}" for each in answers])
        addresses = [each["data"] for each in answers if each["type"] in {"A", "AAAA"}]
        if addresses:
            found["resolved"] = list(dict.fromkeys(addresses))
    return found


def _decode(reader: _Reader, found: dict[str, Any], answers: list[dict[str, Any]]) -> None:
    number, flags, questions, counted, authorities, additional = reader.take(_HEADER)
    opcode, rcode = flags >> 11 & 15, flags & 15
    found.update(id=number, qr=flags >> 15, opcode=opcode, rcode=rcode, answers_count=counted)
    found.update(application="dns", type="answer" if flags >> 15 else "query")
    found["opcode_name"] = OPCODES.get(opcode, f"OPCODE{opcode}")
    found["rcode_name"] = RCODES.get(rcode, f"RCODE{rcode}")
    found["header_flags"] = [name for bit, name in _FLAGS if flags & bit]
    for at in range(questions):
        name = reader.name()
        kind, class_number = reader.take(_QUESTION)
        if not at:
            found.update(query=name, qtype=_type(kind), qclass=_class(class_number))
    for at in range(counted):
        record, _kind, _ttl = _record(reader)
        if at < _MOST_ANSWERS:
            answers.append(record)
    for _ in range(authorities + additional):
        _, kind, ttl = _record(reader)
        if kind == _OPT:
            # The upper bits of the response code (RFC 6891, 6.1.3).
            found["rcode"] = rcode | ttl >> 24 << 4
            found["rcode_name"] = RCODES.get(found["rcode"], f"RCODE{found['rcode']}")
