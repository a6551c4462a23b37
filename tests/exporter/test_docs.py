import ast
import re
import shlex
from pathlib import Path

import pytest

from carousel_exporter.cli import main

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "exporter" / "carousel_exporter"
PLACE = re.compile(r"`((?:tests/exporter/)?\w+\.py): ([\w., ]+)`")


def places():
    text = (ROOT / "docs" / "lstm.md").read_text()
    return [(file, name) for file, names in PLACE.findall(text) for name in names.split(", ")]


def test_there_are_places_to_check():
    assert len(places()) > 15


@pytest.mark.parametrize(("file", "name"), places())
def test_what_the_docs_point_to_is_there(file, name):
    path = ROOT / file if "/" in file else PACKAGE / file
    tree = ast.parse(path.read_text())
    defined = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            defined |= {f"{node.name}.{m.name}" for m in node.body if hasattr(m, "name")}
        if hasattr(node, "name"):
            defined.add(node.name)
    assert name in defined


def test_the_example_in_the_readme_runs_from_the_root(tmp_path, monkeypatch, capsys):
    """After its own training command, with fewer epochs."""
    text = (ROOT / "exporter" / "README.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    command = re.search(r"^carousel-export (train --.*?[^\\])\n", text, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command.replace("\\\n", " "))
    assert main([*words, "--epochs", "1", "--hidden", "8"]) == 0, capsys.readouterr().err
    names = {}
    exec(compile(example, "exporter/README.md", "exec"), names)
    assert names["y"].shape == (names["checkpoint"].split.test, 1, 1)
