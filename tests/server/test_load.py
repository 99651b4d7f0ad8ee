"""A minute of 64 clients: no failure, most of the speed of the bundle in this process, and a version that changes meanwhile."""

import base64
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from tfpt.registry import find
from tfpt.serving.servable import Servable

CLIENTS, SECONDS = 64, 60

CLIENT = """
import asyncio, json, sys, time
host, port, path, clients, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
body = sys.stdin.buffer.read()
request = (f"POST {path} HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n").encode() + body
times, codes = [], {}

async def ask(until):
    reader, writer = await asyncio.open_connection(host, port)
    while time.monotonic() < until:
        started = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
        await reader.readexactly(length)
        times.append(time.monotonic() - started)
        code = head.split(b" ", 2)[1].decode()
        codes[code] = codes.get(code, 0) + 1
    writer.close()

async def main():
    until = time.monotonic() + seconds
    await asyncio.gather(*(ask(until) for _ in range(clients)))

started = time.monotonic()
asyncio.run(main())
print(json.dumps({"codes": codes, "seconds": time.monotonic() - started, "times": times}))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_minute_of_64_clients(serve, write_bundle, tmp_path):
    trunk = find("backbone", "applications")
    bundle = write_bundle(
        tmp_path / "pets" / "1", seed=1, size=160, backbone=trunk("MobileNetV2", trunk.Config(weights="none"))
    )
    import tensorflow as tf

    noise = np.random.default_rng(0).integers(0, 256, (200, 220, 3), np.uint8)
    picture = tf.io.encode_jpeg(tf.image.resize(noise[:20, :20], (200, 220)).numpy().astype(np.uint8)).numpy()
    whole = Servable.load(bundle)
    body = json.dumps({"instances": [{"b64": base64.b64encode(picture).decode()}]}).encode()
    wanted = whole.predict({"image": [picture]})["scores"][0]

    def in_process(seconds):
        started, count = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            whole.predict({"image": [picture] * 32}, batch_size=32)
            count += 32
        return count / (time.monotonic() - started)

    in_process(3)
    with serve(bundle.parent, batch_size=32) as client:
        answer = client.post("predict", body)[1]["predictions"][0]
        assert np.abs(np.float32(answer["scores"]) - wanted).max() < 1e-5
        before = in_process(10)
        host, port = client.host.split(":")
        asking = subprocess.Popen(
            [sys.executable, "-c", CLIENT, host, port, f"{client.model}:predict", str(CLIENTS), str(SECONDS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        asking.stdin.write(body)
        asking.stdin.close()
        asking.stdin = None
        out = asking.communicate(timeout=SECONDS + 60)[0]
        after = in_process(10)
        # The same once more for half a minute, with a version that changes meanwhile: loading takes speed, no request.
        shutil.copytree(bundle, bundle.parent / ".copy")
        again = subprocess.Popen(
            [sys.executable, "-c", CLIENT, host, port, f"{client.model}:predict", str(CLIENTS), "30"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        again.stdin.write(body)
        again.stdin.close()
        again.stdin = None
        (bundle.parent / ".copy").rename(bundle.parent / "2")
        swapped = json.loads(again.communicate(timeout=90)[0])
        assert client.call("GET", "/model")[1]["version"] == 2
        batches = [line for line in client.call("GET", "/metrics")[1].splitlines() if "batch_examples_" in line]
    done = json.loads(out)
    served, alone = len(done["times"]) / done["seconds"], (before + after) / 2
    p50, p99 = np.percentile(done["times"], [50, 99])
    print(
        f"\n{CLIENTS} clients: {served:.0f} examples/s, p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms; the bundle in "
        f"this process at batch size 32: {before:.0f} and {after:.0f} examples/s; share {served / alone:.2f}; "
        f"with a change of version: {sum(swapped['codes'].values())} answers, codes {swapped['codes']}\n{batches}"
    )
    assert list(done["codes"]) == list(swapped["codes"]) == ["200"]
    assert served >= 0.8 * alone
