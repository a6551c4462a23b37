"""What docs/operations.md says of Redis's memory holds for a real one."""

from __future__ import annotations

import time

import numpy as np
import pytest

import carousel_client as carousel
from tests.docs.pages import blocks
from tests.support import models
from tests.support.redis import run_redis
from tests.support.server import run_server

SESSIONS = 1000


@pytest.mark.parametrize("hidden", [16, 128])
def test_a_streaming_session_takes_no_more_of_redis_than_is_said(hidden, tmp_path):
    (code,) = blocks("docs/operations.md", "python sizing")
    formulas = {}
    exec(code, formulas)
    models.put(tmp_path / "models", models.lstm(features=1, hidden=hidden), "lstm")
    bound = formulas["redis_bytes"](SESSIONS, formulas["lstm_state_bytes"](2, hidden))
    with run_redis(tmp_path) as redis, redis.client() as looking:
        before = looking.info("memory")["used_memory"]
        flags = ("--store", redis.url, "--checkpoint-every-ms", "100")
        with (
            run_server(tmp_path / "models", *flags, log=tmp_path / "server.log") as server,
            carousel.connect(server.address) as client,
            client.open_many("lstm", SESSIONS) as group,
        ):
            most = 0
            for _ in range(15):
                group.step(np.ones((SESSIONS, 1), np.float32))
                time.sleep(0.15)
                most = max(most, looking.info("memory")["used_memory"] - before)
            assert looking.dbsize() >= SESSIONS
    assert bound / 4 < most <= bound
