"""A model whose states, inputs and outputs are in a device's memory: what serves on a GPU.

On the CPU provider it does the same, uncaptured and without a bus: slower than `model.py` there,
and how all of it is tested without a GPU.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from carousel_server import log
from carousel_server.errors import DeviceError, ModelFileError, RunError
from carousel_server.reading import Reading
from carousel_server.runtime import placement, poolgraph
from carousel_server.runtime.manifest import ModelFile
from carousel_server.runtime.ondevice import proof
from carousel_server.runtime.ondevice.budget import check_pool
from carousel_server.runtime.ondevice.choosing import Choosing, DeviceOptions
from carousel_server.runtime.ondevice.devicepool import DevicePool
from carousel_server.runtime.ondevice.exchange import Arrays
from carousel_server.runtime.ondevice.fused import Fused
from carousel_server.runtime.ondevice.lanes import Lanes
from carousel_server.runtime.ondevice.memory import Memory
from carousel_server.runtime.ondevice.steps import CaptureFailed, Counts, Steps
from carousel_server.runtime.ondevice.underway import Outcome, UnderWay
from carousel_server.runtime.session import RUNTIME_ERRORS, create_session, first_line
from carousel_server.spec import ModelSpec

_PROVED_ROWS = 5

# Devices on which it does not matter where nodes are: there is one place only.
_ANYWHERE = frozenset({"cpu"})


class DeviceRun:
    """A run of a model that was queued; `finish` is to be called once."""

    def __init__(self, model: DeviceModel, under_way: UnderWay) -> None:
        self._model, self._under_way = model, under_way

    @property
    def done(self) -> bool:
        """Whether `finish` would not wait."""
        try:
            return self._under_way.done
        except RUNTIME_ERRORS:
            return True  # `finish` says what it is

    def finish(self) -> Outcome:
        """Return the outcome when it is there; as `Runner.run` says.

        Raises:
            RunError: the run failed, and no state was changed.

        """
        try:
            outcome = self._under_way.finish()
        except RUNTIME_ERRORS as error:
            raise RunError(first_line(error)) from error
        self._model.last_seconds = self._under_way.seconds
        self._model.run_seconds += self._under_way.seconds
        return outcome


class DeviceModel:
    """A model on a device, with `slots` sessions' worth of state.

    One thread at a time may call it; runs release the interpreter lock. A graph is captured for
    the thread that first needs it, so steps always come from the same one.
    """

    def __init__(
        self, file: ModelFile, *, memory: Memory, slots: int, threads: int, options: DeviceOptions
    ) -> None:
        """Load the model, prove that every way of stepping gives the same, and choose among them.

        Raises:
            ModelFileError: ONNX Runtime refuses the graph, or has put nodes elsewhere.
            DeviceError: the pool does not fit.

        """
        self.spec: ModelSpec = file.spec
        self.slots = slots
        self.run_seconds = 0.0  # of all runs, on the device, where it can tell
        self.last_seconds = 0.0  # of the run that was finished last
        self.memory = memory
        self._file, self._options, self._threads = file, options, threads
        check_pool(
            file.spec.states,
            slots,
            pool_bytes=options.pool_bytes,
            room=memory.room(),
            device=memory.name,
        )
        self.pool = DevicePool(file.spec.states, slots, memory, self._session)
        session, crossing = self._load()
        self._lanes = Lanes(memory)
        self._fused = Fused(session, file.spec, self.pool, memory, self._lanes, crossing=crossing)
        prover = proof.Prover(file, self.pool)
        wrong = self._wrong(prover)
        chosen = Choosing(
            file=file,
            pool=self.pool,
            fused=self._fused,
            prover=prover,
            memory=memory,
            lanes=self._lanes,
            create=self._session,
            options=options,
        ).choose()
        self._steps, self._tuning = chosen.steps, chosen.tuning
        #: What has happened to captured graphs; it stays when they are given up.
        self.counts = chosen.steps.counts if chosen.steps else Counts()
        # Where whole pieces come out wrong, single steps that don't can take their place.
        self._only_steps = bool(wrong)
        if self._steps is None:
            self._give_up(chosen.why_not)
        if wrong and self._steps is None:
            raise ModelFileError(file.path, wrong)
        if wrong:
            log.get().warning("pieces run as single steps", model=str(file.path), reason=wrong)

    @property
    def pool_bytes(self) -> int:
        """Bytes that the pool takes on the device."""
        return (self.slots + 1) * self.spec.state_bytes

    @property
    def steps(self) -> Steps | None:
        """How steps are run one by one; None: they are not."""
        return self._steps

    @property
    def overlapped(self) -> int:
        """How many runs were queued while another one was under way."""
        return self._lanes.overlapped

    def run(self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays) -> Outcome:
        """Advance the states in `slots` [B] by `lengths` [B] steps; as `Runner.run` says.

        Raises:
            RunError: the run failed, and no state was changed.

        """
        return self.start(slots, lengths, inputs).finish()

    def start(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays
    ) -> DeviceRun:
        """Queue such a run; the next may be queued before it is finished, on other slots.

        Raises:
            RunError: it failed, and no state was changed.

        """
        # A spec without lengths has rows of one length only, and without a time axis of one step.
        lengths = lengths if self.spec.time_axis else np.ones(len(slots), np.int64)
        try:
            return DeviceRun(self, self._start(slots, lengths, inputs))
        except RUNTIME_ERRORS as error:
            raise RunError(first_line(error)) from error

    def _start(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays
    ) -> UnderWay:
        if self._steps is not None and self._by_steps(lengths):
            try:
                return self._steps.start(slots, lengths, inputs)
            except CaptureFailed as error:
                if self._only_steps:
                    raise
                self._give_up(first_line(error))
        return self._fused.start(slots, lengths, inputs)

    def write(self, slots: NDArray[np.int64], states: Arrays) -> None:
        """Put states, `[N, ...]` each, into `slots` [N]."""
        self.pool.write(slots, states)

    def read(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the states in `slots` [N], `[N, ...]` each, on the host."""
        return self.pool.read(slots)

    def copy(self, slots: NDArray[np.int64]) -> Reading:
        """Return the states in `slots` [N] as they are after all runs so far, when they are here.

        Runs that are queued later go on beside the copy.
        """
        return self.pool.copy(slots)

    def close(self) -> None:
        """Give its memory back at once, whoever still knows of it; it can't be used any more."""
        with self.memory.gate.shared():
            self.memory.wait_for_all()
            self._lanes.close()
            del self._steps, self._fused, self.pool

    def _by_steps(self, lengths: NDArray[np.int64]) -> bool:
        """Whether a tick runs as single steps rather than as one run."""
        longest = int(lengths.max())
        if longest == 1 or self._only_steps:
            return True
        if self._tuning is None or self._steps is None:
            return False
        whole = self._tuning.fused_seconds(longest, len(lengths))
        return self._steps.seconds(lengths) < whole

    def _wrong(self, prover: proof.Prover) -> str:
        """Return what is wrong with runs of whole pieces on this device; "" if nothing is."""
        longest = 3 if self.spec.time_axis else 1
        rows = min(_PROVED_ROWS, self.spec.max_batch or _PROVED_ROWS)
        try:
            worst = prover.prove(self._fused.run, [(1, 1), (rows, 1), (rows, longest)])
        except RUNTIME_ERRORS as error:
            return f"on {self.memory.name} it fails: {first_line(error)}"
        if worst <= proof.TOLERANCE[self._options.math]:
            return ""
        return f"on {self.memory.name} its answers differ by {worst:.2g} from those on the CPU"

    def _give_up(self, reason: str) -> None:
        log.get().warning(
            "steps are not captured",
            model=str(self._file.path),
            reason=reason,
            instead="plain runs",
        )
        self._steps = None

    def _session(
        self, graph: bytes, *, capture: bool = False, record: bool = False
    ) -> ort.InferenceSession:
        with self.memory.gate.shared():
            return create_session(
                graph,
                self.memory.device,
                threads=self._threads,
                provider_options=self.memory.provider_options(capture=capture),
                record=record,
            )

    def _load(self) -> tuple[ort.InferenceSession, bool]:
        """Return the session of the whole pool graph, and whether some of it is on the CPU."""
        try:
            graph = placement.name_nodes(
                poolgraph.build_pool_graph(self._file.graph, self.spec, self.slots)
            )
            session = self._session(graph.SerializeToString(), record=True)
        except RUNTIME_ERRORS as error:
            reason = f"it can't be loaded: {first_line(error)}"
            raise ModelFileError(self._file.path, reason) from error
        if self.memory.device.kind in _ANYWHERE:
            return session, False
        return session, self._has_strays(session, graph)

    def _has_strays(self, session: ort.InferenceSession, graph: onnx.ModelProto) -> bool:
        """Whether nodes are on the CPU; it raises where that was not allowed."""
        if (missing := placement.missing_provider(session, self.memory.device)) is not None:
            raise DeviceError(missing)
        try:
            nodes = placement.placed(session)
        except NotImplementedError as error:
            raise DeviceError(str(error)) from error
        found = placement.strays(nodes, graph)
        log.get().info(
            "nodes placed",
            model=str(self._file.path),
            **placement.counts(nodes),
        )
        if not found:
            return False
        if not self._options.allow_cpu_nodes:
            raise ModelFileError(
                self._file.path,
                f"{len(found)} of its nodes would run on the CPU; --allow-cpu-nodes serves it "
                f"nevertheless\n{placement.table(found)}",
            )
        log.get().warning(
            "nodes run on the CPU", model=str(self._file.path), nodes=placement.table(found)
        )
        return True
