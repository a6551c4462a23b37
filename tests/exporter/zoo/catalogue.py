"""Forty graphs and more, each for something that graphs in use do, and a way to draw others."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from tests.exporter.zoo.recipe import BATCHES, CELLS, OPERATORS, Recipe


def _extras(*names: str) -> frozenset[str]:
    return frozenset(names)


#: State layouts for cells with h and c; those of one string hold both.
LAYOUTS_TWO: Final = (
    ("LBH",),
    ("BH",),
    ("BLH",),
    ("BHL",),
    ("KBH",),
    ("BKH",),
    ("BHK",),
    ("HB",),
    ("HBK",),
    ("NBH",),
    ("BNH",),
    ("BHN",),
    ("LBHK",),
    ("BLHK",),
    ("KLBH",),
    ("1BH",),
    ("B1H",),
    ("BH1",),
    ("1BH", "BH"),
    ("LBH", "HB"),
    ("BLH", "1HB"),
)
#: State layouts for cells with h alone.
LAYOUTS_ONE: Final = tuple(
    layout for layout in LAYOUTS_TWO if len(layout) == 1 and not set(layout[0]) & set("KN")
)

_LAYOUTS = [
    Recipe(layers=layers, layout=layout, names=names)
    for layout, layers, names in (
        (("LBH",), 2, "torch"),
        (("BH",), 1, "out"),
        (("BH",), 3, "past_present"),
        (("BLH",), 2, "out"),
        (("BHL",), 2, "out"),
        (("KBH",), 1, "n"),
        (("BKH",), 2, "out"),
        (("BHK",), 2, "n"),
        (("HB",), 1, "torch"),
        (("HBK",), 1, "out"),
        (("NBH",), 2, "n"),
        (("BNH",), 3, "n"),
        (("BHN",), 2, "n"),
        (("LBHK",), 2, "unrelated"),
        (("BLHK",), 2, "unrelated"),
        (("KLBH",), 3, "n"),
        (("B1H",), 2, "out"),
        (("BH1",), 1, "past_present"),
        (("1BH", "BH"), 1, "unrelated"),
        (("LBH", "HB"), 2, "torch"),
        (("BLH", "1HB"), 2, "out"),
    )
]
_CELLS = [
    *(Recipe(cell=cell, layers=2, names="torch") for cell in CELLS),
    Recipe(cell="gru", layers=3, layout=("BLH",), form="time_major"),
    Recipe(cell="gru_reset_first", layout=("HB",), form="batch_first"),
    Recipe(cell="rnn_relu", layers=2, layout=("BH",), form="time_major"),
    Recipe(cell="plain_rnn", layout=("BH",), form="time_major"),
    Recipe(cell="plain_lstm", layers=2, layout=("BLHK",), form="batch_first"),
]
_WIDTHS = [
    Recipe(cell="plain_lstm", layers=2, dtype="float64", layout=("BHK",)),
    Recipe(cell="plain_gru", dtype="float64", form="time_major"),
    Recipe(cell="plain_rnn", layers=2, dtype="float16", layout=("BH",)),
    Recipe(cell="plain_gru", dtype="float16", layout=("1BH",), extras=_extras("integer")),
]
_FORMS = [
    Recipe(form="time_major", layers=2, names="torch"),
    Recipe(form="batch_first", layers=2, names="torch"),
    Recipe(form="time_major", steps=1, layout=("BH",)),
    Recipe(form="batch_first", steps=1, layout=("BLHK",), layers=2, batch="one"),
    Recipe(form="batch_first", steps=1, batch="says_one_takes_any", names="unrelated"),
]
_BATCHES = [
    *(Recipe(batch=batch, layers=2) for batch in BATCHES if batch != "any"),
    Recipe(batch="one", form="time_major"),
    Recipe(batch="unnamed", layout=("KBH",), names="n", inputs="rate"),
    Recipe(batch="says_any_fails", form="batch_first"),
    Recipe(batch="says_any_mixes", form="time_major", cell="gru"),
    Recipe(batch="says_one_takes_any", form="time_major", layout=("BLH",), layers=2),
    Recipe(batch="says_any_mixes", cell="plain_lstm", layout=("BHK",)),
]
_INPUTS = [
    Recipe(inputs="tokens", layers=2),
    Recipe(inputs="tokens", form="batch_first", cell="gru", extras=_extras("integer")),
    Recipe(inputs="two"),
    Recipe(inputs="two", form="time_major", layers=2, extras=_extras("integer", "constant")),
    Recipe(inputs="tokens", form="batch_first", steps=1, batch="one", layout=("BH1",), names="n"),
    Recipe(inputs="rate", extras=_extras("states_first")),
    Recipe(inputs="rate", extras=_extras("delay"), layout=("BLH",), names="n"),
]
_EXTRAS = [
    Recipe(extras=_extras("counter")),
    Recipe(extras=_extras("counter", "integer"), form="time_major"),
    Recipe(extras=_extras("counter"), form="batch_first", layout=("BLH",), layers=2),
    Recipe(extras=_extras("delay"), layout=("BH",)),
    Recipe(extras=_extras("delay", "counter", "states_first"), inputs="two", names="torch"),
    Recipe(extras=_extras("features"), layout=("BH",)),
    Recipe(extras=_extras("features", "states_first"), layout=("BH",), cell="gru", names="torch"),
    Recipe(extras=_extras("constant")),
    Recipe(extras=_extras("constant", "integer"), cell="plain_gru", dtype="float64"),
]
_SQUARE = [
    Recipe(square=True, layout=("BH",)),
    Recipe(square=True, layout=("BH",), cell="plain_lstm", names="torch"),
    Recipe(square=True, layout=("BH",), cell="plain_gru", layers=2, names="past_present"),
    Recipe(square=True, layout=("1BH",), cell="rnn_tanh", form="batch_first"),
    Recipe(square=True, layout=("BH",), extras=_extras("delay", "features", "states_first")),
    Recipe(square=True, layout=("BHL",), form="time_major", layers=3, batch="one"),
]
_LENGTHS = [
    Recipe(form="time_major", layers=2, extras=_extras("lengths")),
    Recipe(form="batch_first", cell="gru", layers=2, extras=_extras("lengths", "integer")),
]
_OPSETS = [
    *(Recipe(opset=opset, layers=2, layout=("BLH",)) for opset in (11, 12, 13, 14, 15, 18, 21)),
    Recipe(opset=11, cell="gru", form="batch_first"),
    Recipe(opset=19, cell="plain_lstm", layout=("BHK",), form="time_major"),
    Recipe(opset=20, cell="rnn_tanh", form="time_major"),
    Recipe(opset=22),
    Recipe(opset=22, cell="gru", form="time_major", layers=2),
    Recipe(opset=23, cell="rnn_tanh", inputs="tokens"),
]

#: Every explicit graph, without repetitions.
CATALOGUE: Final = tuple(
    dict.fromkeys(
        [
            *_LAYOUTS,
            *_CELLS,
            *_WIDTHS,
            *_FORMS,
            *_BATCHES,
            *_INPUTS,
            *_EXTRAS,
            *_SQUARE,
            *_LENGTHS,
            *_OPSETS,
        ]
    )
)


@st.composite
def _drawn_extras(draw: st.DrawFn, cell: str, form: str, steps: int) -> frozenset[str]:
    choice = ["constant", "counter", "integer", "states_first"]
    choice += ["delay"] if form == "step" else []
    choice += ["lengths"] if form != "step" and not steps and cell in OPERATORS else []
    extras = frozenset(draw(st.sets(st.sampled_from(choice), max_size=2)))
    # A counter counts padding too: with lengths its graph would be wrong, whoever runs it.
    return extras - {"counter"} if "lengths" in extras else extras


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw a recipe that can be built."""
    cell = draw(st.sampled_from(sorted(CELLS)))
    form = draw(st.sampled_from(["step", "time_major", "batch_first"]))
    layouts = LAYOUTS_TWO if CELLS[cell] == "hc" else LAYOUTS_ONE
    steps = 0 if form == "step" else draw(st.sampled_from([0, 0, 1]))
    return Recipe(
        cell=cell,
        layers=draw(st.integers(1, 3)),
        layout=draw(st.sampled_from(layouts)),
        form=form,
        steps=steps,
        batch=draw(st.sampled_from(sorted(BATCHES))),
        names=draw(st.sampled_from(["out", "torch", "past_present", "n"])),
        dtype="float32"
        if cell in OPERATORS
        else draw(st.sampled_from(["float16", "float32", "float64"])),
        inputs=draw(st.sampled_from(["features", "tokens", "two", "rate"])),
        extras=draw(_drawn_extras(cell, form, steps)),
        square=draw(st.booleans()),
        opset=draw(st.integers(11, 22)),
    )
