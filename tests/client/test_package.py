"""What the package exports, and what it must not drag in."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import carousel_client as carousel
from carousel_client import _errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "sdk.md"
README = ROOT / "client" / "README.md"


def test_exports():
    assert carousel.__all__ == [
        *("AnswersLost", "Backoff", "Busy", "CarouselError", "Classes", "Client", "ClientClosed"),
        *("ConnectionLost", "DeadlineExceeded", "Drain", "FailoverEvent", "GroupError"),
        *("InvalidInput", "Limits"),
        *("MarkNotFound", "ModelError", "ModelInfo", "ModelNotFound", "NumericFault"),
        *("OutOfOrder", "ReplayFull", "ResourceExhausted", "ServerError", "ServerInfo", "Session"),
        *("SessionClosed", "SessionError", "SessionExists", "SessionExpired", "SessionGroup"),
        *("SessionInfo", "SessionLost", "SessionMoved", "SessionNotFound", "SnapshotMismatch"),
        *(
            "StaleHandle",
            "StepError",
            "StoreAway",
            "TensorInfo",
            "Tls",
            "Unavailable",
            "aio",
            "connect",
        ),
        "text",
    ]
    assert carousel.aio.__all__ == ["Client", "Session", "SessionGroup", "connect", "text"]
    assert carousel.aio.text.__all__ == carousel.text.__all__
    for name in carousel.__all__:
        assert getattr(carousel, name).__doc__, name


@pytest.mark.parametrize("name", ["generate", "write", "beam"])
def test_text_has_the_same_surface(name):
    one, other = getattr(carousel.text, name), getattr(carousel.aio.text, name)
    assert inspect.signature(one).parameters.keys() == inspect.signature(other).parameters.keys()
    assert one.__doc__
    assert other.__doc__


@pytest.mark.parametrize("name", ["Client", "Session", "SessionGroup", "connect"])
def test_both_clients_have_the_same_surface(name):
    one, other = getattr(carousel, name), getattr(carousel.aio, name)
    if name == "connect":
        assert inspect.signature(one).parameters == inspect.signature(other).parameters
        return
    public = {key for key in dir(one) if not key.startswith("_")}
    assert public == {key for key in dir(other) if not key.startswith("_")}
    for key in public:
        if callable(getattr(one, key)) and key != "stream":
            mine, theirs = (inspect.signature(getattr(kind, key)) for kind in (one, other))
            assert mine.parameters == theirs.parameters, key


def test_importing_it_needs_none_of_the_heavy_ones():
    heavy = "onnx onnxruntime torch rich typer click carousel_server carousel_exporter"
    program = f"import sys, carousel_client; print(set({heavy.split()}) & set(sys.modules))"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("set()\n", "")


def blocks(page=DOCS):
    text = page.read_text()
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_examples_in_the_docs_run(fake, monkeypatch):
    for number, block in enumerate(blocks()):
        source = block.replace('"localhost:8001"', repr(fake.address))
        exec(compile(source, f"docs/sdk.md, example {number}", "exec"), {})
    assert len(blocks()) >= 8


def test_the_example_in_the_readme_runs(fake):
    (block,) = blocks(README)
    source = block.replace('"localhost:8001"', repr(fake.address))
    exec(compile(source, "client/README.md", "exec"), {})


def test_the_docs_draw_the_tree_of_errors():
    tree = _errors.__doc__.split("```")[1].strip()
    assert tree in DOCS.read_text()
