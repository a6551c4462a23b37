"""Carousel on a GPU, beside its peers there and the hardware's floor: checks, then measures.

Without a GPU nothing can be said about one; `--device cpu` runs a small version of everything on
the CPU provider, which shows that the script works and nothing else.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch  # before onnxruntime: its CUDA and cuDNN libraries serve both
from rich.console import Console

from benchmarks import report
from benchmarks.ondevice import checks, clock, contestants, tables
from benchmarks.ondevice.cases import WIDTHS, Case, Network, Rates, cases, networks
from benchmarks.ondevice.fit import Fit, fit
from benchmarks.ondevice.models import Torch, write
from benchmarks.ondevice.service import Load, load
from carousel_server import log
from carousel_server.errors import CarouselError
from carousel_server.runtime.device import Device, choose_device

_SERVED = Network(128, 2)
_TEST_TOOLS = ("pytest", "hypothesis", "pytest_asyncio", "pytest_timeout")
_WIDTH = 130  # of tables in a file
_EXAMPLES = """\
examples:
  python -m benchmarks.gpu
  python -m benchmarks.gpu --math bfloat16 --device cuda:1 --out /tmp/bench
  python -m benchmarks.gpu --device cpu
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured where, and until when."""

    device: Device
    math: str
    ends: float

    @property
    def small(self) -> bool:
        """Whether it is a rehearsal."""
        return self.device.kind == "cpu"

    @property
    def each(self) -> float:
        """Seconds of each measurement."""
        return 0.01 if self.small else 0.05

    @property
    def late(self) -> bool:
        """Whether time has run out for further networks."""
        return not self.small and time.monotonic() > self.ends


def check(plan: Plan) -> list[checks.Check]:
    """Compare with PyTorch, and on a GPU run the tests that are for one."""
    sessions = 32 if plan.small else 4096
    network = Torch(Network(64, 1) if plan.small else _SERVED).eval()
    with tempfile.TemporaryDirectory() as folder:
        largest = 16 if plan.small else 1024
        model = contestants.open_ours(
            write(network, Path(folder)),
            plan.device,
            math=plan.math,
            slots=sessions + sessions // 2,
            largest=largest,
        )
        done = [checks.against_torch(model, network, sessions=sessions, math=plan.math)]
        model.close()
    return done if plan.small else done + _run_tests()


def _run_tests() -> list[checks.Check]:
    """Run the project's tests for GPUs, where what they need is installed."""
    missing = [name for name in _TEST_TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        log.get().warning("the tests for GPUs are not run", missing=missing)
        return []
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests"]
    failed = subprocess.run(tests, check=False).returncode
    return [checks.Check("the project's tests for GPUs (exit status)", failed, 0.0)]


def time_ticks(plan: Plan, rates: Rates) -> Iterator[tables.Timed]:
    """Yield each tick's times, network by network, until time runs out."""
    for network in networks(small=plan.small):
        if plan.late:
            return
        chosen = list(cases(network, small=plan.small))
        largest = max(case.rows for case in chosen)
        made = Torch(network).eval()
        with tempfile.TemporaryDirectory() as folder:
            path = write(made, Path(folder))
            bare = contestants.Bare(path, plan.device)
            ours = contestants.open_ours(
                path, plan.device, math=plan.math, slots=largest, largest=largest
            )
        for case in chosen:
            ticks = contestants.in_torch(made, str(plan.device), case)
            # Ours comes last: the device's clock is then its own.
            ticks |= {"bare": bare.tick(case), "ours": contestants.ours(ours, case)}
            seconds = {
                name: time
                for name, tick in ticks.items()
                if (time := _measured(name, case, tick, plan.each)) is not None
            }
            if ours.last_seconds > 0:
                seconds["device"] = ours.last_seconds
            yield tables.Timed(case, rates.floor(case, plan.math), seconds)
        ours.close()


def _measured(name: str, case: Case, tick: contestants.Tick, seconds: float) -> float | None:
    """Return a tick's median time; None, and a line, where it can't be made: out of memory, say."""
    try:
        return clock.median_seconds(tick, seconds=seconds)
    except (RuntimeError, CarouselError) as error:
        log.get().warning("a tick failed", by=name, case=str(case), reason=str(error)[:200])
        return None


def serve(plan: Plan) -> list[Load]:
    """Measure the whole server."""
    with tempfile.TemporaryDirectory() as folder:
        write(Torch(Network(64, 1) if plan.small else _SERVED).eval(), Path(folder))
        clients = (1,) if plan.small else (1, 2, 4, 8)
        sessions, seconds = (32, 0.3) if plan.small else (8192, 4.0)
        name = str(plan.device)
        return load(Path(folder), name, clients=clients, sessions=sessions, seconds=seconds)


def fits(plan: Plan) -> list[Fit]:
    """Find how many sessions fit."""
    found = []
    for network in (Network(64, 1),) if plan.small else (_SERVED, Network(1024, 2)):
        with tempfile.TemporaryDirectory() as folder:
            path = write(Torch(network).eval(), Path(folder))
            try:
                found.append(fit(path, plan.device, network, most_bytes=2**20))
            except (RuntimeError, CarouselError) as error:
                log.get().warning("a pool failed", network=str(network), reason=str(error)[:200])
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the status is 1 where a check failed or there is no such device."""
    given, out = _parse(arguments)
    log.configure("text")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        device, _ = choose_device(given.device)
    except CarouselError as error:
        console.print(f"nothing was measured: {error}", markup=False, soft_wrap=True)
        return 1
    torch.set_num_threads(1)
    plan = Plan(device, given.math, time.monotonic() + 60 * given.minutes)
    checked = check(plan)
    if not all(each.passed for each in checked):
        tables.print_checks(console, checked)
        return 1
    rates = clock.rates(str(device), given.math, seconds=plan.each)
    results = Results(checked, rates, serve(plan), fits(plan), list(time_ticks(plan, rates)))
    results.show(console, plan)
    path = out / "gpu.json"
    path.write_text(json.dumps(results.numbers(plan), indent=1) + "\n")
    console.print(f"written: {path}")
    return 0


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured."""

    checked: list[checks.Check]
    rates: Rates
    loads: list[Load]
    fitted: list[Fit]
    timed: list[tables.Timed]

    def show(self, console: Console, plan: Plan) -> None:
        """Print it."""
        tables.print_checks(console, self.checked)
        tables.print_ticks(console, self.rates, self.timed)
        tables.print_loads(console, self.loads)
        tables.print_fits(console, self.fitted)
        left = len({*networks(small=plan.small)} - {each.case.network for each in self.timed})
        if left:
            console.print(f"time ran out before {left} of the networks; --minutes gives more")
        if plan.small:
            console.print("a rehearsal on the CPU provider: nothing here says anything of a GPU")
        else:
            tables.print_aims(console, self.timed)

    def numbers(self, plan: Plan) -> dict[str, Any]:
        """Return it as plain values."""
        named = contestants.open_memory(plan.device, plan.math).name
        return {
            "machine": report.machine() | {"torch": torch.__version__, "device": named},
            "math": plan.math,
            "checks": [asdict(each) for each in self.checked],
            "rates": asdict(self.rates),
            "ticks": [asdict(each) for each in self.timed],
            "server": [asdict(each) for each in self.loads],
            "fits": [asdict(each) for each in self.fitted],
        }


def _parse(arguments: list[str] | None) -> tuple[argparse.Namespace, Path]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu; default: cuda")
    parser.add_argument("--math", default="float32", choices=WIDTHS, help="default: float32")
    parser.add_argument(
        "--minutes", type=float, default=6.5, help="no network is begun later; default: 6.5"
    )
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args(arguments)
    return given, report.out_folder(parser, given.out)


if __name__ == "__main__":
    sys.exit(main())
