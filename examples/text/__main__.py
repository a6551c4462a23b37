"""A model that writes, from a text to a picture: `python -m examples.text [TEXT]`.

Trains a character language model, serves it, has it go on from a prompt by lot and by beam search,
and shows how surprised it is by a passage that it has never seen. The exit status is 0 where the
streamed answers equal PyTorch's, 1 where they don't or something failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

import carousel_client as carousel
from examples.common.display import Display
from examples.common.ending import run_to_end
from examples.common.equality import check_equal
from examples.common.exporting import run_export, shown
from examples.common.metrics import fetch_figures
from examples.common.options import Options, make_parser, read_options
from examples.common.serving import serving
from examples.common.tables import figure_table, make_table
from examples.text.book import find_text, write_text
from examples.text.writing import MODEL, Surprise, Written, surprise, write

#: How to train well, and how to train quickly.
_GOOD = ("--layers", "2", "--dropout", "0.2")
_QUICK = ("--hidden", "64", "--batch", "8", "--window", "64", "--epochs", "4")
#: Characters of the passage that is shown.
PASSAGE = 700


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status."""
    parser = make_parser(
        "text",
        "Train a model on a text, serve it, and have it write.",
        quick="learn from the first 60,000 characters, with 64 units, for 4 epochs",
    )
    parser.add_argument("text", type=Path, nargs="?", metavar="TEXT", help="a text in UTF-8")
    parser.add_argument("--prompt", default="The ", help="what to go on from (default: 'The ')")
    parser.add_argument("--temperature", type=float, help="draw at this one temperature")
    parser.add_argument("--length", type=int, default=300, help="characters to write")
    parser.add_argument("--epochs", type=int, default=12, help="the most passes over the text")
    parser.add_argument("--seed", type=int, default=0, help="seed of training and drawing")
    given = parser.parse_args(arguments)
    options = read_options(given, "text")
    display = Display(Console(highlight=False))
    return run_to_end(display, partial(run, display, options, given))


def run(display: Display, options: Options, given: argparse.Namespace) -> None:
    """Tell and do everything."""
    display.title(
        "Carousel: a model that writes.",
        "One character goes in, the probability of each next one comes out.",
    )
    text, told = find_text(given.text)
    book, checkpoint = options.out / "book.txt", options.out / "text.pt"
    model = options.models / MODEL / "1" / "model.onnx"
    write_text(text, book, quick=options.quick)
    display.step("Train", f"an LSTM on {told}; the last 10 % are held out.")
    run_export(
        display,
        *("train", "--task", "text", "--data", book, "--seed", str(given.seed)),
        *(_QUICK if options.quick else (*_GOOD, "--epochs", str(given.epochs))),
        *("--out", checkpoint, "--plot", options.out / "training.png"),
    )
    display.step("Convert", "the network, with its vocabulary, to one ONNX file.")
    run_export(display, "convert", checkpoint, "--out", model, last_line_only=True)
    display.step("Serve", "the file from a process of its own, on free ports of this machine.")
    with (
        serving(options.models, log=options.log) as server,
        carousel.connect(server.address) as client,
    ):
        display.say(f"carousel-server, process {server.pid}: gRPC at {server.address}")
        temperatures = (0.5, 1.0) if given.temperature is None else (given.temperature,)
        display.step("Write", f"on from {given.prompt!r}, by lot and by beam search.")
        written = write(
            client,
            given.prompt,
            temperatures=temperatures,
            length=given.length,
            seed=given.seed,
        )
        _show_written(display, given.prompt, written)
        passage, bits = _held_out(book, checkpoint)
        display.step("Read", f"{len(passage)} characters of the held-out end, one at a time.")
        seen = surprise(client, passage)
        figures = fetch_figures(server.http, MODEL)
    display.show(figure_table(figures))
    display.say(_compare(checkpoint, seen))
    _show_bits(display, bits)

    from examples.text.picture import draw_picture  # noqa: PLC0415 - matplotlib takes a second

    draw_picture(options.picture, seen, bits)
    display.say(f"picture: {shown(options.picture)}")


def _held_out(book: Path, checkpoint: Path) -> tuple[str, dict[str, float]]:
    """Return the beginning of the test part, and bits a character on all of it by model."""
    from carousel_exporter.checkpoint import load  # noqa: PLC0415 - torch takes a second to import

    kept = load(checkpoint)
    start = kept.split.validation
    text = book.read_text(encoding="utf-8")
    bits = {
        "LSTM": float(kept.facts["test_bits_a_character"]),
        "5-gram": float(kept.facts["test_bits_a_character_counting"]),
    }
    return text[start : start + PASSAGE], bits


def _show_written(display: Display, prompt: str, written: Written) -> None:
    for temperature, text in written.drawn.items():
        display.say(f"drawn at temperature {temperature:g}:", style="bold")
        display.show(Text.assemble((prompt, "dim"), text))
    for width, (text, log_probability) in written.beams.items():
        name = "greedy" if width == 1 else f"the best of {width} beams, each in a forked session"
        display.say(f"{name}: ln p = {log_probability:.1f}", style="bold")
        display.show(Text.assemble((prompt, "dim"), text))


def _show_bits(display: Display, bits: dict[str, float]) -> None:
    table = make_table("bits a character, on the held-out end", right=("",), last=False)
    for name, value in bits.items():
        table.add_row(name, f"{value:.3f}")
    display.show(table)


def _compare(checkpoint: Path, seen: Surprise) -> str:
    """Compare the streamed answers with PyTorch's to the whole passage. Raises DemoError."""
    import torch  # noqa: PLC0415 - as above

    from carousel_exporter.checkpoint import load  # noqa: PLC0415 - as above
    from carousel_exporter.corpus import encode  # noqa: PLC0415 - as above
    from carousel_exporter.source import use_one_thread  # noqa: PLC0415 - as above

    use_one_thread()
    kept = load(checkpoint)
    with torch.inference_mode():
        expected, _ = kept.network(torch.from_numpy(encode(seen.passage, kept.symbols))[:, None])
    return check_equal([(seen.answers, expected[:, 0].numpy())])


if __name__ == "__main__":
    sys.exit(main())
