"""Too much, too deep, too slow, too many: told so, and the server goes on."""

import base64
import contextlib
import json
import random
import resource
import socket
import struct
import threading
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf


def b64(value):
    return {"b64": base64.b64encode(value).decode()}


@pytest.fixture(scope="module")
def small(serve, first):
    """A server with small limits."""
    limits = {"max_body_mb": 0.2, "max_megapixels": 0.01, "timeout_seconds": 1.0, "connections": 40}
    with serve(first, name="pets", batch_size=2, queue=4, **limits) as client:
        yield client


@pytest.fixture
def connected(small):
    """Opens a bare connection."""
    with contextlib.ExitStack() as opened:

        def connect():
            host, port = small.host.split(":")
            return opened.enter_context(contextlib.closing(socket.create_connection((host, int(port)), timeout=20)))

        yield connect


def read(connection):
    """Returns all that arrives until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def first_answer(connection):
    """Returns one answer, of a connection that stays open."""
    answer = b""
    while (head := answer.partition(b"\r\n\r\n"))[1] == b"":
        answer += connection.recv(65536)
    length = int(head[0].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(answer) < len(head[0]) + 4 + length:
        answer += connection.recv(65536)
    return answer


def test_a_body_that_is_too_large(small, connected):
    code, answer = small.post("predict", b"x" * 300_000)
    assert (code, answer) == (413, {"error": "the request is larger than 0.2 MB"})
    chunked = connected()
    chunked.sendall(b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(30):
            chunked.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
    assert first_answer(chunked).startswith(b"HTTP/1.1 413 ")


def test_a_picture_with_too_many_pixels_is_not_decoded(small):
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0" * 99
    code, answer = small.post("predict", {"instances": [b64(bomb)]})
    assert code == 400
    assert answer == {"error": "image of the example has 10000.0 million pixels, more than 0.01"}
    example = tf.train.Example()
    example.features.feature["image"].bytes_list.value.append(bomb)
    body = {"signature_name": "examples", "instances": [b64(example.SerializeToString())]}
    assert small.post("predict", body) == (400, answer)
    pixels = np.zeros([1, 1, 11_000, 3], int).tolist()
    code, answer = small.post("predict", {"signature_name": "pixels", "instances": pixels})
    assert code == 400 and "more than 10000 pixels an example" in answer["error"]


def test_too_many_examples(small, encoded):
    code, answer = small.post("predict", {"instances": [b64(encoded[0])] * 5})
    assert (code, answer) == (400, {"error": "5 examples were sent; a request may have 1 to 4"})


def test_a_text_that_is_too_long(serve, texts):
    with serve(texts, max_text_length=1000, batch_size=1) as client:
        code, answer = client.post("predict", {"instances": ["x" * 1001]})
        assert (code, answer) == (400, {"error": "text of the example is 1001 bytes long, more than 1000"})
        assert client.post("predict", {"instances": ["x" * 1000]})[0] == 200
        tokens = [[[1, 0]] * 17]
        code, answer = client.post("predict", {"signature_name": "outputs", "instances": tokens})
        assert code == 400 and "sizes may be 1 to 16" in answer["error"]


def test_a_head_that_never_ends_and_a_body_that_never_comes(small, connected):
    head, body, idle = connected(), connected(), connected()
    head.sendall(b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    body.sendall(b"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    started = time.monotonic()
    assert read(head) == b""
    assert read(idle) == b""
    answer = read(body)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"took too long to arrive" in answer
    assert time.monotonic() - started < 10
    again = connected()  # the timer is for the head alone, and for the next request as well
    for _ in range(3):
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first_answer(again).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.4)
    again.sendall(b"GET /healthz HTTP/1.1\r\nHo")
    assert read(again) == b""


def test_more_connections_than_allowed(small, connected):
    held = [connected() for _ in range(45)]
    time.sleep(0.1)
    code, _ = small.call("GET", "/healthz")
    assert code == 503
    for connection in held:
        connection.close()
    until = time.monotonic() + 10
    while small.call("GET", "/healthz")[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_overload_is_503_and_nothing_else(small, encoded):
    body = {"instances": [b64(encoded[0])] * 3}
    codes, lock = [], threading.Lock()

    def ask():
        for _ in range(5):
            code, answer = small.post("predict", body)
            with lock:
                codes.append(code)
            if code == 503:
                assert "come back later" in answer["error"] or "no answer within" in answer["error"]

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {200, 503} and 200 in codes
    assert small.post("predict", body)[0] == 200


def test_stopping_answers_what_has_arrived(serve, first, encoded):
    answers = []
    with serve(first, name="pets", batch_size=1) as client:
        body = {"instances": [b64(encoded[0])] * 80}
        thread = threading.Thread(target=lambda: answers.append(client.post("predict", body)))
        thread.start()
        time.sleep(0.1)
        client.stop()
        thread.join()
    assert [code for code, _ in answers] == [200]
    assert len(answers[0][1]["predictions"]) == 80


def malformed(random, encoded):
    """Yields requests that are wrong in many ways: verb, address, headers, body."""
    good = json.dumps({"instances": [b64(random.choice(encoded))]})
    picture = bytearray(random.choice(encoded))
    for _ in range(random.randrange(1, 6)):
        picture[random.randrange(len(picture))] = random.randrange(256)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 100_000, 100_000) + bytes(30)
    number = random.choice(["NaN", "-Infinity", "1e999", "9" * 400, "-0", "1.5", "true", "null", '"x"', "{}", "[]"])
    deep = "[" * random.choice([10, 70, 990, 5000]) + "]" * random.choice([0, 10, 990])
    name = random.choice(
        ["serving_default", "pixels", "outputs", "embedding", "host_image", "../x", "\0", "", 7, None, [], "é" * 300]
    )
    example = tf.train.Example()
    example.features.feature[random.choice(["image", "x"])].bytes_list.value.append(
        random.choice([bytes(picture), huge])
    )
    serialised = bytearray(example.SerializeToString())
    serialised[random.randrange(len(serialised))] = random.randrange(256)
    bodies = [
        good[: random.randrange(len(good))],
        good.replace("instances", random.choice(["inputs", "examples", "instance", ""])),
        good.replace("b64", random.choice(["b65", "B64", "image", ""])),
        good.replace(random.choice(good), random.choice('{}[]",:\\\0é')),
        json.dumps({"instances": [b64(bytes(picture))]}),
        json.dumps({"instances": [b64(bytes(picture[: random.randrange(len(picture))]))]}),
        json.dumps({"instances": [b64(huge)]}),
        json.dumps({"signature_name": "examples", "instances": [b64(bytes(serialised))]}),
        json.dumps({"instances": [b64(random.randbytes(random.randrange(200)))]}),
        json.dumps({"signature_name": name, "instances": [random.choice([1, "x", [[[1, 2, 3]]], {"image": "x"}])]}),
        json.dumps({"signature_name": name, "inputs": random.choice([1, [], {}, {"image": []}, {"inputs": [[1]]}])}),
        f'{{"signature_name": "pixels", "instances": [[[[{number}, 1, 2]]]]}}',
        f'{{"signature_name": "outputs", "instances": [{number}]}}',
        f'{{"instances": {deep}}}',
        f'{{"instances": [{number}]}}',
        json.dumps({"examples": random.choice([[], [1], [{}], [{"image": [1, "x"]}], {"image": "x"}])}),
        random.randbytes(random.randrange(300)),
        "",
    ]
    methods = [":predict", ":classify", ":regress", ":explain", "/metadata", ""]
    names = [
        "pets",
        "pets",
        "pets",
        "..%2f..%2fetc",
        "pets%00",
        "%ff",
        "a" * 3000,
        "pets/versions/1",
        "pets/versions/-1",
    ]
    names += ["pets/versions/99999999999999999999", "pets/labels/%2e%2e", "pets/versions/1/labels/x", ""]
    body = random.choice(bodies)
    body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    verb = random.choice(["POST"] * 12 + ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "FOO"])
    length = random.choice([len(body)] * 12 + [-1, len(body) // 2, 10**15, "x"])
    return (
        f"{verb} /v1/models/{random.choice(names)}{random.choice(methods)} HTTP/1.1\r\nHost: x\r\n"
        f"Connection: close\r\nContent-Length: {length}\r\n\r\n"
    ).encode() + body


def status_of(client, request):
    """Sends bytes and returns the status; None where the server hung up or waits for more."""
    host, port = client.host.split(":")
    with contextlib.closing(socket.create_connection((host, int(port)), timeout=20)) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        answer = read(connection)
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def bombard(client, encoded, count, *, seed):
    source = random.Random(seed)
    return [status_of(client, malformed(source, encoded)) for _ in range(count)]


def test_malformed_requests(pets, encoded):
    codes = bombard(pets, encoded, 300, seed=0)
    assert not [code for code in codes if code is not None and code >= 500 and code != 503]
    assert sum(400 <= (code or 0) < 500 for code in codes) > 200
    assert pets.post("predict", {"instances": [b64(encoded[0])]})[0] == 200


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_malformed_requests_leave_no_trace(serve, first, encoded):
    with serve(first, name="pets", batch_size=4) as client:
        bombard(client, encoded, 1000, seed=1)
        before = resident()
        codes = bombard(client, encoded, 10_000, seed=2)
        assert not [code for code in codes if code is not None and code >= 500 and code != 503]
        assert client.post("predict", {"instances": [b64(encoded[0])]})[0] == 200
        grown = resident() - before
        metrics = client.call("GET", "/metrics")[1]
    print(
        f"\n10,000 malformed requests: memory grew by {grown / 1e6:.1f} MB; status codes {sorted({c or 0 for c in codes})}"
    )
    assert grown < 50e6
    assert "tfpt_queue_examples 0.0" in metrics


def resident():
    """Returns the bytes of memory that the process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
