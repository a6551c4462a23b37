"""A loaded model: the pool graph, its pool, and one way to run it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from carousel_server.errors import ModelFileError, RunError
from carousel_server.runtime import poolgraph
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import ModelFile
from carousel_server.runtime.pool import Pool
from carousel_server.runtime.session import RUNTIME_ERRORS, create_session, first_line
from carousel_server.spec import ModelSpec


class LoadedModel:
    """A model on a device, with `slots` sessions' worth of state.

    One thread at a time may call it; runs release the interpreter lock.
    """

    def __init__(self, file: ModelFile, *, device: Device, slots: int, threads: int) -> None:
        """Build the pool graph and load it.

        Raises:
            ModelFileError: ONNX Runtime refuses the graph.
            DeviceError: the pool does not fit.

        """
        self.spec: ModelSpec = file.spec
        self.slots = slots
        self.pool = Pool(file.spec.states, slots, device)
        try:
            graph = poolgraph.build_pool_graph(file.graph, file.spec, slots)
            self._session = create_session(graph.SerializeToString(), device, threads=threads)
        except RUNTIME_ERRORS as error:
            raise ModelFileError(file.path, f"it can't be loaded: {first_line(error)}") from error
        self._binding = self._session.io_binding()
        # Bound outputs come back in the order in which they were bound first: pools, answers, bad.
        self._first_answer = len(file.spec.states)
        for state in file.spec.states:
            pool = self.pool.tensors[state.name]
            self._binding.bind_ortvalue_input(poolgraph.pool_input(state), pool)
            self._binding.bind_ortvalue_output(poolgraph.pool_output(state), pool)

    def run(
        self,
        slots: NDArray[np.int64],
        lengths: NDArray[np.int32],
        inputs: Mapping[str, NDArray[np.generic]],
    ) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]:
        """Run the model on the states in `slots`, and write the new states back.

        Args:
            slots: `[B]`, each at most once but for slot 0.
            lengths: `[B]`, the steps in each row.
            inputs: `[T, B, ...]` with a time axis, `[B, ...]` without.

        Returns:
            The outputs, shaped like the inputs, and `bad` `[B]`: rows whose new state or output is
            not finite; their states were left as they were.

        Raises:
            RunError: the run failed, and no state was written.

        """
        binding = self._binding
        try:
            for name, value in inputs.items():
                binding.bind_cpu_input(name, value)
            if self.spec.sequence_lens:
                binding.bind_cpu_input(self.spec.sequence_lens, lengths)
            binding.bind_cpu_input(poolgraph.SLOTS, slots)
            for output in self.spec.outputs:
                binding.bind_output(output.name, "cpu")
            binding.bind_output(poolgraph.BAD, "cpu")
            self._session.run_with_iobinding(binding)
            *answers, bad = binding.get_outputs()[self._first_answer :]
            outputs = {
                spec.name: value.numpy()
                for spec, value in zip(self.spec.outputs, answers, strict=True)
            }
            bad_rows = bad.numpy().reshape(-1)
        except RUNTIME_ERRORS as error:
            raise RunError(first_line(error)) from error
        self._check_outputs(outputs, inputs)
        return outputs, bad_rows

    def write(self, slots: NDArray[np.int64], states: Mapping[str, NDArray[np.generic]]) -> None:
        """Put states, `[N, ...]` each, into `slots` [N]."""
        self.pool.write(slots, states)

    def read(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the states in `slots` [N], `[N, ...]` each, on the host."""
        return self.pool.read(slots)

    def _check_outputs(
        self, outputs: Mapping[str, NDArray[np.generic]], inputs: Mapping[str, NDArray[np.generic]]
    ) -> None:
        """Refuse outputs that don't have a row a row: declared shapes are only a promise."""
        rank = 2 if self.spec.time_axis else 1
        lead = next(iter(inputs.values())).shape[:rank]
        for spec in self.spec.outputs:
            if outputs[spec.name].shape != (*lead, *spec.shape):
                raise RunError(
                    f"output {spec.name!r} came as {list(outputs[spec.name].shape)}; "
                    f"{[*lead, *spec.shape]} was expected"
                )
