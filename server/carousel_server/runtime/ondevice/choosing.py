"""Which way a model's single steps are made: proved, measured, chosen; at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import onnxruntime as ort

from carousel_server import log
from carousel_server.runtime import poolgraph
from carousel_server.runtime.manifest import ModelFile
from carousel_server.runtime.ondevice import proof, tuning
from carousel_server.runtime.ondevice.buckets import LARGEST, bucket_sizes, guessed
from carousel_server.runtime.ondevice.devicepool import DevicePool
from carousel_server.runtime.ondevice.exchange import Exchange
from carousel_server.runtime.ondevice.fused import Fused, pool_exchange
from carousel_server.runtime.ondevice.lanes import Lanes
from carousel_server.runtime.ondevice.memory import Memory
from carousel_server.runtime.ondevice.steps import Steps
from carousel_server.runtime.ondevice.ways import Way, ways_of
from carousel_server.runtime.session import RUNTIME_ERRORS, first_line


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """What can be chosen of how a model runs on a device."""

    math: str = "float32"  # a key of decomposed.PRODUCTS
    allow_cpu_nodes: bool = False
    pool_bytes: float = 0.8  # up to 1: a part of what is free
    autotune: bool = False
    tuning_folder: Path | None = None  # where measurements are kept; None: nowhere
    largest: int = LARGEST  # the largest bucket


class CreateSession(Protocol):
    """Makes sessions on a device."""

    def __call__(
        self, graph: bytes, *, capture: bool = False, record: bool = False
    ) -> ort.InferenceSession:
        """Return a session for a serialized graph, one that captures its runs where asked to."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """How single steps are made; without `steps`: why they are not."""

    steps: Steps | None
    tuning: tuning.Tuning | None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """Chooses among the ways to step a model, by what each gives and costs beside plain runs."""

    file: ModelFile
    pool: DevicePool
    fused: Fused
    prover: proof.Prover
    memory: Memory
    lanes: Lanes
    create: CreateSession
    options: DeviceOptions

    @property
    def sizes(self) -> tuple[int, ...]:
        """The buckets, smallest first."""
        return bucket_sizes(self.pool.slots, self.file.spec.max_batch, self.options.largest)

    def choose(self) -> Chosen:
        """Return the fastest way that is proved right.

        Whatever is wrong with a way, the model is served without it, and the log says so.
        """
        ways, why_not = ways_of(self.file, math=self.options.math)
        if not ways:
            return Chosen(None, None, why_not)
        made = {way.name: steps for way in ways if (steps := self._proved(way))}
        if not made:
            return Chosen(None, None, "no way to step was proved right")
        first = next(iter(made.values()))
        if not self.options.autotune:
            return Chosen(first, None)
        measured = self._measured(made)
        best = {size: made[measured.best(size)] for size in self.sizes}
        steps = Steps(
            first.spec,
            self.pool,
            self.lanes,
            exchange=lambda size: best[size].exchange(size),
            costs=measured.costs(),
        )
        log.get().info(
            "steps tuned",
            model=str(self.file.path),
            ways={size: measured.best(size) for size in self.sizes},
            microseconds={size: round(cost * 1e6, 1) for size, cost in measured.costs().items()},
        )
        return Chosen(steps, measured)

    def _proved(self, way: Way) -> Steps | None:
        """Return a way's steps; None: they can't be captured, or differ from the model's."""
        try:
            steps = self._steps(way)
            worst = self.prover.prove(steps.run, [(size, 1) for size in steps.sizes])
            if worst > proof.TOLERANCE[self.options.math]:
                raise RuntimeError(f"its answers differ by {worst:.2g}")
        except RUNTIME_ERRORS as error:
            log.get().warning(
                "a way to step is not taken",
                model=str(self.file.path),
                way=way.name,
                reason=first_line(error),
            )
            return None
        return steps

    def _steps(self, way: Way) -> Steps:
        graph = poolgraph.build_pool_graph(way.graph, way.spec, self.pool.slots)
        session = self.create(graph.SerializeToString(), capture=True)

        def make(size: int) -> Exchange:
            with self.memory.gate.shared():
                return pool_exchange(
                    session, way.spec, self.pool, self.memory, steps=1, rows=size, graph=size
                )

        return Steps(
            way.spec,
            self.pool,
            self.lanes,
            exchange=make,
            costs=guessed(self.sizes),
        )

    def _measured(self, made: Mapping[str, Steps]) -> tuning.Tuning:
        """Return what was measured now, or before on such a device with the same model."""
        facts = (
            self.file.sha256,
            self.memory.name,
            ort.__version__,
            self.options.math,
            *map(str, self.sizes),
            *sorted(made),
        )
        folder = self.options.tuning_folder
        cache = tuning.TuningCache(folder) if folder else None
        if cache and (found := cache.load(facts)):
            return found
        trial = proof.Trial(self.file.spec)
        measured = tuning.Tuning(
            {
                way: {
                    size: tuning.median_seconds(partial(trial.on_scratch, steps.run, size, 1))
                    for size in self.sizes
                }
                for way, steps in made.items()
            },
            self._fused_costs(trial) if self.file.spec.time_axis else {},
        )
        if cache and not cache.save(facts, measured):
            log.get().warning("what was measured can't be kept", folder=str(folder))
        return measured

    def _fused_costs(self, trial: proof.Trial) -> dict[tuple[int, int], float]:
        return {
            (t, b): tuning.median_seconds(partial(trial.on_scratch, self.fused.run, b, t))
            for t in tuning.FUSED_STEPS
            for b in tuning.grid(tuning.FUSED_ROWS, self.sizes[-1])
        }
