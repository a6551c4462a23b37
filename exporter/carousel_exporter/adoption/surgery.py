"""Cutting a graph to the canonical form: axes in order, context as a state, dimensions named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from carousel_exporter.adoption.axes import Axes
from carousel_exporter.adoption.canonical import Canonical, State
from carousel_exporter.adoption.graphs import (
    all_names,
    fresh,
    name_nodes_apart,
    opset_of,
    reachable,
    remove_identities,
    rename_uses,
)
from carousel_exporter.adoption.machine import Wiring
from carousel_exporter.graph import BATCH, TIME

#: What the names of our own values begin with.
_PREFIX: Final = "adopted/"

Dtypes = Mapping[str, np.dtype[np.generic]]


def canonicalise(
    model: onnx.ModelProto, wiring: Wiring, dtypes: Dtypes, *, time: bool
) -> Canonical:
    """Return the canonical form of a graph that is driven as `wiring` says.

    `time`: whether inputs and outputs keep their time axis, as axis 0; otherwise it is taken away.
    """
    surgeon = _Surgeon(model, wiring, dtypes, time=time)
    return surgeon.operate()


class _Surgeon:
    def __init__(
        self, model: onnx.ModelProto, wiring: Wiring, dtypes: Dtypes, *, time: bool
    ) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._graph = self._model.graph
        self._wiring = wiring
        self._dtypes = dtypes
        self._time = time
        self._opset = opset_of(model)
        self._taken = all_names(self._graph)
        self._before: list[onnx.NodeProto] = []
        self._after: list[onnx.NodeProto] = []
        self._ins: list[onnx.ValueInfoProto] = []
        self._outs: list[onnx.ValueInfoProto] = []
        self._states: list[State] = []

    def operate(self) -> Canonical:
        w = self._wiring
        old_inputs = [value.name for value in self._graph.input]
        reached = reachable(self._graph, old_inputs)
        inputs = {name: self._input(name, axes) for name, axes in w.inputs.items()}
        lengths = self._lengths()
        for name, axes in w.states.items():
            self._state_input(name, axes)
        outputs = {
            name: self._output(name, axes, constant=name not in reached)
            for name, axes in w.outputs.items()
        }
        for name, axes in w.states.items():
            output = self._state_output(name, w.successors[name], axes)
            self._states.append(State(name, output, axes.step, name, is_context=False))
        if not outputs:
            outputs = self._answer_with_state()
        self._assemble(old_inputs)
        return Canonical(self._model, tuple(self._states), inputs, outputs, lengths, self._time)

    # Inputs

    def _input(self, name: str, axes: Axes) -> tuple[int, ...]:
        """Declare an input, and bring it to the original's shape; return the shape of a step."""
        step = list(axes.step)
        inner = self._rename_input(name)
        tail = self._wiring.tails.get(name)
        source = name
        if tail is not None:
            step[tail.axis] -= tail.length
            source = self._context(name, step)
        self._declare(self._ins, name, [*self._lead(), *step])
        self._to_original(source, inner, axes)
        return tuple(step)

    def _context(self, name: str, step: Sequence[int]) -> str:
        """Put a state before an input, and keep the end of both as the new state."""
        tail = self._wiring.tails[name]
        shape = [*step[: tail.axis], tail.length, *step[tail.axis + 1 :]]
        state = fresh(f"{name}_context", self._taken)
        output = fresh(f"{name}_context_out", self._taken)
        self._dtypes = {**self._dtypes, state: self._dtypes[name], output: self._dtypes[name]}
        self._declare(self._ins, state, [BATCH, *shape])
        self._declare(self._outs, output, [BATCH, *shape])
        axis = tail.axis + 1
        whole = self._node("Concat", [state, name], f"{name}.whole", axis=axis)
        limits = (self._ints([n]) for n in (-tail.length, np.iinfo(np.int64).max, axis))
        self._node("Slice", [whole, *limits], output, named=True)
        self._states.append(State(state, output, tuple(shape), name, is_context=True))
        return whole

    def _state_input(self, name: str, axes: Axes) -> None:
        inner = self._rename_input(name)
        self._declare(self._ins, name, [BATCH, *axes.step])
        self._to_original(name, inner, axes, is_state=True)

    def _lengths(self) -> str:
        """Declare the lengths as int32, if the graph takes any and keeps its time axis."""
        if self._wiring.lengths is None:
            return ""
        name, dtype = self._wiring.lengths
        inner = self._rename_input(name)
        if not self._time:  # each step is a sequence of one
            self._ones(inner, dtype)
            return ""
        self._ins.append(helper.make_tensor_value_info(name, TensorProto.INT32, [BATCH]))
        self._node("Cast", [name], inner, named=True, to=helper.np_dtype_to_tensor_dtype(dtype))
        return name

    def _ones(self, output: str, dtype: np.dtype[np.generic]) -> None:
        """Add a vector of ones, one a row."""
        first = next(iter(self._wiring.inputs))
        rows = self._rows_of(first)
        one = numpy_helper.from_array(np.ones(1, dtype))
        self._node("ConstantOfShape", [rows], output, named=True, value=one)

    def _to_original(self, name: str, output: str, axes: Axes, *, is_state: bool = False) -> None:
        """Bring a canonical value to the original's axes, under the name that the graph reads."""
        timed = self._time and not is_state
        # Axes of the canonical value: (T), B, then the step's. Those that the original lacks go,
        # those that only the original has come.
        gone = [] if axes.batch is not None else [1 if timed else 0]
        if timed and axes.time is None:
            raise AssertionError("an input without a time axis can't be run over time")
        come = [] if timed or axes.time is None else [0]
        steps: list[tuple[str, Any]] = []
        if gone:
            steps.append(("Squeeze", gone))
        if come:
            steps.append(("Unsqueeze", come))
        order = [int(a) for a in np.argsort(axes.perm)]
        if order != sorted(order):
            steps.append(("Transpose", order))
        self._chain(name, output, steps)

    # Outputs

    def _output(self, name: str, axes: Axes, *, constant: bool) -> tuple[int, ...]:
        """Bring an output to canonical order under its own name; return the shape of a step."""
        inner = self._rename_output(name)
        self._declare(self._outs, name, [*self._lead(), *axes.step])
        if not constant:
            self._to_canonical(inner, name, axes)
            return axes.step
        plain = fresh(f"{_PREFIX}{name}.one", self._taken)
        self._to_canonical(inner, plain, axes)
        self._repeat(plain, name, axes.step)
        return axes.step

    def _to_canonical(self, name: str, output: str, axes: Axes, *, is_state: bool = False) -> None:
        timed = self._time and not is_state
        steps: list[tuple[str, Any]] = []
        order = [int(a) for a in axes.perm]
        if order != sorted(order):
            steps.append(("Transpose", order))
        if axes.time is not None and not timed:
            steps.append(("Squeeze", [0]))
        lead = (axes.time, axes.batch) if timed else (axes.batch,)
        missing = [axis for axis, there in enumerate(lead) if there is None]
        if missing:
            steps.append(("Unsqueeze", missing))
        self._chain(name, output, steps)

    def _state_output(self, name: str, output: str, axes: Axes) -> str:
        inner = self._rename_output(output)
        self._dtypes = {**self._dtypes, output: self._dtypes[name]}
        self._declare(self._outs, output, [BATCH, *axes.step])
        self._to_canonical(inner, output, axes, is_state=True)
        return output

    def _repeat(self, name: str, output: str, step: Sequence[int]) -> None:
        """Repeat a value of one row (and step) for all of them."""
        first = next(iter(self._wiring.inputs))
        parts = [self._rows_of(first), self._ints(step)]
        if self._time:
            parts.insert(0, self._size_of(first, 0))
        shape = self._node("Concat", parts, f"{output}.shape", axis=0)
        self._node("Expand", [name, shape], output, named=True)

    def _answer_with_state(self) -> dict[str, tuple[int, ...]]:
        """Give the first state's successor as an answer too, where there is no other."""
        state = next(s for s in self._states if not s.is_context)
        answer = fresh(f"{state.output}_answer", self._taken)
        self._dtypes = {**self._dtypes, answer: self._dtypes[state.name]}
        self._declare(self._outs, answer, [BATCH, *state.shape])
        self._after.append(helper.make_node("Identity", [state.output], [answer], name=answer))
        return {answer: state.shape}

    # Parts

    def _lead(self) -> list[str]:
        return [TIME, BATCH] if self._time else [BATCH]

    def _rows_of(self, name: str) -> str:
        """Return the number of rows of a canonical input, as a vector of one."""
        return self._size_of(name, 1 if self._time else 0)

    def _size_of(self, name: str, axis: int) -> str:
        shape = self._node("Shape", [name], f"{name}.shape")
        return self._node("Gather", [shape, self._ints([axis])], f"{name}.size{axis}", axis=0)

    def _rename_input(self, name: str) -> str:
        inner = fresh(f"{_PREFIX}{name}", self._taken)
        rename_uses(self._graph.node, {name: inner})
        return inner

    def _rename_output(self, name: str) -> str:
        """Give what the graph puts out another name, and return it."""
        inner = fresh(f"{_PREFIX}{name}", self._taken)
        for node in self._graph.node:
            for place, output in enumerate(node.output):
                if output == name:
                    node.output[place] = inner
                    rename_uses(self._graph.node, {name: inner})
                    return inner
        raise AssertionError(f"output {name!r} is computed by no node")  # see `own_outputs`

    def _chain(self, name: str, output: str, steps: Sequence[tuple[str, Any]]) -> None:
        """Add layout operators one after the other; an Identity where there is none."""
        for place, (operator, value) in enumerate(steps or [("Identity", None)]):
            is_last = place == max(len(steps) - 1, 0)
            target = output if is_last else f"{output}.{operator.lower()}"
            if operator == "Transpose":
                name = self._node(operator, [name], target, named=is_last, perm=value)
            elif operator == "Identity":
                name = self._node(operator, [name], target, named=True)
            elif self._opset < 13:  # until then the axes were an attribute
                name = self._node(operator, [name], target, named=is_last, axes=value)
            else:
                name = self._node(operator, [name, self._ints(value)], target, named=is_last)

    def _node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        *,
        named: bool = False,
        **attributes: Any,
    ) -> str:
        """Add a node; `named` takes the output's name as it stands."""
        name = output if named else fresh(f"{_PREFIX}{output}", self._taken)
        node = helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        made = {o for n in self._graph.node for o in n.output}
        late = made | {o for n in self._after for o in n.output}
        (self._after if set(inputs) & late else self._before).append(node)
        return name

    def _ints(self, values: Sequence[int]) -> str:
        name = f"{_PREFIX}ints" + "".join(f"_{value}" for value in values)
        if all(tensor.name != name for tensor in self._graph.initializer):
            tensor = numpy_helper.from_array(np.array(values, np.int64), name)
            self._graph.initializer.append(tensor)
        return name

    def _declare(
        self, where: list[onnx.ValueInfoProto], name: str, dims: Sequence[int | str]
    ) -> None:
        code = helper.np_dtype_to_tensor_dtype(self._dtypes[name])
        where.append(helper.make_tensor_value_info(name, code, list(dims)))

    def _assemble(self, old_inputs: Sequence[str]) -> None:
        graph = self._graph
        nodes = [*self._before, *graph.node, *self._after]
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        weights = {tensor.name for tensor in graph.initializer}
        del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.input.extend(self._ins)
        graph.output.extend(self._outs)
        remove_identities(graph)
        name_nodes_apart(graph)
        assert not weights & set(old_inputs)  # constants were taken out of the inputs before
