"""Voice activity, from a model of others to a picture: `python -m examples.voice MODEL WAV`.

Adopts a voice activity detector, serves it, and streams a recording to it in chunks of 32 ms. The
exit status is 0, 1 where something failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from examples.common.adopting import adopt
from examples.common.display import Display
from examples.common.ending import run_to_end
from examples.common.exporting import shown
from examples.common.metrics import fetch_figures
from examples.common.serving import serving
from examples.common.tables import figure_table, make_table
from examples.common.wav import RATE, read_wav
from examples.voice.model import SOURCE, flags
from examples.voice.options import Options, parse_options
from examples.voice.speech import Stretch, find_speech, is_speech
from examples.voice.streaming import MODEL, SECONDS, stream


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status."""
    options = parse_options(arguments)
    display = Display(Console(highlight=False))
    return run_to_end(display, partial(run, display, options))


def run(display: Display, options: Options) -> None:
    """Tell and do everything."""
    display.title(
        "Carousel: a voice activity detector that streams.",
        "Its LSTM's state and the samples it looks back at stay at the server.",
    )
    samples = read_wav(options.wav)
    display.step("Adopt", "the detector, as it was published, into one model file.")
    model = options.models / MODEL / "1" / "model.onnx"
    adopt(display, options.model, model, *flags(options.model), source=SOURCE)
    display.step("Serve", "the file from a process of its own, on free ports of this machine.")
    with serving(options.models, log=options.out / "server.log") as server:
        display.say(f"carousel-server, process {server.pid}: gRPC at {server.address}")
        seconds = len(samples) / RATE
        display.step("Stream", f"{seconds:.1f} s of sound, 512 samples (32 ms) at a time.")
        begin = time.monotonic()
        probabilities = stream(server.address, samples)
        took = time.monotonic() - begin
        figures = fetch_figures(server.http, MODEL)
    display.say(f"{len(probabilities):,} chunks in {took:.1f} s, {seconds / took:.0f} x real time")
    display.show(figure_table(figures))
    stretches = find_speech(probabilities.tolist(), threshold=options.threshold)
    _show(display, stretches, chunks=len(probabilities))

    from examples.voice.picture import draw_picture  # noqa: PLC0415 - matplotlib takes a second

    draw_picture(options.picture, samples, probabilities, stretches, threshold=options.threshold)
    display.say(f"picture: {shown(options.picture)}")


def _show(display: Display, stretches: Sequence[Stretch], *, chunks: int, most: int = 12) -> None:
    share = is_speech(stretches, chunks).mean()
    display.step("Hear", f"speech in {share:.0%} of the chunks, in {len(stretches)} stretches.")
    if not stretches:
        return
    table = make_table("speech", right=("from (s)", "to (s)", "lasts (s)"), last=False)
    for number, stretch in enumerate(stretches[:most], start=1):
        begin, end = stretch.begin * SECONDS, stretch.end * SECONDS
        table.add_row(f"{number}", f"{begin:.2f}", f"{end:.2f}", f"{end - begin:.2f}")
    display.show(table)
    if len(stretches) > most:
        display.say(f"and {len(stretches) - most} more")


if __name__ == "__main__":
    sys.exit(main())
