"""From a recipe to a graph, and what is true of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx

from tests.exporter.zoo import cells
from tests.exporter.zoo.graph import Dims, Graph
from tests.exporter.zoo.recipe import HIDDEN, RATE, TOKENS, Recipe


@dataclass(frozen=True)
class StateTruth:
    """A state of a graph: its two names, its type, and its shape with `batch` rows on an axis."""

    name: str
    output: str
    dtype: np.dtype
    shape: tuple[int, ...]
    batch_axis: int

    def zeros(self, batch: int = 1) -> np.ndarray:
        shape = [*self.shape]
        shape[self.batch_axis] = batch
        return np.zeros(shape, self.dtype)


@dataclass(frozen=True)
class Animal:
    """A graph, and what is true of it whatever it declares."""

    recipe: Recipe
    model: onnx.ModelProto
    states: tuple[StateTruth, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    takes_lengths: bool

    @property
    def pairs(self) -> set[tuple[str, str]]:
        return {(state.name, state.output) for state in self.states}


def build(recipe: Recipe) -> Animal:
    """Return the graph of a recipe; its weights are drawn from the recipe's name."""
    return _Builder(recipe).animal()


class _Builder:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.g = Graph(recipe.opset)
        self.rng = np.random.default_rng(zlib.crc32(str(recipe).encode()))
        self.states: list[StateTruth] = []
        self.new: list[tuple[StateTruth, str]] = []
        self.given: list[tuple[str, str, np.dtype, list[int]]] = []
        self.inputs: list[str] = []

    def animal(self) -> Animal:
        x = self._mixed(self._input())
        self._answer(x, self._layers(x))
        self._counter()
        self._context(x)
        writers = [self._write_outputs, self._write_states]
        for write in writers[::-1] if "states_first" in self.recipe.extras else writers:
            write()
        return Animal(
            self.recipe,
            self.g.model(),
            tuple(self.states),
            tuple(self.inputs),
            tuple(name for name, *_ in self.given),
            "lengths" in self.recipe.extras,
        )

    # Inputs.

    def _input(self) -> str:
        """Return what the first layer sees, (T, B, F) or (B, F)."""
        r, g = self.recipe, self.g
        if r.inputs == "tokens":
            table = g.constant(self.rng.normal(size=(TOKENS, r.features)), r.kind)
            return g.node("Gather", table, self._declare("token", np.int64), axis=0)
        x = self._declare("x", r.kind, r.features)
        if r.inputs == "two":
            u = self._declare("u", r.kind, 2)
            return g.node("Concat", x, u, axis=-1)
        if r.inputs == "rate":
            self.inputs.append(g.input("rate", np.int64, []))
            share = g.node("Div", "rate", g.constant(RATE // 2))  # 2 where the rate is right
            return g.node("Mul", x, g.node("Cast", share, to=_element(r.kind)))
        return x

    def _declare(self, name: str, dtype: np.dtype | type, *width: int) -> str:
        self.inputs.append(self.g.input(name, np.dtype(dtype), self._dims([*width])))
        if self.recipe.form != "batch_first":
            return name
        letters = "BTF" if width else "BT"
        return self.g.transpose(name, letters, "TB" + letters[2:])

    def _mixed(self, x: str) -> str:
        if self.recipe.batch != "says_any_mixes":
            return x
        axis = 0 if self.recipe.form == "step" else 1
        # As faint as can be told from rounding.
        share = self.g.constant(0.5 if self.recipe.dtype == "float16" else 0.01, self.recipe.kind)
        faint = self.g.node("Mul", self.g.mean(x, axis), share)
        return self.g.node("Add", x, faint)

    # Recurrence.

    def _layers(self, x: str) -> str:
        r = self.recipe
        if "lengths" in r.extras:
            self.g.input("lengths", np.int32, [self._batch_dim()])
        before, after = self._read_states(), {}
        size = r.features + 2 * (r.inputs == "two")
        top = x
        for number in range(r.layers):
            run = cells.layer(self.g, r, size, self.rng)
            top, new = run(top, [before[number, kind] for kind in r.kinds])
            after |= {(number, kind): value for kind, value in zip(r.kinds, new, strict=True)}
            size = HIDDEN
        self._keep_states(after)
        if r.batch in {"one", "says_any_fails"}:
            fixed = [1, HIDDEN] if r.form == "step" else [-1, 1, HIDDEN]
            top = self.g.node("Reshape", top, self.g.constant(fixed))
        return top

    def _read_states(self) -> dict[tuple[int, str], str]:
        """Declare the states, and return the value (B, H) of each layer and kind."""
        values = {}
        for state, layout, members in self._groups():
            self._declare_state(state, layout)
            plain = layout.replace("1", "")
            lead = plain.replace("B", "").replace("H", "")
            ones = [axis for axis, letter in enumerate(layout) if letter == "1"]
            value = self.g.transpose(self.g.squeeze(state.name, ones), plain, f"{lead}BH")
            for place, member in members.items():
                values[member] = value
                for index in place:
                    values[member] = self.g.pick(values[member], index)
        return values

    def _keep_states(self, after: dict[tuple[int, str], str]) -> None:
        for state, layout, members in self._groups():
            plain = layout.replace("1", "")
            lead = plain.replace("B", "").replace("H", "")
            value = self._nested({place: after[m] for place, m in members.items()})
            value = self.g.transpose(value, f"{lead}BH", plain)
            ones = [axis for axis, letter in enumerate(layout) if letter == "1"]
            self.new.append((state, self.g.unsqueeze(value, ones)))

    def _nested(self, values: dict[tuple[int, ...], str]) -> str:
        """Stack values along a new axis for each number of their places."""
        if () in values:
            return values[()]
        firsts = sorted({place[0] for place in values})
        return self.g.stack(
            [self._nested({p[1:]: v for p, v in values.items() if p[0] == n}) for n in firsts]
        )

    def _groups(self):
        """Yield each state, its layout, and which layer and kind lies at which place of it."""
        r = self.recipe
        groups: dict[tuple, dict] = {}
        for number, kind in product(range(r.layers), r.kinds):
            layout, which = r.layout_of(kind), r.kinds.index(kind)
            at = {"L": number, "K": which, "N": number * len(r.kinds) + which}
            whole = "N" in layout
            key = (
                None if whole or "L" in layout else number,
                None if whole or "K" in layout else kind,
            )
            place = tuple(at[letter] for letter in layout if letter in at)
            groups.setdefault((key, layout), {})[place] = (number, kind)
        sizes = {
            "B": 1,
            "1": 1,
            "H": HIDDEN,
            "L": r.layers,
            "K": len(r.kinds),
            "N": r.layers * len(r.kinds),
        }
        for order, (((number, kind), layout), members) in enumerate(groups.items()):
            stem = (kind or "state") + ("" if number is None else str(number))
            name, output = _names(r.names, stem, order, len(groups))
            shape = tuple(sizes[letter] for letter in layout)
            yield StateTruth(name, output, r.kind, shape, layout.index("B")), layout, members

    def _declare_state(self, state: StateTruth, layout: str) -> None:
        dims = [
            self._batch_dim() if letter == "B" else size
            for letter, size in zip(layout, state.shape, strict=True)
        ]
        self.g.input(state.name, state.dtype, dims)
        self.states.append(state)

    # Other states.

    def _counter(self) -> None:
        """Add a whole number that counts steps, (1, B), and is given out as an integer."""
        if "counter" not in self.recipe.extras:
            return
        state = StateTruth("seen", "seen_out", np.dtype(np.int64), (1, 1), 1)
        self._declare_state(state, "1B")
        g, time_axis = self.g, self.recipe.form != "step"
        steps = g.constant([1])
        if time_axis:
            first = self.inputs[0]
            axis = 1 if self.recipe.form == "batch_first" else 0
            steps = g.slice(g.node("Shape", first), axis, axis + 1, 0)  # (1,)
        self.new.append((state, g.node("Add", state.name, steps)))
        counted = g.squeeze(state.name, [0])  # (B,), before this run
        if time_axis:
            low, one = g.constant(0), g.constant(1)
            past = g.node("Range", low, g.squeeze(steps, [0]), one)  # (T,)
            # (B, T) or (T, B), as the other outputs.
            own, other = ([1], [0]) if self.recipe.form == "batch_first" else ([0], [1])
            counted = g.node("Add", g.unsqueeze(counted, own), g.unsqueeze(past, other))
        self.given.append(("count", counted, np.dtype(np.int64), []))

    def _context(self, x: str) -> None:
        """Add the previous step's input as a state, given out as `before`; one step a run only."""
        if "delay" not in self.recipe.extras:
            return
        width = self.recipe.features + 2 * (self.recipe.inputs == "two")
        state = StateTruth("last_x", "last_x_out", self.recipe.kind, (1, width), 0)
        self._declare_state(state, "BF")
        self.new.append((state, x))
        self.given.append(("before", state.name, self.recipe.kind, [width]))

    # Outputs.

    def _answer(self, x: str, top: str) -> None:
        r, g = self.recipe, self.g
        head = g.constant(self.rng.normal(size=(HIDDEN, r.answers)), r.kind)
        y = g.node("MatMul", top, head)
        self.given.append(("y", self._as_declared(y), r.kind, [r.answers]))
        if "integer" in r.extras:
            best = g.node("ArgMax", y, axis=-1, keepdims=0)
            self.given.append(("best", self._as_declared(best, "TB"), np.dtype(np.int64), []))
        if "features" in r.extras:  # as wide as a state, and none
            wide = g.node("Neg", top)
            self.given.append(("features", self._as_declared(wide), r.kind, [HIDDEN]))
        if "constant" in r.extras:  # as many rows as the input, and always the same
            shape = g.node("Shape", y)
            values = np.arange(1, 1 + r.answers) / 4
            same = g.node("Expand", g.constant(values, r.kind), shape)
            self.given.append(("same", self._as_declared(same), r.kind, [r.answers]))

    def _as_declared(self, value: str, letters: str = "TBF") -> str:
        if self.recipe.form != "batch_first":
            return value
        return self.g.transpose(value, letters, letters.replace("TB", "BT"))

    def _write_outputs(self) -> None:
        for name, value, dtype, width in self.given:
            self.g.output(value, name, dtype, self._out_dims(self._dims(width)))

    def _write_states(self) -> None:
        for state, value in self.new:
            dims: list = [*state.shape]
            dims[state.batch_axis] = self._batch_dim()
            self.g.output(value, state.output, state.dtype, self._out_dims(dims))

    def _dims(self, width: list[int]) -> list[int | str | None]:
        batch, time = self._batch_dim(), self.recipe.steps or "T"
        lead = {"step": [batch], "time_major": [time, batch], "batch_first": [batch, time]}
        return [*lead[self.recipe.form], *width]

    def _batch_dim(self) -> int | str | None:
        batch = self.recipe.batch
        if batch == "unnamed":
            return None
        return 1 if batch in {"one", "says_one_takes_any"} else "B"

    def _out_dims(self, dims: Dims) -> Dims:
        return [None] * len(dims) if self.recipe.batch == "unnamed" else dims


def _names(style: str, stem: str, order: int, count: int) -> tuple[str, str]:
    """Return a state's name and its output's, in a style that is in use."""
    return {
        "out": (stem, f"{stem}_out"),
        "torch": (f"{stem}_0", f"{stem}_n"),
        "past_present": (f"past_{stem}", f"present_{stem}"),
        "n": (stem, f"{stem}N"),
        "unrelated": (f"input_{order + 2}", f"tf_op_layer_stack_{10 * count + order}"),
    }[style]


def _element(dtype: np.dtype) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(dtype)
