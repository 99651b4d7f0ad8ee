"""`tfpt serve` as a person starts it: what it prints works, and signals stop it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest

from tfpt import serve as program
from tfpt.server import service
from tfpt.server.options import Options


def call(capsys, *argv):
    with pytest.raises(SystemExit) as exit:
        program.main([str(argument) for argument in argv])
    return exit.value.code or 0, capsys.readouterr().err


def test_it_answers_until_it_is_told_to_stop(first, capsys, monkeypatch):
    """In this process, which is what is told; the whole program in one of its own is slow."""
    said, before = [], signal.getsignal(signal.SIGTERM)

    def ask(serving):
        with urllib.request.urlopen(f"{serving.url}/readyz", timeout=30) as response:
            said.append((response.status, serving.version))
        os.kill(os.getpid(), signal.SIGTERM)

    def welcome(serving, whole=program._welcome):
        threading.Thread(target=ask, args=(serving,)).start()
        return whole(serving)

    monkeypatch.setattr(program, "_welcome", welcome)
    try:
        arguments = ["--serve.port=0", "--serve.grpc_port=none", "--serve.batch_size=1", "--runtime.engine=tensorflow"]
        with pytest.raises(SystemExit) as exit:
            program.main([f"--model={first}", *arguments, "--json"])
    finally:
        signal.signal(signal.SIGTERM, before)
    out, err = capsys.readouterr()
    where = json.loads(out)
    assert (exit.value.code or 0) == 0 and said == [(200, 1)]
    assert where["version"] == 1 and where["grpc"] == "" and where["url"] in err and "Stopping" in err


def test_it_can_be_told_to_stop_while_it_loads(first, capsys, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    given_up = []

    @contextlib.asynccontextmanager
    async def serving(*arguments, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        finally:
            given_up.append(True)
        yield

    monkeypatch.setattr(service, "serving", serving)
    try:
        code, err = call(capsys, f"--model={first}", "--json")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 0 and given_up and "Stopping: what is being loaded is finished first" in err


def test_told_twice_it_ends_at_once():
    numbers = (signal.SIGINT, signal.SIGTERM)

    async def scenario():
        before = [signal.getsignal(number) for number in numbers]
        with program._told_to_stop() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(stop.wait(), 10)
            assert [signal.getsignal(number) for number in numbers] == [signal.SIG_DFL] * 2
        assert [signal.getsignal(number) for number in numbers] == before

    asyncio.run(scenario())


@pytest.mark.slow
def test_it_prints_a_line_that_works_and_stops_when_told(first):
    command = [sys.executable, "-m", "tfpt", "serve", f"--model={first}", "--serve.port=0", "--serve.grpc_port=none"]
    process = subprocess.Popen(
        [*command, "--serve.name=my pets", "--serve.batch_size=1", "--runtime.engine=tensorflow", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    try:
        where = json.loads(process.stdout.readline())
        said = []
        while not said or "Ctrl-C" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1]
        (line,) = [text for text in said if text.startswith("Try it: curl ")]
        done = subprocess.run(["sh", "-c", line.removeprefix("Try it: ")], capture_output=True, text=True, timeout=30)
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
        rest = process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert where["name"] == "my pets" and where["version"] == 1 and where["grpc"] == ""
    assert set(json.loads(done.stdout)["predictions"][0]) == {"label", "score", "scores", "classes"}
    assert code == 0 and "Traceback" not in rest
    assert any(where["url"] in text for text in said)


def test_mistakes_are_said_in_one_sentence(capsys, tmp_path, first):
    assert call(capsys)[0] == 2
    code, err = call(capsys, f"--model={tmp_path}")
    assert (code, err.count("\n")) == (2, 1) and "holds no version folder" in err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = call(capsys, f"--model={first}", f"--serve.port={port}")
    assert code == 2 and f"--serve.port={port} cannot be listened on (Address already in use)" in err
    code, err = call(capsys, f"--model={first}", "--serve.host=no.such.host.invalid", "--serve.port=0")
    assert code == 2 and "--serve.host=no.such.host.invalid cannot be listened on" in err


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"port": 70000}, "port: 70000"),
        ({"versions": ("newest",)}, "versions: newest"),
        ({"labels": ("stable",)}, "labels: stable is not NAME=NUMBER"),
        ({"name": "a/b"}, "name: a/b"),
        ({"batch_wait_ms": -1.0}, "batch_wait_ms: -1.0 is negative"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"queue": 8, "batch_size": 9}, "queue: 8"),
        ({"drain_seconds": -1.0}, "drain_seconds: -1.0 is negative"),
        ({"timeout_seconds": 0.0}, "timeout_seconds: 0.0 is not positive"),
    ],
)
def test_options_are_checked(option, says):
    with pytest.raises(ValueError, match=says):
        Options(**option)
    Options()
