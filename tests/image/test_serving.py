"""The image serves as the chart runs it, drains, and leaves its sessions to another container."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import carousel_client as carousel
from tests.chart.tools import one
from tests.image.conftest import MODEL
from tests.image.containers import LIMITS_MEMORY, run
from tests.image.flags import bytes_of, podman_flags
from tests.support.solo import solo_answers

pytestmark = pytest.mark.timeout(240)

#: What a process sees of the container, in Python, since there is nothing else to ask with.
_LOOK = """
import os, pathlib
status = dict(line.split(":\\t", 1) for line in open("/proc/1/status").read().splitlines())
for key in ("Uid", "Gid", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp"):
    print(key, *status[key].split())
print("command", *open("/proc/1/cmdline").read().split(chr(0)))
for folder in ("/", "/models", "/opt/carousel", "/var/tmp", "/tmp"):
    try:
        pathlib.Path(folder, "written").write_text("x")
    except OSError as error:
        print("writing", folder, os.strerror(error.errno))
    else:
        print("writing", folder, "done")
for path in ("memory/memory.limit_in_bytes", "memory.max"):
    if pathlib.Path("/sys/fs/cgroup", path).exists():
        print("memory", pathlib.Path("/sys/fs/cgroup", path).read_text().strip())
"""


def stepped(group, inputs, begin: int, end: int) -> list[np.ndarray]:
    return [group.step(inputs[at]) for at in range(begin, end)]


def assert_equal(model, inputs, answers) -> None:
    """Compare (T, N, 2) with what each session alone would have been answered by ONNX Runtime."""
    for number in range(inputs.shape[1]):
        expected = solo_answers(model, inputs[: len(answers), number])
        found = np.stack(answers)[:, number]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_it_is_confined_as_the_chart_says(start):
    pod = start()
    done = pod.execute("python", "-c", _LOOK)
    assert done.returncode == 0, done.stderr
    seen = dict(line.split(" ", 1) for line in done.stdout.splitlines() if "writing" not in line)
    assert seen["Uid"] == seen["Gid"] == "10001 10001 10001 10001"
    assert {int(seen[kind], 16) for kind in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2"), "2: a filter"
    assert "carousel-server" in seen["command"], "the server itself is process 1"
    written = [line for line in done.stdout.splitlines() if line.startswith("writing")]
    assert written == [
        "writing / Read-only file system",
        "writing /models Read-only file system",
        "writing /opt/carousel Read-only file system",
        "writing /var/tmp Read-only file system",
        "writing /tmp done",
    ]


@pytest.mark.skipif(not LIMITS_MEMORY, reason="this kernel bounds no memory (no cgroup controller)")
def test_its_memory_is_bounded(start):
    pod = start()
    limit = bytes_of(pod.container["resources"]["limits"]["memory"])
    assert f"memory {limit}\n" in pod.execute("python", "-c", _LOOK).stdout


def test_it_answers_probes_and_the_charts_own_test(start, manifests, tmp_path):
    pod = start()
    assert [pod.probe(kind) for kind in ("startup", "readiness", "liveness")] == [200] * 3
    test = one(manifests, "Pod")["spec"]
    (container,) = test["containers"]
    script = one(manifests, "ConfigMap", "release-test")["data"]
    for name, content in script.items():
        (tmp_path / name).write_text(content)
    tmp_path.chmod(0o755)
    flags = podman_flags(
        test,
        container,
        folders={"test": tmp_path},
        fields={},
        secrets={},
        limits_memory=LIMITS_MEMORY,
    )
    done = run(*flags, command=[pod.address, *container["args"][1:]])
    assert done.returncode == 0, done.stderr
    assert f"{MODEL}: opened a session, stepped it twice, closed it" in done.stdout


def test_its_log_is_json_but_for_the_line_that_says_it_is_ready(start):
    """What a library writes of itself, because a folder can't be written to, say, would be seen."""
    lines = start().logs().splitlines()
    others = [line for line in lines if not line.startswith("{")]
    assert [line.split()[0] for line in others] == ["ready"]
    assert len(lines) > 3


def test_sessions_are_answered_as_onnx_runtime_answers(start, model, inputs):
    pod = start()
    with carousel.connect(pod.address) as client:
        group = client.open_many(MODEL, inputs.shape[1])
        assert_equal(model, inputs, stepped(group, inputs, 0, 50))


@pytest.mark.parametrize("hook", [True, False], ids=["hook", "signal"])
def test_a_stopped_container_leaves_its_sessions_to_another(start, model, inputs, hook):
    """In Kubernetes' order: the hook, the stop signal, SIGKILL after the grace; or without hook."""
    first, second = start(), start()
    events: list[carousel.FailoverEvent] = []
    statuses = []

    def end() -> None:
        if hook:
            done = first.run_hook()
            assert done.returncode == 0, done.stderr
            assert first.probe("readiness") == 503
            assert first.probe("liveness") == 200
        statuses.append(first.stop())

    addresses = [first.address, second.address]
    with carousel.connect(addresses, on_failover=events.append) as client:
        group = client.open_many(MODEL, inputs.shape[1])
        answers = stepped(group, inputs, 0, 20)
        ending = threading.Thread(target=end)
        ending.start()
        while ending.is_alive() or not events:
            answers.append(group.step(inputs[len(answers)]))
            time.sleep(0.02)
        ending.join()
        answers += stepped(group, inputs, len(answers), len(answers) + 20)
    assert statuses == [0], "it drained and ended by itself, within the grace"
    assert '"event": "drained"' in first.logs()
    assert {target for event in events for target in event.targets} == {second.address}
    assert_equal(model, inputs, answers)
