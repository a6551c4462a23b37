import ast
import re
from pathlib import Path

import pytest

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
