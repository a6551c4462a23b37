"""What a tick costs above the bare run of its batch: so much whatever it holds, and so much a row.

One process, no gRPC: a message of N single steps goes into the engine, and its answer comes out.
Both have one thread. The engine has the server's limits: of 4,096 rows it makes ticks of 1,024.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import report
from benchmarks.network import FEATURES, Bare, write_model
from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.controls import Attached, Call, Open
from carousel_server.engine.directory import Directory
from carousel_server.engine.engine import Engine
from carousel_server.engine.limits import EngineLimits
from carousel_server.metrics import Metrics
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.model import LoadedModel

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
AIM_FIXED_US, AIM_ROW_US = 150.0, 0.3

_LEAST_ROUNDS = 20
_EXAMPLES = """\
examples:
  python -m benchmarks.tick_cost
  python -m benchmarks.tick_cost --quick --out /tmp/bench
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of the ticks of `rows` rows and of the bare run, and of what is between them.

    `graph_us` is what a run of the pool graph over all of the rows takes above the bare run: states
    read and written in place.
    """

    rows: int
    tick_us: float
    bare_us: float
    overhead_us: float
    graph_us: float

    @property
    def aim_us(self) -> float:
        """The most that the overhead ought to be."""
        return AIM_FIXED_US + AIM_ROW_US * self.rows


class Ticking:
    """An engine whose turns are called by hand, with sessions that all step at once."""

    def __init__(self, path: Path, rows: int) -> None:
        """Load the model and open the sessions."""
        self.model = LoadedModel(
            read_model(path), device=Device("cpu"), slots=max(BATCHES), threads=1
        )
        self._engine = Engine(
            number=0,
            runner=self.model,
            directory=Directory(rows),
            limits=EngineLimits(),
            observer=Metrics("0").observer("lstm"),  # counting is part of what a tick costs
        )
        x = np.random.default_rng(0).normal(size=(rows, FEATURES)).astype(np.float32)
        self._x = x.tobytes()
        self._rows = rows
        self._handles = self._open(rows)
        self._at = np.zeros(rows, np.uint64)

    def _open(self, rows: int) -> bytes:
        opened: list[Attached] = []
        ids = [secrets.token_hex(8) for _ in range(rows)]
        self._engine.call(Call(Open(ids, {}), opened.append))
        for deliver in self._engine.turn():
            deliver()
        return opened[0].handles.tobytes()

    def tick(self) -> None:
        """Step every session once."""
        answers: list[Answer] = []
        batch = StepBatch(
            answers.append,
            rows=self._rows,
            steps=self._rows,
            handles=self._handles,
            inputs=(self._x,),
            first_step=self._at.tobytes(),
            whole=True,
        )
        self._engine.submit(batch)
        while not self._engine.idle:
            for deliver in self._engine.turn():
                deliver()
        (answer,) = answers
        if not answer.done or answer.status:
            raise RuntimeError(f"a tick was not answered well: {answer.errors or answer}")
        self._at = self._at + np.uint64(1)


def measure(path: Path, rows: int, *, seconds: float) -> Cost:
    """Alternate ticks, runs of the pool graph and bare runs for so long, and return medians.

    The overhead is the median of each tick's difference to the bare run beside it: what slows the
    machine down for a while slows both. Their order changes, so that none always finds the caches
    as the same other one has left them.
    """
    ticking, bare = Ticking(path, rows), Bare(path, rows, 1)
    slots, lengths, x = np.arange(1, rows + 1), np.ones(rows, np.int64), {"x": bare.x}
    calls: list[Callable[[], object]] = [
        ticking.tick,
        lambda: ticking.model.run(slots, lengths, x),
        lambda: bare.session.run_with_iobinding(bare.binding),
    ]
    for call in calls * 5:
        call()
    rng = np.random.default_rng(0)
    rounds: list[dict[int, float]] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rounds) < _LEAST_ROUNDS:
        rounds.append({place: _timed(calls[place]) for place in rng.permutation(len(calls))})
    tick, graph, run = (
        np.array([times[place] for times in rounds]) * 1e6  # (R,) microseconds
        for place in range(len(calls))
    )
    medians = (np.median(each) for each in (tick, run, tick - run, graph - run))
    return Cost(rows, *map(float, medians))


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def fit(costs: Sequence[Cost]) -> tuple[float, float]:
    """Return (fixed, per row) in microseconds: least squares of the medians over the rows.

    Each residual is weighed by the bare run's time, because the noise grows with it: otherwise the
    largest batch would decide alone, and the fixed part be what is left. A row that is alone goes a
    shorter way than all others (`engine/solo.py`), and is left out.
    """
    costs = [cost for cost in costs if cost.rows > 1]
    rows, overhead, bare = np.array([[c.rows, c.overhead_us, c.bare_us] for c in costs]).T
    terms = np.stack([np.ones_like(rows), rows], axis=1)  # (batches, 2)
    (fixed, row), *_ = np.linalg.lstsq(terms / bare[:, None], overhead / bare, rcond=None)
    return float(fixed), float(row)


def print_costs(console: Console, costs: Sequence[Cost], fitted: tuple[float, float]) -> None:
    """Print a row a batch, and the fit beside the aim."""
    table = Table(title="microseconds, medians; graph: what the pool graph has in it")
    for name in ("rows", "tick", "bare run", "above", "graph", "fit", "aim", ""):
        table.add_column(name, justify="right")
    fixed, row = fitted
    for cost in costs:
        times = (cost.tick_us, cost.bare_us, cost.overhead_us, cost.graph_us)
        table.add_row(
            f"{cost.rows:,}",
            *(f"{value:,.1f}" for value in (*times, fixed + row * cost.rows)),
            f"{cost.aim_us:,.1f}",
            "met" if cost.overhead_us <= cost.aim_us else "missed",
        )
    console.print(table)
    console.print(
        f"fit: {fixed:.0f} us + {row:.3f} us a row; aim: at most {AIM_FIXED_US:.0f} us + "
        f"{AIM_ROW_US:g} us a row"
    )


def as_json(costs: Sequence[Cost], fitted: tuple[float, float]) -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "machine": report.machine(),
        "costs": [asdict(cost) for cost in costs],
        "fit": {"fixed_us": fitted[0], "row_us": fitted[1]},
        "aim": {"fixed_us": AIM_FIXED_US, "row_us": AIM_ROW_US},
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tick_cost",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="half a second a batch, instead of 5")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args()
    out = report.out_folder(parser, given.out)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder))
        costs = [
            measure(path, rows, seconds=0.5 if given.quick else 5.0)
            for rows in track(BATCHES, "batches", console=console, transient=True)
        ]
    fitted = fit(costs)
    print_costs(console, costs, fitted)
    written = out / "tick_cost.json"
    written.write_text(json.dumps(as_json(costs, fitted), indent=1) + "\n")
    console.print(f"written: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
