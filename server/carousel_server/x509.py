"""When a certificate ends: the one thing that the standard library can't tell of it.

A certificate is DER (ITU-T X.690): nested values of a tag, a length and contents, in the order that
RFC 5280 gives in its section 4.1.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime

_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\s(.+?)-----END CERTIFICATE-----", re.DOTALL | re.ASCII
)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18


def not_after(pem: bytes) -> float:
    """Return when the first certificate of a PEM file ends, in seconds since 1970.

    Raises:
        ValueError: there is none, or it can't be read.

    """
    found = _PEM.search(pem)
    if not found:
        raise ValueError("it holds no certificate in PEM form")
    try:
        return _not_after(base64.b64decode(found[1]))
    except (IndexError, StopIteration, ValueError) as error:
        raise ValueError("its first certificate can't be read") from error


def _not_after(der: bytes) -> float:
    _, certificate = next(_values(der))
    _, to_be_signed = next(_values(certificate))
    fields = [*_values(to_be_signed)]
    # Version (left out where it is 1), serial number, signature, issuer, validity, ...
    _, validity = fields[4 if fields[0][0] == _VERSION else 3]
    _, (kind, end) = _values(validity)
    text = end.decode("ascii")
    if kind == _UTC_TIME:  # two digits of the year: 50 and above are the 20th century's
        text = ("19" if text >= "50" else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError(kind)
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the values that stand one after the other: (tag, contents)."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:  # so many bytes hold the length
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size])
            at += size
        if at + length > len(der):
            raise ValueError(length)
        yield tag, der[at : at + length]
        at += length
