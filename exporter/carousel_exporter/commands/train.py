"""`carousel-export train`: data in, a checkpoint, a table and a picture out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from carousel_exporter.commands.assigning import DEFAULTS, Data, assign, check_task
from carousel_exporter.commands.options import names
from carousel_exporter.errors import SettingsError

#: PyTorch starts as many as it is told, and dies where it can't.
MOST_THREADS: Final = 256


def train(
    *,
    data: Annotated[
        Path,
        typer.Option(
            help="A CSV file with a header and one row a step, in the order of time; for classify "
            "a .ts file too; for text a text in UTF-8."
        ),
    ],
    task: Annotated[
        str,
        typer.Option(metavar="forecast|classify|text", help="What the network is to learn."),
    ] = "forecast",
    target: Annotated[
        list[str] | None,
        typer.Option(help="forecast: column to forecast; a,b or repeated for more."),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns that go in, a,b or repeated. (default: all columns of numbers; for "
            "classify all others)"
        ),
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(help="forecast: how many steps ahead.", show_default="1"),
    ] = None,
    season: Annotated[
        int | None, typer.Option(help="forecast: steps in a season, for the seasonal baseline.")
    ] = None,
    changes: Annotated[
        bool | None,
        typer.Option(
            "--changes/--levels",
            help="forecast: learn changes from step to step, or plain values. (default: changes "
            "where every target is a feature)",
        ),
    ] = None,
    sequence: Annotated[
        str | None, typer.Option(help="classify: column that says which sequence a row is of.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="classify: column of the labels.")] = None,
    test_data: Annotated[
        Path | None,
        typer.Option(help="classify: file of the test part. (default: a part of --data)"),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(
            metavar="balanced|CLASS=WEIGHT,…",
            help="classify: weights of the classes in the loss; balanced weighs rare ones more. "
            "(default: all alike)",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Steps that a gradient goes back.", show_default="64; 256; 128"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Streams or sequences trained side by side.", show_default="8; 16; 32"),
    ] = None,
    layers: Annotated[int, typer.Option(help="Recurrent layers.")] = 1,
    cell: Annotated[
        str,
        typer.Option(metavar="lstm|gru|rnn", help="Kind of the layers; rnn squashes with tanh."),
    ] = "lstm",
    hidden: Annotated[
        int | None, typer.Option(help="Units a layer.", show_default="64; 64; 256")
    ] = None,
    dropout: Annotated[float, typer.Option(help="Dropout between layers, 0 to 1.")] = 0.0,
    recurrent_dropout: Annotated[
        float,
        typer.Option(
            help="Dropout of the hidden state on its way to the next step, 0 to 1: the same units "
            "throughout a window (variational)."
        ),
    ] = 0.0,
    layer_norm: Annotated[
        bool, typer.Option("--layer-norm", help="Normalise each layer's answer over its units.")
    ] = False,
    chrono: Annotated[
        int,
        typer.Option(
            help="Begin with gates that remember over 1 to so many steps (chrono initialisation); "
            "0 for the usual biases."
        ),
    ] = 0,
    label_smoothing: Annotated[
        float | None,
        typer.Option(
            help="classify, text: share of a target's probability that goes to all classes alike.",
            show_default="0",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="The most passes over the training part.", show_default="300; 200; 30"),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Epochs without a better validation loss before stopping.",
            show_default="40; 30; 5",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate to begin with (Adam).", show_default="0.003; 0.003; 0.002"
        ),
    ] = None,
    clip: Annotated[float, typer.Option(help="The gradient's largest norm.")] = 1.0,
    validation: Annotated[
        float | None,
        typer.Option(help="Fraction of the data for validation.", show_default="0.15; 0.15; 0.1"),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(
            help="Fraction of the data for the test; of a series or a text, its end.",
            show_default="0.15; 0.15; 0.1",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed; the same one gives the same network.")] = 0,
    threads: Annotated[int, typer.Option(help="Processor threads; 1 is best for small ones.")] = 1,
    unit: Annotated[
        str | None, typer.Option(help="forecast: unit of the targets, for tables and pictures.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the checkpoint goes.",
            show_default="forecaster.pt; classifier.pt; text.pt",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Where the picture goes; folders that are missing are made, as for every result. "
            "(default: --out with the ending .png)"
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Where a page of the run goes, with curves and settings (HTML)."),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(help="Folder for a TensorBoard log; needs carousel-exporter[tensorboard]."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where a run with the same options was interrupted; --epochs may be more, "
            "and --threads, --season and where results go may be others.",
        ),
    ] = False,
) -> None:
    """Train a network on a series, on labelled sequences, or on a text.

    Data are cut into training, validation and test parts. The best network on the validation part
    is kept; Ctrl-C ends training early and keeps it too. At the end stands how good it is on the
    test part, beside what costs nothing. Where a default differs by task, all three stand there.

    For example:

        carousel-export train --data co2.csv --target co2 --horizon 4 --season 52 --out co2.pt

        carousel-export train --task classify --data gestures.csv --sequence id --label gesture

        carousel-export train --task text --data book.txt --out book.pt
    """
    given = dict(locals())
    check_task(task, given)
    import torch  # noqa: PLC0415 - it takes seconds to import

    from carousel_exporter.commands.run import Places, Run  # noqa: PLC0415 - as above
    from carousel_exporter.settings import TrainingSettings  # noqa: PLC0415

    if not 1 <= threads <= MOST_THREADS:
        raise SettingsError(f"--threads must be 1 to {MOST_THREADS}, not {threads}.")
    torch.set_num_threads(threads)
    usual = DEFAULTS[task]

    def chosen(name: str, value: Any) -> Any:
        return usual[name] if value is None else value

    settings = TrainingSettings(
        window=chosen("window", window),
        batch=chosen("batch", batch),
        layers=layers,
        hidden=chosen("hidden", hidden),
        cell=cell,
        dropout=dropout,
        epochs=chosen("epochs", epochs),
        learning_rate=chosen("learning_rate", lr),
        clip=clip,
        patience=chosen("patience", patience),
        seed=seed,
        recurrent_dropout=recurrent_dropout,
        layer_norm=layer_norm,
        chrono=chrono,
        label_smoothing=label_smoothing or 0.0,
    )
    found = Data(
        path=data,
        target=names(target),
        features=names(features),
        horizon=1 if horizon is None else horizon,
        season=season,
        changes=changes,
        unit=unit or "",
        sequence=sequence or "",
        label=label or "",
        test_data=test_data,
        class_weights=class_weights or "",
        validation=chosen("validation", validation),
        test=chosen("test", test),
    )
    assignment = assign(task, found, settings.window)
    checkpoint = Path(usual["out"]) if out is None else out
    if not checkpoint.name:
        raise SettingsError(f"--out must name a file, not {str(out)!r}.")
    files = tuple(path for path in (data, test_data) if path is not None)
    picture = plot or checkpoint.with_suffix(".png")
    places = Places(files, checkpoint, picture, report, tensorboard)
    places.check()
    options = {"task": task, **found.identity()}
    Run(assignment, settings, places, Console(emoji=False), options).go(resume=resume)
