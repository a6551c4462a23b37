"""Noise suppression with two models in a row: `python -m examples.denoise MODEL1 MODEL2 WAV`.

Adopts both, serves them from one server, and streams a recording through them in frames of 32 ms,
8 ms apart. The exit status is 0, 1 where something failed, and 130 after Ctrl-C.
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
from examples.common.wav import RATE, Samples, read_wav, write_wav
from examples.denoise.loudness import measure
from examples.denoise.options import Options, parse_options
from examples.denoise.streaming import MASKING, MENDING, stream

_SOURCE = (
    "get pretrained_model/model_1.onnx and model_2.onnx from https://github.com/breizhn/DTLN, and "
    "give their paths"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status."""
    options = parse_options(arguments)
    display = Display(Console(highlight=False))
    return run_to_end(display, partial(run, display, options))


def run(display: Display, options: Options) -> None:
    """Tell and do everything."""
    display.title(
        "Carousel: noise suppression that streams.",
        "Two recurrent models in a row, a session of each, 8 ms of sound at a time.",
    )
    noisy = read_wav(options.wav)
    display.step("Adopt", "both models, as they were published, into model files.")
    for name, path in ((MASKING, options.masking), (MENDING, options.mending)):
        adopt(display, path, options.models / name / "1" / "model.onnx", source=_SOURCE)
    display.step("Serve", "the two files from one process, on free ports of this machine.")
    with serving(options.models, log=options.out / "server.log") as server:
        display.say(f"carousel-server, process {server.pid}: gRPC at {server.address}")
        seconds = len(noisy) / RATE
        display.step("Stream", f"{seconds:.1f} s of sound: each frame's spectrum, then its sound.")
        begin = time.monotonic()
        denoised = stream(server.address, noisy)
        took = time.monotonic() - begin
        figures = [fetch_figures(server.http, name) for name in (MASKING, MENDING)]
    display.say(
        f"{figures[0].steps:,} frames in {took:.1f} s, {seconds / took:.1f} x real time; a message "
        f"took {figures[0].milliseconds_a_message:.2f} and "
        f"{figures[1].milliseconds_a_message:.2f} ms at the server"
    )
    for name, counted in zip((MASKING, MENDING), figures, strict=True):
        display.show(figure_table(counted, model=name))
    _conclude(display, options, noisy, denoised)


def _conclude(display: Display, options: Options, noisy: Samples, denoised: Samples) -> None:
    display.step("Hear", "what is left where nobody speaks, and of the speech.")
    table = make_table(
        "level (dB of full scale)", right=("quietest tenth", "loudest tenth"), last=False
    )
    for name, samples in (("as it came", noisy), ("streamed", denoised)):
        level = measure(samples)
        table.add_row(name, f"{level.quietest:.1f}", f"{level.loudest:.1f}")
    display.show(table)
    write_wav(options.denoised, denoised)

    from examples.denoise.picture import draw_picture  # noqa: PLC0415 - matplotlib takes a second

    draw_picture(options.picture, noisy, denoised)
    display.say(f"sound: {shown(options.denoised)}")
    display.say(f"picture: {shown(options.picture)}")


if __name__ == "__main__":
    sys.exit(main())
