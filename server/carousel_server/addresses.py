"""HOST:PORT, and who can reach it."""

from __future__ import annotations

import ipaddress


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT" or "[IPV6]:PORT".

    Raises:
        ValueError: it is neither.

    """
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    # An IPv6 address has colons of its own, so it needs its brackets; nothing else has them.
    if host != (f"[{bare}]" if ":" in bare else bare) or not bare or " " in bare:
        colon = ""
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{address!r} is no HOST:PORT")
    return bare, int(port)


def is_unspecified(host: str) -> bool:
    """Return whether the host stands for every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host's address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def join_address(host: str, port: int) -> str:
    """Return HOST:PORT, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
