"""Settings: where they come from, which one wins, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from carousel import wire
from carousel_server.addresses import is_loopback, join_address, split_address
from carousel_server.errors import ConfigError
from carousel_server.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CAROUSEL_{name.upper()}", raising=False)


def load(config: Path | None = None, **flags) -> Settings:
    return load_settings({"models": "/models"} | flags, config)


def refusal(config: Path | None = None, **flags) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config, **flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(tmp_path, monkeypatch):
    config = tmp_path / "carousel.yaml"
    config.write_text("max_chunk: 1\nqueue_rows: 1\nslots: 1\n")
    monkeypatch.setenv("CAROUSEL_MAX_CHUNK", "2")
    monkeypatch.setenv("CAROUSEL_QUEUE_ROWS", "2")
    settings = load(config, max_chunk="3")
    assert (settings.max_chunk, settings.queue_rows, settings.slots) == (3, 2, 1)
    assert settings.max_sessions == Settings.model_fields["max_sessions"].default


def test_an_empty_file_changes_nothing(tmp_path):
    config = tmp_path / "carousel.yaml"
    config.write_text("# nothing yet\n")
    assert load(config).model_dump() == load().model_dump()


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError) as caught:
        load_settings({}, None)
    assert str(caught.value) == "--models (or CAROUSEL_MODELS) is missing"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"slots": "0"}, "--slots 0: a whole number from 1 to 2,147,483,646 was expected"),
        ({"slots": "many"}, "--slots many: a whole number from 1 to 2,147,483,646 was expected"),
        ({"slots": ""}, "--slots '': a whole number from 1 to "),
        ({"max_sessions": "1.5"}, "--max-sessions 1.5: a whole number from 1 was expected"),
        ({"threads": "all"}, "--threads all: auto, or a whole number from 0 to 4,096 was expected"),
        ({"threads": "-1"}, "--threads -1: auto, or a whole number from 0 to 4,096 was expected"),
        ({"pool_bytes": "0"}, "--pool-bytes 0: a number above 0 was expected"),
        ({"pool_bytes": "inf"}, "--pool-bytes inf: a number above 0 was expected"),
        ({"state_dtype": "int8"}, "--state-dtype int8: float32 or float16 was expected"),
        ({"state_dtype": "float32x"}, "--state-dtype float32x: float32 or float16 was expected"),
        ({"math": "int8"}, "--math int8: float32, tf32, float16 or bfloat16 was expected"),
        ({"durability": "so-so"}, "--durability so-so: relaxed or strict was expected"),
        ({"migrate": "all"}, "--migrate all: none or compatible was expected"),
        ({"expire_after": "-1"}, "--expire-after -1: a number from 0 to 1,000,000,000 was exp"),
        ({"expire_after": "inf"}, "--expire-after inf: "),
        ({"drain_seconds": "nan"}, "--drain-seconds nan: "),
        ({"drain_seconds": "1e300"}, "--drain-seconds 1e300: "),
        ({"lease_seconds": "0"}, "--lease-seconds 0: a number from 0.1 to 3,600 was expected"),
        ({"max_chunk": 2**32}, "--max-chunk 4294967296: "),
        ({"max_message_bytes": 2**31}, "--max-message-bytes 2147483648: "),
        (
            {"max_message_bytes": "1"},
            "--max-message-bytes 1: a whole number from 65,536 to 2,147,483,647 was expected",
        ),
        ({"max_steps_per_tick": 2**31}, "--max-steps-per-tick 2147483648: "),
        ({"device": "tpu"}, "--device tpu: "),
        ({"device": "xcpu"}, "--device xcpu: "),
        ({"device": "cuda:1x"}, "--device cuda:1x: "),
        (
            {"otlp_traces_endpoint": "collector:4317"},
            "--otlp-traces-endpoint collector:4317: http://HOST:PORT, https://HOST:PORT or nothing",
        ),
        ({"otlp_traces_endpoint": "http://collector"}, "--otlp-traces-endpoint http://collector: "),
        ({"log_format": "jsonl"}, "--log-format jsonl: "),
        ({"address": "nowhere"}, "--address nowhere: 'nowhere' is no HOST:PORT"),
        ({"metrics_address": "127.0.0.1:99999"}, "--metrics-address 127.0.0.1:99999: "),
        ({"nosuch": 1}, "there is no setting 'nosuch'"),
    ],
)
def test_what_is_wrong_is_named(flags, sentence):
    assert refusal(**flags).startswith(sentence)


def test_messages_are_bounded_as_the_protocol_says():
    assert load().max_message_bytes == wire.DEFAULT_MAX_MESSAGE_BYTES
    least = wire.LEAST_MAX_MESSAGE_BYTES
    assert load(max_message_bytes=least).max_message_bytes == least
    assert f" from {least:,} to " in refusal(max_message_bytes=least - 1)


def test_a_wrong_variable_is_named(monkeypatch):
    monkeypatch.setenv("CAROUSEL_SLOTS", "x")
    monkeypatch.setenv("carousel_insecure", "perhaps")
    slots, insecure = refusal().split("; ")
    assert slots.startswith("CAROUSEL_SLOTS=x: a whole number from 1 to ")
    assert insecure == "carousel_insecure=perhaps: true or false was expected"


def test_a_wrong_flag_is_named_where_a_variable_is_set_too(monkeypatch):
    monkeypatch.setenv("CAROUSEL_SLOTS", "10")
    assert refusal(slots="x").startswith("--slots x: ")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("slots: true", "slots: True in {}: a whole number from 1 to "),
        ("threads: true", "threads: True in {}: auto, or a whole number"),
        ("expire_after: soon", "expire_after: soon in {}: a number from 0 to "),
        ("store: 5", "store: 5 in {}: text was expected"),
        ("tls_cert: [a]", "tls_cert: ['a'] in {}: a path was expected"),
    ],
)
def test_a_wrong_line_of_the_file_is_named(tmp_path, line, words):
    config = tmp_path / "carousel.yaml"
    config.write_text(line)
    assert refusal(config).startswith(words.format(config))


def test_every_wrong_setting_has_its_sentence():
    assert refusal(slots="0", device="tpu").count("; --") == 1


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices(device):
    assert load(device=device).device == device


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"models: [1", "it is no YAML: "),
        (b"hello", "a mapping of settings was expected, such as 'slots: 100'"),
        (b"- slots", "a mapping of settings was expected, such as 'slots: 100'"),
        (b"\xff\xfe\xff", "it is no YAML: "),
    ],
)
def test_files_that_cant_be_read(tmp_path, content, sentence):
    config = tmp_path / "carousel.yaml"
    config.write_bytes(content)
    assert refusal(config).startswith(f"--config {config}: {sentence}")


def test_a_setting_in_the_file_that_there_is_not(tmp_path):
    config = tmp_path / "carousel.yaml"
    config.write_text("max-chunk: 5\n")
    assert refusal(config) == "there is no setting 'max-chunk'"


def test_a_file_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "nosuch.yaml").endswith("nosuch.yaml: there is no such file")


@pytest.mark.parametrize("name", ["address", "metrics_address"])
@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("[::]", False),
        ("10.1.2.3", False),
        ("[fe80::1]", False),
        ("localhost.example.com", False),
    ],
)
def test_other_machines_need_it_said_aloud(name, host, loopback):
    address = f"{host}:80"
    if loopback:
        assert getattr(load(**{name: address}), name) == address
    else:
        assert refusal(**{name: address}).startswith(
            f"{name} {address} can be reached from other machines, without TLS"
        )
    assert getattr(load(insecure=True, **{name: address}), name) == address


def test_addresses():
    assert split_address("localhost:0") == ("localhost", 0)
    assert split_address("[::1]:8001") == ("::1", 8001)
    assert join_address(*split_address("[::1]:8001")) == "[::1]:8001"
    assert is_loopback("::1")
    for wrong in ("8001", ":8001", "host:", "host:-1", "host:65536", "::1:8001", "[::1:80", "a b"):
        with pytest.raises(ValueError, match="is no HOST:PORT"):
            split_address(wrong)


def test_threads_are_all_cores_or_as_many_as_asked_for(monkeypatch):
    for cores, threads in ((None, 1), (1, 1), (2, 2), (8, 8)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert load().run_threads == threads
    assert load(threads=3).run_threads == 3
    assert load(threads="auto").run_threads == 8


def test_a_log_shows_no_password():
    shown = load(store="redis://user:secret@cache:6379/0").shown()
    assert shown["store"] == "redis://***@cache:6379/0"
    assert "secret" not in str(shown)
    assert load(store="file:/a@b").shown()["store"] == "file:/a@b"
