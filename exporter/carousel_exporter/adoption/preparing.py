"""A file made ready to be looked into: constants bound, sizes fixed, operators in range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from carousel_exporter.adoption import constants, opsets
from carousel_exporter.adoption.finding import Finder
from carousel_exporter.adoption.options import Options
from carousel_exporter.adoption.ports import (
    check_sizes,
    find,
    output_dtypes,
    read_inputs,
    with_sizes,
)
from carousel_exporter.adoption.reading import Original
from carousel_exporter.adoption.trials import Trial


@dataclass(frozen=True)
class Case:
    """A file, what is known of it, and the original to compare with, its constants fed."""

    original: Original
    options: Options
    reference: Trial
    finder: Finder
    output_dtypes: Mapping[str, np.dtype[np.generic]]


def prepare(original: Original, options: Options) -> Case:
    """Return the case of a file. Raises ExporterError where it can't be loaded or served."""
    model = opsets.in_range(original.model)
    _drop_defaults(model)
    ports = read_inputs(model.graph)
    fixed = {
        name: constants.to_array(find(ports, name, "--constant"), value)
        for name, value in options.constants.items()
    }
    reference = Trial(original.model, fixed, f"the graph of {original.path}")
    constants.bind(model, fixed)
    ports = with_sizes([port for port in ports if port.name not in fixed], options.sizes)
    check_sizes(ports)
    constants.check_no_scalars(model.graph, ports)
    outputs = output_dtypes(model.graph)
    return Case(original, options, reference, Finder(model, ports, outputs, options), outputs)


def _drop_defaults(model: onnx.ModelProto) -> None:
    """Let inputs that have a value of their own be constants, as old files list their weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
