"""What is inside a cell: `python -m examples.anatomy [--text FILE]` draws it, for docs/lstm.md.

With a text it trains a small character LSTM too, and draws what its gates do over a sentence. The
exit status is 0, 1 where something failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

from rich.console import Console

from carousel_exporter.source import use_one_thread
from examples.anatomy import characters
from examples.anatomy.cells import draw_lstm, draw_rnn_and_gru
from examples.anatomy.characters import Text
from examples.anatomy.gates import run_on_tokens
from examples.anatomy.gradients import draw_gradients, gradient_table, measure_all
from examples.anatomy.heatmap import draw_heatmap
from examples.anatomy.options import Options, parse_options
from examples.anatomy.stack import draw_stack
from examples.common.display import Display
from examples.common.ending import run_to_end
from examples.common.exporting import shown
from examples.common.progress import counted

#: Characters that are read where nobody gives a sentence.
_READ: Final = 80


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status."""
    options = parse_options(arguments)
    display = Display(Console(highlight=False))
    return run_to_end(display, partial(run, display, options))


def run(display: Display, options: Options) -> None:
    """Tell and do everything."""
    use_one_thread()
    display.title("Carousel: what is inside an LSTM.", "Circuits, gradients, and gates at work.")
    text = characters.read_text(options.text) if options.text else None
    if text and options.sentence:
        text.encode(options.sentence)  # refused now, rather than after minutes of training
    draw_circuits(display, options)
    draw_measured(display, options)
    if text:
        read(display, options, text)


def draw_circuits(display: Display, options: Options) -> None:
    """Draw the cells and the stack of layers."""
    display.step("Draw", "the cells, and layers on top of each other.")
    for name, draw in (
        ("lstm-cell", draw_lstm),
        ("rnn-and-gru-cells", draw_rnn_and_gru),
        ("stacked-layers", draw_stack),
    ):
        path = options.out / f"{name}.png"
        draw(path)
        display.say(f"picture: {shown(path)}")


def draw_measured(display: Display, options: Options) -> None:
    """Measure gradients over time, and draw them."""
    display.step("Measure", "how much of an answer's error reaches inputs of long ago.")
    measured = measure_all()
    display.show(gradient_table(measured))
    path = options.out / "gradients.png"
    draw_gradients(path, measured)
    display.say(f"picture: {shown(path)}")


def read(display: Display, options: Options, text: Text) -> None:
    """Train a character model, and draw its gates over the sentence."""
    settings = options.settings
    display.step("Train", f"a character LSTM of {settings.hidden} units.")
    updates = characters.train(text, settings)
    *_, network = counted(updates, total=settings.updates, told="training")
    bits = characters.bits_a_character(network, text.held_out)
    display.say(
        f"{bits:.2f} bits a character on the last {characters.HELD_OUT:.0%} of the text; how "
        f"common each character is costs {characters.commonest_bits(text):.2f}"
    )
    sentence = options.sentence or text.decode(text.held_out[:_READ])
    display.step("Read", "a sentence, and look at the gates.")
    display.say(sentence, style="italic")
    path = options.out / "gates.png"
    draw_heatmap(path, sentence, run_on_tokens(network.eval(), text.encode(sentence)))
    display.say(f"picture: {shown(path)}")


if __name__ == "__main__":
    sys.exit(main())
