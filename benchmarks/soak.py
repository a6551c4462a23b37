"""Millions of steps through one stream: the server's memory must not grow, nor an answer be wrong.

1,000 sessions step in columns, three messages on their way, with fresh random inputs in each; a
bare ONNX Runtime beside them takes the same steps, and every answer is compared with its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import loops, report
from benchmarks.network import FEATURES, HIDDEN, OUTPUTS, Array, write_model
from benchmarks.processes import Running, carousel_server
from carousel import wire
from carousel_server.runtime.manifest import read_model

SESSIONS = 1000
MOST_GROWTH = 0.02
TOLERANCE = 1e-5

_WINDOW = 3
_PARTS = 20  # the first is the warm-up, and the memory is read at the end of each
_EXAMPLES = """\
examples:
  python -m benchmarks.soak
  python -m benchmarks.soak --steps 200000 --out /tmp/bench
"""


class Reference:
    """The same sessions under ONNX Runtime alone, one thread: the states are kept out here."""

    def __init__(self, path: Path, rows: int) -> None:
        """Start all rows from zeros, as the model says."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(str(path), options, providers=providers)
        spec = read_model(path).spec
        self._outputs = ["y", *(state.output for state in spec.states)]
        self._names = [state.name for state in spec.states]
        zeros = np.zeros((rows, HIDDEN), np.float32)
        self._fed = {"sequence_lens": np.ones(rows, np.int32), **dict.fromkeys(self._names, zeros)}

    def step(self, x: Array) -> Array:
        """Step all rows: inputs `[B, F]`, answers `[B, O]`."""
        y, *states = self._session.run(self._outputs, {**self._fed, "x": x[np.newaxis]})
        self._fed.update(zip(self._names, states, strict=True))
        answers: Array = y[0]
        return answers


@dataclass
class Found:
    """What a soak has shown so far."""

    steps: int = 0
    wrong: int = 0
    worst: float = 0.0  # |difference| / max(1, |reference|)
    seconds: float = 0.0
    resident_bytes: list[int] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """How far the memory was above what it was after the warm-up, at most, as a fraction."""
        return max(self.resident_bytes) / self.resident_bytes[0] - 1

    @property
    def good(self) -> bool:
        """Whether nothing grew and every answer was right."""
        return self.wrong == 0 and self.growth < MOST_GROWTH

    def compare(self, answers: Array, expected: Array) -> None:
        """Take in answers `[B, O]`, and what they ought to be; a NaN is wrong."""
        error = np.abs(answers - expected) / np.maximum(1.0, np.abs(expected))
        self.steps += len(answers)
        self.wrong += int((~(error <= TOLERANCE)).any(axis=1).sum())
        self.worst = max(self.worst, float(np.nan_to_num(error, nan=np.inf).max()))


def sample_at(messages: int) -> frozenset[int]:
    """Return after how many messages to read the memory: each twentieth part of them."""
    return frozenset(round(messages * part / _PARTS) for part in range(1, _PARTS + 1))


async def soak(
    running: Running, model: Path, messages: int, advance: Callable[[int], None]
) -> Found:
    """Step through so many messages; `advance` is called after each with the steps in it."""
    async with loops.channel(running.address) as connected:
        (rows,) = await loops.open_rows(connected, np.ones(SESSIONS, np.int64))
        call = loops.carousel_call(connected)
        inputs: deque[Array] = deque()
        room = asyncio.Semaphore(_WINDOW)
        rng = np.random.default_rng(1)

        async def send() -> None:
            for number in range(messages):
                await room.acquire()
                x = rng.standard_normal((SESSIONS, FEATURES), np.float32)
                inputs.append(x)
                rows.x = x.tobytes()
                await call.write(rows.request(number))

        reference, found = Reference(model, SESSIONS), Found()
        samples, began = sample_at(messages), time.perf_counter()
        sender = asyncio.create_task(send())
        for number in range(messages):
            answers = await _answer(call, number)
            room.release()  # the server goes on while the reference steps
            expected = await asyncio.to_thread(reference.step, inputs.popleft())
            found.compare(answers, expected)
            advance(SESSIONS)
            if number + 1 in samples:
                found.resident_bytes.append(running.resident_bytes())
        await sender
        found.seconds = time.perf_counter() - began
        call.cancel()
        await loops.close_rows(connected, rows)
    return found


async def _answer(call: Any, number: int) -> Array:
    """Return the answers to a message, `[B, O]`, put together from as many parts as come."""
    whole = np.full((SESSIONS, OUTPUTS), np.nan, np.float32)
    done = False
    while not done:
        answer = await call.read()
        loops.check(answer, number)
        step = answer.step
        (y,) = step.outputs
        places: slice | NDArray[np.uint32] = slice(None)
        if step.rows:
            places = np.frombuffer(step.rows, wire.ROW_DTYPE)
        whole[places] = np.frombuffer(y.data, np.float32).reshape(y.shape)
        done = step.done
    return whole


def print_found(console: Console, found: Found) -> None:
    """Print what was found, and whether that is good."""
    first, last = found.resident_bytes[0], found.resident_bytes[-1]
    console.print(
        f"{found.steps:,} steps in {found.seconds:.0f} s ({found.steps / found.seconds:,.0f} a "
        "second, the reference beside them)"
    )
    console.print(
        f"answers: {found.wrong} wrong; the worst differed by {found.worst:.1e} (allowed: "
        f"{TOLERANCE:.0e} x max(1, |reference|))"
    )
    console.print(
        f"memory: {first / 2**20:,.1f} MiB after the warm-up, {last / 2**20:,.1f} MiB at the end; "
        f"growth at most {found.growth:.2%} (allowed: under {MOST_GROWTH:.0%})"
    )


async def run(console: Console, messages: int) -> Found:
    """Run a server and soak it, with a bar."""
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder))
        with (
            carousel_server(Path(folder)) as server,
            Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress,
        ):
            bar = progress.add_task("steps", total=messages * SESSIONS)
            return await soak(server, model, messages, lambda n: progress.advance(bar, n))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=5_000_000, help="default: 5000000")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args()
    out = report.out_folder(parser, given.out)
    messages = given.steps // SESSIONS
    if messages < _PARTS:
        parser.error(f"--steps {given.steps}: at least {_PARTS * SESSIONS} are needed")
    console = Console(highlight=False)
    found = asyncio.run(run(console, messages))
    print_found(console, found)
    written = out / "soak.json"
    content = {"machine": report.machine(), "growth": found.growth, **asdict(found)}
    written.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"written: {written}")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
