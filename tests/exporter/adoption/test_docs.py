"""docs/adopt.md has every flag of the command, and no other."""

import re
from pathlib import Path

import typer

from carousel_exporter.commands.adopt import adopt

PAGE = Path(__file__).parents[3] / "docs" / "adopt.md"


def test_the_table_has_every_flag():
    app = typer.Typer(add_completion=False)
    app.command()(adopt)
    parameters = typer.main.get_command(app).params
    flags = {name for p in parameters for name in p.opts if name.startswith("--")} - {"--help"}
    rows = re.findall(r"^\| (`--.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"--[a-z]+", row)} == flags
