"""The command line: in this process where it can be, through real pipes where they matter."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points

import pytest
from typer.testing import CliRunner

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from carousel_client.cli import app


def start(fake, *words, **options):
    # A shell's `&` has programs ignore SIGINT, and these tests may be in the background.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from carousel_client.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"CAROUSEL_ADDRESS": fake.address},
        text=True,
        **options,
    )


def test_models(run):
    found = run("models")
    assert found.exit_code == 0
    assert "sum" in found.stdout
    assert "x float32[2]" in found.stdout
    listed = json.loads(run("models", "--json").stdout)
    assert listed[2]["inputs"] == [
        {
            "name": "x",
            "dtype": "float32",
            "shape": [2],
            "columns": ["a", "b"],
            "unit": "",
            "symbols": [],
            "content": "",
        }
    ]


def test_several_servers_are_tried_in_turn(fake):
    words = ["--address", f"127.0.0.1:1,{fake.address}", "models"]
    found = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert found.exit_code == 0
    assert "float32[2]" in found.stdout


def test_sessions(run, client):
    for name in ("s1", "s2", "s3"):
        client.open("sum", name).step([1, 1])
    found = run("sessions", "--model", "sum")
    assert found.exit_code == 0
    assert "s1" in found.stdout
    assert "3.0 s" in found.stdout
    assert run("sessions", "--close", "s1", "--close", "s3").exit_code == 0
    listed = json.loads(run("sessions", "--json").stdout)
    assert [(one["id"], one["applied"]) for one in listed] == [("s2", 1)]
    missing = run("sessions", "--close", "s9")
    assert missing.exit_code == 1
    assert "no open session 's9'" in missing.stderr


def test_ids_are_printed_whole_however_narrow_the_terminal_is(fake, client):
    name = "a[red]" + "b" * 100
    client.open("sum", name)
    words = ["--address", fake.address, "sessions"]
    assert name in CliRunner().invoke(app, words, env={"COLUMNS": "40"}).stdout


def test_no_sessions_are_told_in_words(run):
    found = run("sessions")
    assert (found.exit_code, found.stdout) == (0, "no sessions\n")
    assert run("sessions", "--json").stdout == "[]\n"


def test_the_version_is_shown():
    found = CliRunner().invoke(app, ["--version"])
    assert (found.exit_code, found.stdout) == (0, f"carousel {carousel.__version__}\n")


@pytest.mark.parametrize(
    ("stdin", "words", "stdout"),
    [
        ("1,2\n3,4\n", [], "a,b\n1.0,2.0\n4.0,6.0\n"),
        ("1,2\r\n\r\n3,4", ["--no-header"], "1.0,2.0\n4.0,6.0\n"),
        ("day,b,a\nMon,1,2\nTue,3,4\n", [], "a,b\n2.0,1.0\n6.0,4.0\n"),
        ("day,b,a,c\nMon,1,2,9\n", ["--column", "c", "--column", "b"], "a,b\n9.0,1.0\n"),
        ("2020-01-01,1,2\n2020-01-02,3,4\n", [], "a,b\n1.0,2.0\n4.0,6.0\n"),
        ("day,p,q\nMon,1,2\n", ["--version", "1"], "y_0,y_1\n1.0,2.0\n"),
        ("1,2\n3,\n,5\n", ["--fill", "forward"], "a,b\n1.0,2.0\n4.0,4.0\n7.0,9.0\n"),
        ("1,2\n1,x\n3,4\n", ["--skip-bad"], "a,b\n1.0,2.0\n4.0,6.0\n"),
        ("0.1,2\n" * 5, ["--chunk", "2", "--no-header"], None),
        ("[0.1, 2]\n[1, 2]\n", [], '{"y": [0.1, 2.0]}\n{"y": [1.1, 4.0]}\n'),
        ('{"x": [1, 2]}\n', [], '{"y": [1.0, 2.0]}\n'),
        ("", [], ""),
    ],
)
def test_stream(run, stdin, words, stdout):
    found = run("stream", "sum", *words, stdin=stdin)
    assert found.exit_code == 0, found.stderr
    if stdout is None:
        assert len(found.stdout.splitlines()) == 5
    else:
        assert found.stdout == stdout


def test_stream_of_scalars_and_of_several_inputs(run):
    assert run("stream", "scalar", stdin="when,x\nMon,1\nTue,2\n").stdout == "y\n1.0\n3.0\n"
    assert run("stream", "scalar", "--format", "json", stdin="1\n2\n").stdout == (
        '{"y": 1.0}\n{"y": 3.0}\n'
    )
    for line in ("352", '{"x": 352}', "[352]", '{"x": [352.0]}'):  # a step is one number: [1]
        found = run("stream", "co2", "--format", "json", stdin=line)
        assert found.stdout == '{"y": [352.0]}\n', found.stderr
    found = run("stream", "both", stdin='{"a": [1, 2], "k": 3}\n')
    assert found.stdout == '{"y": [1.0, 2.0], "n": 6}\n'
    found = run("stream", "both", stdin="1,2,3\n")
    assert found.exit_code == 1
    assert "use JSON lines" in found.stderr


@pytest.mark.parametrize(
    ("stdin", "words", "why"),
    [
        ("1,2\n1,x\n", [], "line 2: column 2 is no number: 'x'"),
        ("a,b\n1,2\n\n1,\n", [], "line 4: column 'b' is empty; give it a value, or use --fill"),
        ("a,b\n1,\n", ["--fill", "forward"], "there is none before it"),
        ("a,c\n1,2\n", [], "no column 'b'"),
        ("1,2,3\n", [], "takes 2 values a step, but there are 3 columns"),
        ("1,2\n1,nan\n", [], "line 2: input 'x' holds a value that is not finite"),
        ("1,2\n", ["--column", "a"], "--column needs a header"),
        ("[1, 2\n", [], "line 1 is not JSON"),
        ("[1, 2, 3]\n", [], "takes numbers of shape [2]"),
        ('{"z": 1}\n', [], "expected an object with x"),
        ("1,2\n1,1e39\n", [], "line 2: input 'x': 1e+39 is beyond float32"),
        ("1,2\n1,1e39\n", ["--chunk", "9"], "line 2: input 'x': 1e+39 is beyond float32"),
        ("a,b\r1,2\r", [], "line 1 is not CSV: it has a carriage return within"),
        ("1,2\n1," + "7" * 140_000, [], "line 2 is not CSV: field larger than field limit"),
        ("1,2\n1," + "x" * 100_000, [], "line 2: column 2 is no number: 'xxxx"),
        ("[1, 2]\n" + "[" * 100_000, [], "line 2 is nested too deeply"),
        ("[1, 2]\n" + "[" * 600 + "]" * 600, [], "line 2: input 'x' takes numbers of shape [2]"),
        ("a,c\n1,2\n", ["--skip-bad"], "no column 'b'"),
        ("a,b\n1,2\n", ["--column", "a"], "takes 2 values a step, but there is 1 column of"),
        ("1,2\n", ["--attach", "nobody"], "not here: ['nobody']"),
        ("1,2\n", ["--attach", "s", "--id", "t"], "leave out --id"),
    ],
)
def test_stream_tells_what_is_wrong_in_one_sentence(run, fake, stdin, words, why):
    found = run("stream", "sum", *words, stdin=stdin)
    assert found.exit_code == 1
    assert why in found.stderr
    assert found.stderr.startswith("carousel: ")
    assert len(found.stderr.splitlines()) == 1
    assert not fake.sessions  # the session did not stay behind


@pytest.mark.parametrize(
    "line",
    [b"3\r4", b"1," + b"7" * 140_000, b"1,\xff", b"1,1e39"],
    ids=["carriage return", "a long field", "no UTF-8", "beyond float32"],
)
def test_skip_bad_goes_on_where_the_fault_is_a_lines(run, line):
    found = run("stream", "sum", "--skip-bad", stdin=b"1,2\n" + line + b"\n3,4\n")
    assert found.exit_code == 0, found.stderr
    assert found.stdout == "a,b\n1.0,2.0\n4.0,6.0\n"
    assert found.stderr.startswith("carousel: skipped: line 2")


def test_skip_bad_goes_on_after_deep_json(run):
    found = run("stream", "sum", "--skip-bad", stdin="[1, 2]\n" + "[" * 100_000 + "\n[3, 4]\n")
    assert found.stdout == '{"y": [1.0, 2.0]}\n{"y": [4.0, 6.0]}\n'
    assert found.stderr.startswith("carousel: skipped: line 2 is nested too deeply")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("sessions > /dev/full", "reading or writing failed: No space left on device"),
        (
            "stream sum < data.csv > /dev/full",
            "line 1: the answer cannot be written: No space left on device",
        ),
        ("stream sum < data.csv >&-", "standard output is closed"),
        ("stream sum <&-", "standard input is closed"),
        ("stream sum 0> only_written", "line 1 cannot be read: Bad file descriptor"),
    ],
)
def test_pipes_that_can_not_be_used_are_told_in_one_sentence(fake, tmp_path, words, why):
    (tmp_path / "data.csv").write_text("1,2\n" * 3)
    program = "from carousel_client.cli import main; main()"
    found = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {words}', sys.executable, program],
        cwd=tmp_path,
        env=os.environ | {"CAROUSEL_ADDRESS": fake.address},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=30,
    )
    assert found.returncode == 1
    assert found.stderr.startswith(f"carousel: {why}")
    assert found.stderr.count("\n") == 1
    assert not fake.sessions


def test_answers_before_a_bad_line_are_written(run, fake):
    found = run("stream", "sum", stdin="1,2\n3,4\n5,x\n")
    assert found.stdout == "a,b\n1.0,2.0\n4.0,6.0\n"
    fake.switches.rows = {"s": [(pb.ROW_STATUS_NUMERIC_FAULT, 1)]}
    found = run("stream", "sum", "--id", "s", "--chunk", "3", stdin="1,2\n" * 3)
    assert found.exit_code == 1
    assert found.stdout == "a,b\n1.0,2.0\n"
    assert found.stderr.startswith("carousel: line 2: ")
    assert "session 's'" not in found.stderr  # where nobody named it, an id says nothing


def test_answers_before_a_bad_line_of_a_chunk_are_written(run):
    found = run("stream", "sum", "--chunk", "4", stdin="1,2\n3,4\n5,x\n1,1\n")
    assert found.exit_code == 1
    assert found.stdout == "a,b\n1.0,2.0\n4.0,6.0\n"
    assert found.stderr.startswith("carousel: line 3: ")


def test_skip_bad_leaves_out_what_the_model_refuses(run, fake):
    fake.switches.rows = {"s": [(pb.ROW_STATUS_NUMERIC_FAULT, 1), (pb.ROW_STATUS_INVALID, 0)]}
    words = ["stream", "sum", "--id", "s", "--skip-bad", "--chunk", "2"]
    found = run(*words, stdin="1,2\n3,4\n5,6\n7,x\n7,8\n")
    assert found.exit_code == 0
    # The second step fails behind the first; then two fail as a whole, and each alone does not.
    assert found.stdout == "a,b\n1.0,2.0\n6.0,8.0\n13.0,16.0\n"
    refused, unread = sorted(found.stderr.splitlines())
    assert refused.startswith("carousel: skipped: line 2: row said ")
    assert unread.startswith("carousel: skipped: line 4: column 2 is no number")


def test_keep_and_attach_go_on_where_it_was(run, fake):
    found = run("stream", "sum", "--id", "mine", "--keep", stdin="1,2\n")
    assert found.stderr == "session mine\n"
    found = run("stream", "sum", "--attach", "mine", "--no-header", stdin="1,2\n")
    assert found.stdout == "2.0,4.0\n"
    assert list(fake.sessions) == ["mine"]


def test_a_server_that_is_away_is_one_sentence(fake):
    words = ["--address", "127.0.0.1:1", "--timeout", "0.1", "models"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 1
    assert found.stderr.startswith("carousel: no server at 127.0.0.1:1 answered within 0.1 s")


@pytest.mark.parametrize("words", [[], ["models"], ["stream"], ["sessions"]])
def test_every_help_has_an_example(words):
    found = CliRunner().invoke(app, [*words, "--help"])
    assert found.exit_code == 0
    assert "Example" in found.stdout


def test_a_slow_producer_sees_each_answer_before_its_next_line(fake):
    process = start(fake, "stream", "sum")
    try:
        for i in range(1, 4):
            process.stdin.write(f"{i},1\n")
            process.stdin.flush()
            if i == 1:
                assert process.stdout.readline() == "a,b\n"
            assert process.stdout.readline() == f"{i * (i + 1) / 2},{float(i)}\n"
        out, err = process.communicate(timeout=10)
        assert (out, err, process.returncode) == ("", "", 0)
    finally:
        process.kill()
    assert not fake.sessions


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_it_quietly_and_closes_the_session(fake, number, status):
    process = start(fake, "stream", "sum")
    try:
        process.stdin.write("1,1\n")
        process.stdin.flush()
        assert process.stdout.readline() == "a,b\n"
        process.send_signal(number)
        assert process.wait(10) == status
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
    assert not fake.sessions


def test_a_signal_leaves_a_session_that_is_to_be_kept(fake):
    process = start(fake, "stream", "sum", "--id", "mine", "--keep")
    try:
        assert process.stderr.readline() == "session mine\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
    finally:
        process.kill()
        process.communicate()
    assert list(fake.sessions) == ["mine"]


def test_a_reader_that_goes_away_ends_it_quietly(fake):
    process = start(fake, "stream", "sum")
    try:
        process.stdin.write("1,1\n")
        process.stdin.flush()
        assert process.stdout.readline() == "a,b\n"
        process.stdout.close()
        end = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < end:
            try:
                process.stdin.write("1,1\n")
                process.stdin.flush()
            except BrokenPipeError:
                break
            time.sleep(0.02)
        assert process.wait(10) == 141
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.stdin.close()
        process.stderr.close()


def test_the_command_is_installed_under_its_name():
    (script,) = entry_points(group="console_scripts", name="carousel")
    assert script.value == "carousel_client.cli:main"
    assert carousel.__version__


@pytest.mark.parametrize("line", ["1;2", "a;b"])
def test_semicolons_are_not_taken_for_a_header(run, line):
    found = run("stream", "sum", stdin=f"{line}\n")
    assert found.exit_code == 1
    assert "line 1: values separated by commas were expected; semicolons came" in found.stderr
