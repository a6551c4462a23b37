"""Who speaks? From recordings to a picture: `python -m examples.vowels`.

Trains a classifier on Japanese vowels with five seeds, serves one of them, and streams every
held-out utterance to it, a frame at a time. The exit status is 0 where the streamed answers equal
PyTorch's, 1 where they don't or something failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from examples.common.display import Display
from examples.common.ending import run_to_end
from examples.common.equality import check_equal
from examples.common.exporting import run_export, shown
from examples.common.metrics import fetch_figures
from examples.common.options import Options, make_parser, read_options
from examples.common.serving import serving
from examples.common.tables import figure_table, make_table
from examples.vowels.hearing import Heard, hear
from examples.vowels.settings import SEEDS, SETTINGS, flags
from examples.vowels.streaming import MODEL, Answers, stream
from examples.vowels.utterances import TEST, TRAIN, read_test


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status."""
    parser = make_parser(
        "vowels",
        "Train a classifier of speakers, serve it, and stream utterances to it.",
        quick="train with one seed, for 5 epochs",
    )
    options = read_options(parser.parse_args(arguments), "vowels")
    display = Display(Console(highlight=False))
    return run_to_end(display, partial(run, display, options))


def run(display: Display, options: Options) -> None:
    """Tell and do everything."""
    display.title(
        "Carousel: who speaks? Told while the utterance goes on.",
        "Nine speakers of Japanese vowels; an answer comes with every frame of 6.4 ms.",
    )
    seeds = SEEDS[:1] if options.quick else SEEDS
    display.step("Train", f"with {len(seeds)} seed(s); settings were chosen on TRAIN alone.")
    for seed in seeds:
        shorter = ("--epochs", "5") if options.quick else ()
        run_export(
            display,
            *("train", "--task", "classify", "--data", TRAIN, "--test-data", TEST),
            *(*flags(SETTINGS), "--seed", str(seed), *shorter),
            *("--out", options.out / f"seed{seed}.pt"),
            last_line_only=True,
        )
    chosen = _show_seeds(display, options, seeds)
    display.step("Convert", f"the network of seed {chosen}, of median accuracy, to one ONNX file.")
    checkpoint = options.out / f"seed{chosen}.pt"
    model = options.models / MODEL / "1" / "model.onnx"
    run_export(display, "convert", checkpoint, "--out", model, last_line_only=True)
    display.step("Serve", "the file from a process of its own, on free ports of this machine.")
    with serving(options.models, log=options.log) as server:
        display.say(f"carousel-server, process {server.pid}: gRPC at {server.address}")
        test = read_test()
        display.step(
            "Stream",
            f"{len(test.values)} utterances, each in a session of its own, a frame at a time.",
        )
        answers = stream(server.address, test.values)
        figures = fetch_figures(server.http, MODEL)
    display.show(figure_table(figures))
    heard = hear(answers, test)
    _show_heard(display, heard)
    display.say(_compare(options, chosen, answers))

    from examples.vowels.picture import draw_picture  # noqa: PLC0415 - matplotlib takes a second

    draw_picture(options.picture, heard, answers, test)
    display.say(f"picture: {shown(options.picture)}")


def _show_seeds(display: Display, options: Options, seeds: Sequence[int]) -> int:
    """Show how good each seed's network is on TEST; return the seed of the median."""
    from carousel_exporter.checkpoint import load  # noqa: PLC0415 - torch takes a second to import

    found = []
    for seed in seeds:
        facts = load(options.out / f"seed{seed}.pt").facts
        found.append((float(facts["test_accuracy_last"]), seed, facts))
    right = ("last step", "all steps", "best epoch")
    table = make_table("right on TEST, by seed", right=right, last=False)
    for last, seed, facts in found:
        steps = float(facts["test_accuracy_steps"])
        table.add_row(f"seed {seed}", f"{last:.1%}", f"{steps:.1%}", f"{facts['best_epoch']}")
    median, chosen, _ = sorted(found, key=lambda each: each[:2])[len(found) // 2]
    table.add_row("median", f"{median:.1%}", "", "")
    display.show(table)
    return chosen


def _show_heard(display: Display, heard: Heard) -> None:
    display.step("Hear", "how soon the speaker is known: right answers, by time heard.")
    table = make_table("heard", right=("right", "still speaking"), last=False)
    for frame in (1, 2, 3, 5, 7, 10, 15, 20, len(heard.right)):
        row = frame - 1
        table.add_row(
            f"{heard.milliseconds[row]:.0f} ms",
            f"{heard.right[row]:.1%}",
            f"{heard.speaking[row]}",
        )
    display.show(table)


def _compare(options: Options, seed: int, answers: Answers) -> str:
    """Compare the streamed answers with PyTorch's to whole utterances. Raises DemoError."""
    from carousel_exporter.checkpoint import load  # noqa: PLC0415 - as above
    from carousel_exporter.labelling import answer_sequences  # noqa: PLC0415 - as above
    from carousel_exporter.source import use_one_thread  # noqa: PLC0415 - as above

    use_one_thread()
    network = load(options.out / f"seed{seed}.pt").network
    return check_equal(zip(answers, answer_sequences(network, read_test()), strict=True))


if __name__ == "__main__":
    sys.exit(main())
