"""A loaded model: the pool graph, its pool, and one way to run it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from carousel_server.errors import ModelFileError, RunError
from carousel_server.runtime import poolgraph
from carousel_server.runtime.binding import Bindings
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
        self._bindings = Bindings(self._session, file.spec, self.pool)

    def run(
        self,
        slots: NDArray[np.int64],
        lengths: NDArray[np.int64],
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
        steps = len(next(iter(inputs.values()))) if self.spec.time_axis else 1
        try:
            return self._bindings.get(steps, len(slots)).run(slots, lengths, inputs)
        except RUNTIME_ERRORS as error:
            raise RunError(first_line(error)) from error

    def close(self) -> None:
        """Give its memory back at once, whoever still knows of it; it can't be used any more."""
        del self._bindings, self._session, self.pool

    def write(self, slots: NDArray[np.int64], states: Mapping[str, NDArray[np.generic]]) -> None:
        """Put states, `[N, ...]` each, into `slots` [N]."""
        self.pool.write(slots, states)

    def read(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the states in `slots` [N], `[N, ...]` each, on the host."""
        return self.pool.read(slots)
