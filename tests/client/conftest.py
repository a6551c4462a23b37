import pytest

import carousel_client as carousel
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
