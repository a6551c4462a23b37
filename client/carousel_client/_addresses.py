"""Where servers are: what the user gave, and what names stand for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from carousel_client._errors import InvalidInput
from carousel_client._kinds import check_text

#: Where a server listens if nobody says otherwise.
DEFAULT_ADDRESS: Final = "localhost:8001"

_DNS: Final = "dns:///"
_SCHEMES: Final = frozenset({"dns", "unix", "unix-abstract", "vsock", "ipv4", "ipv6", "xds"})


def addresses(given: str | Sequence[str]) -> list[str]:
    """Return the addresses to try, in order.

    Raises InvalidInput where there is none.
    """
    found = [given] if isinstance(given, str) else []
    if not isinstance(given, str | bytes) and isinstance(given, Iterable):
        found = list(given)
    for address in found:
        check_text(address, "an address")
    if not found or not all(found):
        raise InvalidInput(f"expected an address such as {DEFAULT_ADDRESS!r}, or a list of them")
    for address in found:
        _check(address)
    return found


def _check(address: str) -> None:
    """Refuse an address without a port that can be: gRPC would take another one.

    What begins with one of gRPC's other schemes (unix:, ipv4:, xds:///…) is left to it.
    """
    name, colon, port = address.removeprefix(_DNS).rpartition(":")
    scheme = name.partition(":")[0] if ":" in name and "[" not in name else name
    if scheme in _SCHEMES or "/" in name:
        return
    if not (colon and name and port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        raise InvalidInput(
            f"expected an address as HOST:PORT, such as {DEFAULT_ADDRESS!r}, but got {address!r}"
        )


def host_name(address: str) -> str:
    """Return the name of an address that a name server may know many addresses of, or nothing.

    `NAME:PORT` and `dns:///NAME:PORT` have one; IP addresses, and gRPC's other schemes, don't.
    """
    name, colon, port = address.removeprefix(_DNS).rpartition(":")
    if not colon or not port.isdigit() or "/" in name or ":" in name:
        return ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    return ""


def numbered(address: str, found: Iterable[str]) -> list[str]:
    """Return an address by each of the IP addresses that its name has; as it is if it has one."""
    port = address.rpartition(":")[2]
    plain = sorted({ip for ip in found if ":" not in ip})
    if len(plain) > 1:
        return [f"{ip}:{port}" for ip in plain]
    wide = sorted({ip for ip in found if ":" in ip})
    if not plain and len(wide) > 1:
        return [f"[{ip}]:{port}" for ip in wide]
    return [address]
