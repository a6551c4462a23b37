"""Words that several places print."""

from __future__ import annotations

import re
from typing import Final

#: As in "[ONNXRuntimeError] : 1 : FAIL : /src/graph.cc:46 void check(int) That is".
_CODE: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACE: Final = re.compile(r"^\S+\.(?:h|cc):\d+ .*?\) (?=[A-Z\[])")


def steps(count: int) -> str:
    """Return "1 step", "2 steps" and so on."""
    return counted(count, "step")


def counted(count: int, noun: str) -> str:
    """Return "1 cell", "2 cells", "2 axes", "2 classes" and so on."""
    plural = f"{noun[:-2]}es" if noun.endswith("is") else f"{noun}s"
    if noun.endswith("ss"):
        plural = f"{noun}es"
    return f"{count} {noun if count == 1 else plural}"


def tiny(value: float) -> str:
    """Return a difference in one digit, such as 2e-06, and "0" for none."""
    return f"{value:.0e}" if value else "0"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, without a full stop, for a sentence.

    What ONNX Runtime puts before it, its own name, a code and a place in C++, is left out.
    """
    line = (str(error).splitlines() or [""])[0]
    line = _PLACE.sub("", _CODE.sub("", line)).strip().rstrip(".")
    return line or type(error).__name__
