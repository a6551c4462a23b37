"""Bytes that are no message: gRPC would end the call with UNKNOWN, the client with a riddle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import message


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Stands for a request that could not be parsed."""

    why: str


def tolerant(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a deserializer that gives `Undecodable` where `decode` fails."""

    def decode_or_say(data: bytes) -> Any:
        try:
            return decode(data)
        except message.DecodeError:
            return Undecodable(f"{len(data)} bytes came that are no such message as was expected")

    return decode_or_say
