"""Running a graph that is being looked at: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

from carousel_exporter.errors import ModelFileError
from carousel_exporter.wording import first_line

Arrays = dict[str, np.ndarray]

#: ONNX Runtime logs what it raises, too; only the exception is of use.
_FATAL = 4


class TrialError(Exception):
    """A run failed, which is an answer too; the message is ONNX Runtime's first line."""


class Trial:
    """A graph in ONNX Runtime on the CPU. Raises ModelFileError where it can't be loaded."""

    def __init__(
        self,
        model: onnx.ModelProto,
        fixed: Mapping[str, np.ndarray] | None = None,
        name: str = "the graph",
    ) -> None:
        """Load a graph; `fixed` are inputs that are the same on every run, `name` is for errors."""
        self._fixed = dict(fixed or {})
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's have no base of their own
            raise ModelFileError(f"ONNX Runtime can't load {name}: {first_line(error)}.") from error
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray], wanted: Sequence[str] | None = None) -> Arrays:
        """Run once and return the outputs, all or those wanted. Raises TrialError."""
        names = self.outputs if wanted is None else list(wanted)
        every = {**self._fixed, **feeds}
        given = {name: every[name] for name in self.inputs}
        try:
            values = self._session.run(names, given, self._run_options)
        except Exception as error:  # as above
            raise TrialError(first_line(error)) from error
        return dict(zip(names, values, strict=True))


def exposing(model: onnx.ModelProto, values: Iterable[str]) -> onnx.ModelProto:
    """Return a copy of a model whose outputs are inner values, of whatever type they are."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    return copy
