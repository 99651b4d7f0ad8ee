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

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_service_pb2_grpc, regression_pb2

from tfpt.server import service


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


def test_more_requests_than_allowed(small, connected, encoded):
    body = json.dumps({"instances": [b64(encoded[0])]}).encode()
    held = [connected() for _ in range(40)]
    for connection in held:
        connection.sendall(
            f"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
    until = time.monotonic() + 10
    while (answer := small.post("predict", body))[0] != 503:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert answer == (503, {"error": "40 requests are being answered already; come back later"})
    assert small.headers["retry-after"] == "1"
    assert small.call("GET", "/healthz")[0] == small.call("GET", "/readyz")[0] == 200
    assert 'method="predict",status="UNAVAILABLE"' in small.call("GET", "/metrics")[1]
    for connection in held:
        assert first_answer(connection).startswith(b"HTTP/1.1 408 ")
    assert small.post("predict", body)[0] == 200


def test_of_too_many_connections_the_one_that_was_silent_for_longest_goes(serve, first):
    with serve(first, name="pets", batch_size=1, connections=1) as client, contextlib.ExitStack() as opened:
        host, port = client.host.split(":")
        held = [
            opened.enter_context(contextlib.closing(socket.create_connection((host, int(port)), timeout=20)))
            for _ in range(service._SPARE + 1)
        ]
        time.sleep(1.0)  # until the server has taken in all of them: only then is the first one the last to have spoken
        held[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first_answer(held[0]).startswith(b"HTTP/1.1 200 ")
        assert client.call("GET", "/healthz")[0] == 200
        assert read(held[1]) == b""
        for one in (held[0], held[2]):
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert first_answer(one).startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_nobody_reads_is_not_kept(small):
    count = 2000
    with contextlib.closing(socket.socket()) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(20)
        host, port = small.host.split(":")
        slow.connect((host, int(port)))
        slow.sendall(b"GET /page.js HTTP/1.1\r\nHost: x\r\n\r\n" * count)
        time.sleep(2.5)
        assert 0 < read(slow).count(b"HTTP/1.1 200 ") < count


def test_what_is_no_http_is_refused_as_all_else(connected):
    wrong = connected()
    wrong.sendall(b"no request\r\n\r\n")
    head, _, body = read(wrong).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/json" in head
    assert json.loads(body) == {"error": "Invalid HTTP request received."}


def test_examples_are_no_larger_with_what_they_share(small):
    body = {"signature_name": "examples", "context": {"image": b64(bytes(60_000))}, "examples": [{}] * 4}
    assert small.post("classify", body) == (413, {"error": "the examples with their context are larger than 0.2 MB"})
    numbers = {"signature_name": "examples", "context": {"x": [1] * 20_000}, "examples": [{}] * 4}
    assert small.post("classify", numbers)[0] == 413
    assert small.post("classify", {"examples": [1] * 5}) == (  # counted before they are looked at
        400, {"error": "5 examples were sent; a request may have 1 to 4"},
    )  # fmt: skip
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "pets", "examples"
    sent = request.input.example_list_with_context
    sent.context.features.feature["image"].bytes_list.value.append(bytes(60_000))
    sent.examples.extend([tf.train.Example()] * 4)
    with grpc.insecure_channel(small.serving.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="with their context are larger than") as refusal:
            stub.Classify(request)
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        sent.examples.add()
        with pytest.raises(grpc.RpcError, match="5 examples were sent; a request may have 1 to 4"):
            stub.Classify(request)


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


def test_what_nobody_waits_for_any_more_is_not_computed(serve, first, encoded):
    may_go_on, calls = threading.Event(), []

    class Held:
        def predict(self, batch):
            calls.append(len(batch["inputs"]))
            may_go_on.wait(20)
            return before.predict(batch)

    body = json.dumps({"instances": [b64(encoded[0])]}).encode()
    head = f"POST /v1/models/pets:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with serve(first, name="pets", batch_size=1) as client, contextlib.ExitStack() as opened:

        def until(line):
            end = time.monotonic() + 20
            while line not in client.call("GET", "/metrics")[1]:
                assert time.monotonic() < end, line
                time.sleep(0.02)

        with client.serving.versions.lease(name="pets") as (_, model):
            before = model.runner
            model.runner = Held()
        host, port = client.host.split(":")
        asked = [opened.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(5)]
        try:
            for connection in asked:
                connection.sendall(head + body)
            until("tfpt_queue_examples 4.0")
            for connection in asked:
                connection.close()
            until('tfpt_requests_total{interface="rest",method="predict",status="INVALID_ARGUMENT"} 5.0')
        finally:
            may_go_on.set()
        assert client.post("predict", body)[0] == 200
    assert calls == [1, 1]  # that which was on its way, and the last


def test_before_it_stops_it_says_so_to_who_asks_whether_it_is_ready(serve, first, encoded):
    with serve(first, name="pets", batch_size=1, drain_seconds=2.0) as client:
        assert client.call("GET", "/readyz")[0] == 200
        client.stop()
        until = time.monotonic() + 2
        while (answer := client.call("GET", "/readyz"))[0] == 200:
            assert time.monotonic() < until
        assert answer == (503, {"error": "the server is stopping"})
        time.sleep(0.5)  # uvicorn alone would have stopped to listen by now
        assert client.post("predict", {"instances": [b64(encoded[0])]})[0] == 200


HALF = "\ud800"  # half a character: JSON can say it, and no bytes can


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
        ["serving_default", "pixels", "outputs", "embedding", "host_image", "examples", "classification"]
        if random.random() < 0.5
        else ["../x", "\0", "", 7, None, [], "é" * 300, HALF]
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
        json.dumps({"examples": random.choice([[], [1], [{}], [{"image": [1, "x"]}], {"image": "x"}, [{HALF: 1}]])}),
        json.dumps({"inputs": {random.choice([HALF, "\0", "image"]): [random.choice([HALF, "x"])]}}),
        json.dumps(
            {
                "signature_name": name,
                "context": {random.choice(["image", "x", HALF]): random.choice([b64(bytes(picture)), [1] * 9, HALF])},
                "examples": [{}] * random.choice([1, 3, 2000]),
            }
        ),
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


def malformed_call(random, encoded):
    """Returns a method of the PredictionService and a message that is wrong in many ways."""
    name = random.choice(["serving_default", "pixels", "outputs", "embedding", "examples", "classification", "x", ""])
    picture = bytearray(random.choice(encoded))
    picture[random.randrange(len(picture))] = random.randrange(256)
    if random.random() < 0.5:
        request = predict_pb2.PredictRequest()
        tensor = request.inputs[random.choice(["image", "image", "inputs", "examples", ""])]
        tensor.dtype = random.choice([0, 1, 3, 4, 7, 7, 9, 14, 19, 21, 23, 101])
        sizes = [0, 1, 1, 2, 3, 8, 8, 2000, -1, 10**9, 2**62]
        for _ in range(random.choice([0, 1, 1, 4, 4, 9])):
            tensor.tensor_shape.dim.add(size=random.choice(sizes))
        for _ in range(random.choice([0, 1, 1, 3])):
            tensor.string_val.append(bytes(picture))
            tensor.int_val.append(random.choice([0, 255, 300, -1, 2**31 - 1]))
            tensor.half_val.append(random.choice([0, 70_000]))
            tensor.float_val.append(random.choice([0.5, float("nan"), float("inf")]))
        if random.random() < 0.2:
            tensor.tensor_content = random.randbytes(random.randrange(30))
        request.output_filter.extend(random.choice([[], [], ["scores"], ["x"], ["label", "label"]]))
        method, spec = "Predict", request.model_spec
    else:
        method = random.choice(["Classify", "Regress"])
        kinds = {"Classify": classification_pb2.ClassificationRequest, "Regress": regression_pb2.RegressionRequest}
        request = kinds[method]()
        shared = random.random() < 0.5
        sent = request.input.example_list_with_context if shared else request.input.example_list
        some = [sent.examples.add().features for _ in range(random.choice([0, 1, 3, 2000]))]
        for features in [*some, sent.context.features] if shared else some:
            feature = features.feature[random.choice(["image", "image", "x"])]
            feature.bytes_list.value.append(
                bytes(picture)
            ) if random.random() < 0.7 else feature.float_list.value.append(1)
        spec = request.model_spec
    spec.name = random.choice(["pets", "pets", "pets", "pets", "cats", ""])
    spec.signature_name = name
    if random.random() < 0.2:
        spec.version.value = random.choice([1, 9, -1])
    elif random.random() < 0.1:
        spec.version_label = "../x"
    return method, request


def bombard_calls(client, encoded, count, *, seed):
    """Returns the codes of answers to malformed calls of gRPC."""
    source, codes = random.Random(seed), []
    with grpc.insecure_channel(client.serving.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for _ in range(count):
            method, request = malformed_call(source, encoded)
            try:
                getattr(stub, method)(request, timeout=30)
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.append(error.code())
    return codes


REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE,
}  # fmt: skip


def test_malformed_calls(pets, encoded):
    codes = bombard_calls(pets, encoded, 300, seed=0)
    assert set(codes) <= REFUSED | {grpc.StatusCode.OK}
    assert sum(code in REFUSED for code in codes) > 200
    assert pets.post("predict", {"instances": [b64(encoded[0])]})[0] == 200


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
        bombard_calls(client, encoded, 1000, seed=1)
        before = resident()
        codes = bombard(client, encoded, 10_000, seed=2)
        calls = bombard_calls(client, encoded, 10_000, seed=2)
        assert set(calls) <= REFUSED | {grpc.StatusCode.OK}
        assert not [code for code in codes if code is not None and code >= 500 and code != 503]
        assert client.post("predict", {"instances": [b64(encoded[0])]})[0] == 200
        grown = resident() - before
        metrics = client.call("GET", "/metrics")[1]
    print(
        f"\n10,000 malformed requests over each interface: memory grew by {grown / 1e6:.1f} MB; status codes {sorted({c or 0 for c in codes})}"
    )
    assert grown < 50e6
    assert "tfpt_queue_examples 0.0" in metrics


def resident():
    """Returns the bytes of memory that the process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
