"""Words that several places print."""

import pytest

from carousel_exporter.wording import counted, first_line, tiny


def test_counts_have_their_plural():
    assert [counted(n, "axis") for n in (1, 2)] == ["1 axis", "2 axes"]
    assert [counted(n, "step") for n in (0, 1)] == ["0 steps", "1 step"]


def test_a_difference_is_one_digit():
    assert [tiny(value) for value in (0.0, 2.04e-6)] == ["0", "2e-06"]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Cut off.\nMore of it.", "Cut off"),
        ("", "ValueError"),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got no 'x'", "Got no 'x'"),
        (
            "[ONNXRuntimeError] : 1 : FAIL : /src/core/graph/load.h:46 void ns::check(int, char&) "
            "Opset 99 is new.",
            "Opset 99 is new",
        ),
    ],
    ids=["two lines", "none", "code", "place"],
)
def test_an_error_is_its_first_line(message, line):
    assert first_line(ValueError(message)) == line
