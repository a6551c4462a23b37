import pytest
from typer.testing import CliRunner

import carousel_client as carousel
from carousel_client.cli import app
from tests.client.fake import Fake


@pytest.fixture
def fake():
    server = Fake().start()
    yield server
    server.stop()


@pytest.fixture
def quick():
    """Options that keep tests short: a failing connection is given up after a second."""
    return {"timeout": 1.0, "backoff": carousel.Backoff(initial=0.01, maximum=0.05)}


@pytest.fixture
def client(fake, quick):
    with carousel.connect(fake.address, **quick) as made:
        yield made


@pytest.fixture
def run(fake):
    """The command line, in this process, against the fake server."""

    def run(*words, stdin=""):
        command = ["--address", fake.address, *words]
        return CliRunner().invoke(app, command, input=stdin, env={"COLUMNS": "200"})

    return run
