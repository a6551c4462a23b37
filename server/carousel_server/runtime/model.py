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

    One thread at a time may call it; runs release the interpreter lock. With `threads` above 1 on
    a CPU it is loaded twice: several threads make a large run faster, and a small one slower.
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
        #: Runs of so many rows or more use several threads; None: none does.
        self.wide_from: int | None = None
        self._wide: Bindings | None = None
        try:
            graph = poolgraph.build_pool_graph(file.graph, file.spec, slots).SerializeToString()
            self._narrow = self._bindings(graph, device, threads=1)
            if threads > 1 and device.kind == "cpu":
                self._wide = self._bindings(graph, device, threads=threads)
        except RUNTIME_ERRORS as error:
            raise ModelFileError(file.path, f"it can't be loaded: {first_line(error)}") from error

    def _bindings(self, graph: bytes, device: Device, *, threads: int) -> Bindings:
        return Bindings(create_session(graph, device, threads=threads), self.spec, self.pool)

    @property
    def may_widen(self) -> bool:
        """Whether it was loaded with more than one thread."""
        return self._wide is not None

    def settle(self) -> None:
        """Give back what trials have used, and what `wide_from` as it is now leaves no use for."""
        self._narrow.clear()
        if self.wide_from is None:
            self._wide = None
        elif self._wide is not None:
            self._wide.clear()

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
        rows = len(slots)
        steps = len(next(iter(inputs.values()))) if self.spec.time_axis else 1
        wide = self._wide if self.wide_from is not None and rows >= self.wide_from else None
        try:
            return (wide or self._narrow).get(steps, rows).run(slots, lengths, inputs)
        except RUNTIME_ERRORS as error:
            raise RunError(first_line(error)) from error

    def close(self) -> None:
        """Give its memory back at once, whoever still knows of it; it can't be used any more."""
        del self._narrow, self._wide, self.pool

    def write(self, slots: NDArray[np.int64], states: Mapping[str, NDArray[np.generic]]) -> None:
        """Put states, `[N, ...]` each, into `slots` [N]."""
        self.pool.write(slots, states)

    def read(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the states in `slots` [N], `[N, ...]` each, on the host."""
        return self.pool.read(slots)
