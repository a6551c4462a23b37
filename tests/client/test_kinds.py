"""Arguments of the wrong kind: one sentence with what was expected and what came."""

import re

import numpy as np
import pytest

import carousel_client as carousel
from carousel_client._addresses import addresses


def _refused(call, words):
    with pytest.raises(carousel.InvalidInput, match=re.escape(words)) as caught:
        call()
    assert "\n" not in str(caught.value)


CLIENT = {
    "model": (lambda c: c.model(3), "the model's name: expected a string, but got 3 (int)"),
    "version": (lambda c: c.model("sum", 2), "the model's version: expected a string"),
    "sessions": (lambda c: c.sessions(4), "the model's name: expected a string, but got 4 (int)"),
    "open": (lambda c: c.open(None), "the model's name: expected a string, but got None"),
    "id": (lambda c: c.open("co2", 3), "a session's id: expected a string, but got 3 (int)"),
    "surrogate": (lambda c: c.open("co2", "\ud800"), "can't be written as UTF-8"),
    "states": (lambda c: c.open("sum", initial_states=[1]), "initial_states: expected a dict"),
    "ragged": (
        lambda c: c.open("sum", initial_states={"total": [[1], [1, 2]]}),
        "state 'total' is not an array",
    ),
    "open_version": (lambda c: c.open("sum", version=1), "the model's version: expected a string"),
    "many": (lambda c: c.open_many("sum", 2.5), "expected a number of sessions or a list of ids"),
    "none": (
        lambda c: c.open_many("sum", 0),
        "the number of sessions must be at least 1, but is 0",
    ),
    "minus": (lambda c: c.open_many("sum", -1), "must be at least 1, but is -1"),
    "true": (lambda c: c.open_many("sum", True), "but got True (bool)"),
    "many_ids": (lambda c: c.open_many("sum", [1, 2]), "a session's id: expected a string"),
    "many_states": (
        lambda c: c.open_many("sum", 2, initial_states=3),
        "initial_states: expected a dict, but got 3 (int)",
    ),
    "attach": (lambda c: c.attach("sum", None), "a session's id: expected a string, but got None"),
    "attach_many": (lambda c: c.attach_many("sum", "abc"), "expected a list of sessions' ids, but"),
    "attach_none": (
        lambda c: c.attach_many("sum", 3),
        "expected a list of sessions' ids, but got 3",
    ),
    "restore": (lambda c: c.restore("sum", "text"), "a snapshot is the bytes that snapshot()"),
    "restore_many": (lambda c: c.restore_many("sum", 3), "expected a list of snapshots, but got 3"),
}


@pytest.mark.parametrize("name", CLIENT)
def test_a_clients_arguments(client, name):
    _refused(lambda: CLIENT[name][0](client), CLIENT[name][1])


@pytest.mark.parametrize("name", CLIENT)
async def test_a_clients_arguments_with_asyncio(fake, quick, name):
    async with carousel.aio.connect(fake.address, **quick) as client:
        with pytest.raises(carousel.InvalidInput, match=re.escape(CLIENT[name][1])):
            await CLIENT[name][0](client)


SESSION = {
    "nothing": (lambda s: s.step(None), "takes float32, but got None (NoneType): expected numbers"),
    "object": (lambda s: s.step(object()), "(object): expected numbers"),
    "set": (lambda s: s.step({1, 2}), "takes float32, but got {1, 2} (set): expected numbers"),
    "keys": (lambda s: s.step({1: [1, 2], "x": 3}), "expected the inputs 'x', but got 'x', 1"),
    "timeout": (lambda s: s.step([1, 2], timeout="1"), "timeout: expected a number, but got '1'"),
    "nan": (
        lambda s: s.step([1, 2], timeout=float("nan")),
        "timeout: expected a number, but got NaN",
    ),
    "window": (
        lambda s: s.stream([], window="64"),
        "window: expected a whole number, but got '64'",
    ),
    "stream": (lambda s: s.stream(5), "what is streamed: expected something to iterate over"),
    "fork": (
        lambda s: s.fork("ab"),
        "expected a number of sessions or a list of ids, but got 'ab'",
    ),
    "fork_one": (lambda s: s.fork_one(7), "a session's id: expected a string, but got 7 (int)"),
    "mark": (lambda s: s.mark(5), "a mark's name has 1 to"),
    "rewind": (lambda s: s.rewind(1.5), "rewind takes a mark's name or a step's number, but 1.5"),
}


@pytest.mark.parametrize("name", SESSION)
def test_a_sessions_arguments(client, name):
    session = client.open("sum")
    _refused(lambda: SESSION[name][0](session), SESSION[name][1])
    assert session.step([1, 2]).tolist() == [1, 2]  # nothing has come of it


@pytest.mark.parametrize("name", SESSION)
async def test_a_sessions_arguments_with_asyncio(fake, quick, name):
    async with carousel.aio.connect(fake.address, **quick) as client, client.open("sum") as session:
        with pytest.raises(carousel.InvalidInput, match=re.escape(SESSION[name][1])):
            await SESSION[name][0](session)
        assert (await session.step([1, 2])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (1, "rows: expected rows' numbers, such as [0], but got 1 (int)"),
        (["a"], "rows: expected a whole number, but got 'a' (str)"),
        ([0.5], "rows: expected a whole number, but got 0.5 (float)"),
    ],
)
def test_a_groups_rows(client, rows, words):
    group = client.open_many("sum", 2)
    _refused(lambda: group.reset(rows), words)
    _refused(lambda: group.rewind(0, rows), words)
    group.reset(np.array([1]))


def test_text(client):
    model = client.model("letters")
    _refused(lambda: model.encode(4), "the text: expected a string, but got 4 (int)")
    session = client.open("letters")
    _refused(lambda: session.step(True), "takes symbols' numbers, int64, or text, but got bool")
    for words, arguments in {
        "the prompt: expected a string, but got 5 (int)": (5, 3),
        "length: expected a whole number, but got 'x' (str)": ("a", "x"),
    }.items():
        _refused(lambda a=arguments: carousel.text.generate(session, *a), words)
    _refused(lambda: carousel.text.beam(session, "a", 1, beams=1.5), "beams: expected a whole")
    _refused(
        lambda: carousel.text.generate(session, "a", 1, temperature="hot"),
        "temperature: expected a number, but got 'hot' (str)",
    )
    classes = session.step("a")
    _refused(lambda: classes.top("two"), "k: expected a whole number, but got 'two' (str)")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": "5"}, "timeout: expected a number, but got '5' (str)"),
        ({"keepalive": None}, "keepalive: expected a number, but got None"),
        ({"max_message_bytes": 1}, "max_message_bytes must be at least 65,536, but is 1"),
        ({"max_message_bytes": 1e6}, "max_message_bytes: expected a whole number"),
        ({"tls": "ca.pem"}, "tls: expected a carousel.Tls, but got 'ca.pem' (str)"),
        ({"on_drain": 3}, "on_drain: expected a function, but got 3 (int)"),
        ({"timeout": float("inf")}, "timeout must be at most 1,000,000 seconds, but is inf"),
        (
            {"address": "localhost"},
            "expected an address as HOST:PORT, such as 'localhost:8001', but",
        ),
        ({"address": "localhost:"}, "but got 'localhost:'"),
        ({"address": "localhost:99999"}, "but got 'localhost:99999'"),
        ({"address": "localhost:0"}, "but got 'localhost:0'"),
        ({"address": "[::1]"}, "but got '[::1]'"),
        ({"address": ":8001"}, "but got ':8001'"),
        ({"address": "http:8001x"}, "but got 'http:8001x'"),
        ({"address": "dns:///cache"}, "but got 'dns:///cache'"),
        ({"address": 8001}, "expected an address such as"),
        ({"address": ["a:1", 8001]}, "an address: expected a string, but got 8001 (int)"),
    ],
)
def test_what_connect_takes(options, words):
    _refused(lambda: carousel.connect(**options), words)
    _refused(lambda: carousel.aio.connect(**options), words)


def test_a_backoff():
    _refused(lambda: carousel.Backoff(initial="1"), "initial: expected a number, but got '1' (str)")


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:8001", "127.0.0.1:1", "[::1]:65535", "dns:///carousel:8001"),
        *("unix:/run/carousel", "unix:carousel.sock", "ipv4:10.0.0.1:80,10.0.0.2:80"),
        *("dns://10.0.0.1/carousel:8001", "xds:///carousel"),
    ],
)
def test_addresses_that_can_be(address):
    assert addresses(address) == [address]
