"""`make bench`: the workloads against their ceilings, in the same run, on this machine."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import loops, report
from benchmarks.measure import Bench, Outcome, Workload
from benchmarks.network import write_model
from benchmarks.processes import carousel_server, echo_server
from benchmarks.workloads import SLOTS, WORKLOADS

_EXAMPLES = """\
examples:
  python -m benchmarks
  python -m benchmarks --quick --only W1,W3
"""


async def run(workloads: list[Workload], *, runs: int, quick: bool, out: Path) -> None:
    """Run workloads and leave a table, a JSON file and a picture."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder))
        outcomes = []
        for workload in workloads:
            # A fresh server each: no workload pays for what another left behind.
            with (
                carousel_server(Path(folder), "--slots", str(SLOTS)) as server,
                echo_server() as echo,
            ):
                async with (
                    loops.channel(server.address) as ours,
                    loops.channel(echo.address) as other,
                ):
                    bench = Bench(server, ours, other, model, quick)
                    with console.status(f"{workload.name}: {workload.what}"):
                        measured = [await workload.run(bench) for _ in range(runs)]
            outcomes.append(Outcome(workload, measured))
            console.print(f"{workload.name}: {outcomes[-1].ratio:.2f} of {workload.ceiling}")
    report.print_table(console, outcomes)
    report.write_json(out / "results.json", outcomes, {})
    report.draw(out / "results.png", outcomes)
    console.print(f"written: {out / 'results.json'}, {out / 'results.png'}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Carousel beside its ceilings: an echo of plain grpc.aio, and bare "
        "ONNX Runtime.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--quick", action="store_true", help="fewer messages, and one run each")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args()
    wanted = given.only.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"there is no workload {unknown[0]!r}; there are {', '.join(names)}")
    out = report.out_folder(parser, given.out)
    chosen = [workload for workload in WORKLOADS if workload.name in wanted]
    asyncio.run(run(chosen, runs=1 if given.quick else given.runs, quick=given.quick, out=out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
