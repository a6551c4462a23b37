"""Carousel on a GPU, beside its peers there and the hardware's floor: checks, then measures.

Without a GPU nothing can be said about one; `--device cpu` runs a small version of everything on
the CPU provider, which shows that the script works and nothing else.

It has --minutes for all of it: at most 30 % of them for the project's tests, 20 % for the whole
server, 10 % for how many sessions fit, and what is left for ticks. Of each the most telling is
measured first, and what there was no time for is named at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch  # before onnxruntime: its CUDA and cuDNN libraries serve both
from rich.console import Console

from benchmarks import report
from benchmarks.ondevice import checks, clock, contestants, tables
from benchmarks.ondevice.budget import Budget
from benchmarks.ondevice.cases import WIDTHS, Network, Rates, networks
from benchmarks.ondevice.fit import Fit, fit
from benchmarks.ondevice.models import Torch, write
from benchmarks.ondevice.service import Load, load
from benchmarks.ondevice.ticks import Contest, Times, time_ticks
from carousel_server import log
from carousel_server.errors import CarouselError
from carousel_server.runtime.device import Device, choose_device

_SERVED, _SMALL = Network(128, 2), Network(64, 1)
_TESTS_SHARE, _SERVER_SHARE, _FITS_SHARE = 0.3, 0.2, 0.1
_WIDTH = 130  # of tables in a file
_EXAMPLES = """\
examples:
  python -m benchmarks.gpu
  python -m benchmarks.gpu --minutes 30
  python -m benchmarks.gpu --math bfloat16 --device cuda:1 --out /tmp/bench
  python -m benchmarks.gpu --device cpu
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured where, and how long that may take."""

    device: Device
    math: str
    budget: Budget
    spent: dict[str, float] = field(default_factory=dict)  # seconds, by what they were spent on

    @property
    def small(self) -> bool:
        """Whether it is a rehearsal."""
        return self.device.kind == "cpu"

    @property
    def each(self) -> float:
        """Seconds of each measurement."""
        return 0.01 if self.small else 0.05

    @property
    def served(self) -> Network:
        """The network that is checked, and that the whole server has."""
        return _SMALL if self.small else _SERVED

    @property
    def gateways(self) -> tuple[int, ...]:
        """How many gateways there are at a time: first one, then as many as there ever are."""
        return (1, 2) if self.small else (1, 8, 4, 2)

    @property
    def fitted(self) -> tuple[Network, ...]:
        """The networks whose sessions are to fit."""
        return (_SMALL,) if self.small else (_SERVED, Network(1024, 2))

    @contextmanager
    def spending(self, what: str) -> Iterator[None]:
        """Note how long something took."""
        before = self.budget.spent
        yield
        self.spent[what] = round(self.budget.spent - before, 1)


def check(plan: Plan) -> list[checks.Check]:
    """Compare with PyTorch, and on a GPU run the tests that are for one."""
    sessions = 32 if plan.small else 4096
    network = Torch(plan.served).eval()
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
    if not plan.small and (tested := checks.run_tests(plan.budget.part(_TESTS_SHARE))):
        done.append(tested)
    return done


def serve(plan: Plan) -> list[Load]:
    """Measure the whole server; nothing, and a line, where it fails."""
    sessions, seconds = (32, 0.3) if plan.small else (8192, 4.0)
    with tempfile.TemporaryDirectory() as folder:
        write(Torch(plan.served).eval(), Path(folder))
        try:
            return load(
                Path(folder),
                str(plan.device),
                gateways=plan.gateways,
                sessions=sessions,
                seconds=seconds,
                budget=plan.budget.part(_SERVER_SHARE),
            )
        except RuntimeError as error:
            log.get().warning("the server was not measured", reason=str(error)[:200])
            return []


def fits(plan: Plan) -> list[Fit]:
    """Find how many sessions fit."""
    budget, found = plan.budget.part(_FITS_SHARE), list[Fit]()
    for network in plan.fitted:
        if not budget.left:
            break
        with tempfile.TemporaryDirectory() as folder:
            path = write(Torch(network).eval(), Path(folder))
            try:
                found.append(fit(path, plan.device, network, most_bytes=2**20))
            except (RuntimeError, CarouselError) as error:
                log.get().warning("a pool failed", network=str(network), reason=str(error)[:200])
    return found


def measure(plan: Plan, checked: list[checks.Check]) -> Results:
    """Measure all there is time for."""
    rates = clock.rates(str(plan.device), plan.math, seconds=plan.each)
    with plan.spending("the whole server"):
        loads = serve(plan)
    with plan.spending("sessions that fit"):
        fitted = fits(plan)
    with plan.spending("ticks"):
        contest = Contest(plan.device, plan.math, rates, plan.each, plan.small)
        times = time_ticks(contest, networks(small=plan.small), plan.budget)
    return Results(checked, rates, loads, fitted, times)


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
    plan = Plan(device, given.math, Budget(60 * given.minutes))
    with plan.spending("checks and tests"):
        checked = check(plan)
    if not all(each.passed for each in checked):
        tables.print_checks(console, checked)
        return 1
    results = measure(plan, checked)
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
    times: Times

    def left_out(self, plan: Plan) -> list[str]:
        """Return what was not measured beside ticks, in words."""
        gateways = sorted({*plan.gateways} - {each.gateways for each in self.loads})
        unfitted = [n for n in plan.fitted if n not in {each.network for each in self.fitted}]
        return [
            *(["the project's tests for GPUs"] if not plan.small and len(self.checked) < 2 else []),
            *(f"the whole server, gateways {count}" for count in gateways),
            *(f"how many sessions fit, H={n.hidden}, layers {n.layers}" for n in unfitted),
        ]

    def show(self, console: Console, plan: Plan) -> None:
        """Print it."""
        tables.print_checks(console, self.checked)
        tables.print_ticks(console, self.rates, self.times.timed)
        tables.print_loads(console, self.loads)
        tables.print_fits(console, self.fitted)
        tables.print_left_out(console, self.times.timed, self.times.left_out, self.left_out(plan))
        tables.print_spent(console, plan.spent)
        if plan.small:
            console.print("a rehearsal on the CPU provider: nothing here says anything of a GPU")
        else:
            tables.print_aims(console, self.times.timed)

    def numbers(self, plan: Plan) -> dict[str, Any]:
        """Return it as plain values."""
        named = contestants.open_memory(plan.device, plan.math).name
        return {
            "machine": report.machine() | {"torch": torch.__version__, "device": named},
            "math": plan.math,
            "checks": [asdict(each) for each in self.checked],
            "rates": asdict(self.rates),
            "ticks": [asdict(each) for each in self.times.timed],
            "server": [asdict(each) for each in self.loads],
            "fits": [asdict(each) for each in self.fitted],
            "left_out": {
                "ticks": [asdict(each) for each in self.times.left_out],
                "others": self.left_out(plan),
            },
            "seconds": plan.spent,
        }


def _minutes(given: str) -> float:
    minutes = float(given)
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"minutes above 0 were expected, not {given}")
    return minutes


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
        "--minutes", type=_minutes, default=7.0, help="for all of it, about; default: 7"
    )
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args(arguments)
    return given, report.out_folder(parser, given.out)


if __name__ == "__main__":
    sys.exit(main())
