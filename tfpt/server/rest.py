"""TensorFlow Serving's REST interface, health, metrics, and the page."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from importlib import resources
from typing import Any

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tfpt.preprocessors.image import Image
from tfpt.server import examples, json_values, status
from tfpt.server.metrics import Metrics
from tfpt.server.model import Model
from tfpt.server.refusal import Code, Refusal, busy, invalid
from tfpt.server.requests import ModelSpec, Requests, Ticket
from tfpt.server.signature import Values

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r"(?::(?P<method>predict|classify|regress)|/(?P<metadata>metadata))?"
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_PAGE = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript"}


def application(requests: Requests, metrics: Metrics) -> Starlette:
    """Returns the ASGI application."""
    rest = _Rest(requests, metrics)
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    made = Starlette(
        routes=[
            Route("/healthz", rest.healthy),
            Route("/readyz", rest.ready),
            Route("/metrics", rest.metrics),
            Route("/model", rest.model),
            Route("/v1/models/{rest:path}", rest.models, methods=methods),
            *(Route(f"/{file}", _page(file or "page.html", kind)) for file, kind in _PAGE.items()),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _not_found, Exception: _bug},
    )
    made.router.redirect_slashes = False
    return made


class _Rest:
    def __init__(self, requests: Requests, metrics: Metrics) -> None:
        self._requests = requests
        self._metrics = metrics

    async def healthy(self, request: Request) -> Response:
        """Says that the process is alive."""
        return Response("ok\n", media_type="text/plain")

    async def ready(self, request: Request) -> Response:
        """Says whether requests may be sent here."""
        if self._requests.stopping:
            raise busy("the server is stopping")
        if self._requests.broken:
            raise busy("a part of the server has ended; it must be started again")
        return Response("ok\n", media_type="text/plain")

    async def metrics(self, request: Request) -> Response:
        """Returns the metrics."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def model(self, request: Request) -> Response:
        """Returns what the page must know of the model."""
        versions = self._requests.versions
        with versions.lease(name=versions.name) as (version, model):
            inputs = [
                {"name": name, "kind": "image" if isinstance(p, Image) else "text"}
                for name, p in model.features.items()
            ]
            return _json({"name": versions.name, "version": version, "inputs": inputs})

    async def models(self, request: Request) -> Response:
        """Answers what is below /v1/models."""
        path = _PATH.fullmatch(request.scope["path"])
        method = (path["method"] or path["metadata"] or "status") if path else "none"
        answers = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
        async with self._requests.counted("rest", method):
            if path is None or request.method != ("POST" if method in answers else "GET"):
                raise invalid(f"Malformed request: {request.method} {request.scope['path'][:200]}")
            version = int(path["version"]) if path["version"] and len(path["version"]) < 19 else None
            if path["version"] and version is None:
                raise invalid(f"Malformed request: version {path['version'][:30]} does not fit into 64 bits")
            spec = ModelSpec(name=path["name"], version=version, label=path["label"] or "")
            if method not in answers:
                return _json(self._metadata(spec) if method == "metadata" else self._status(spec))
            with self._requests.admitted() as ticket:
                body = await self._body(request, ticket)
                return await _while_there(request, answers[method](spec, body))

    def _status(self, spec: ModelSpec) -> dict[str, Any]:
        response = status.model_status(self._requests.versions, spec)
        return json_format.MessageToDict(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

    def _metadata(self, spec: ModelSpec) -> dict[str, Any]:
        versions = self._requests.versions
        with versions.lease(name=spec.name, version=spec.version, label=spec.label) as (version, model):
            signatures = json_format.MessageToDict(
                model.definitions, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            return {
                "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
                "metadata": {"signature_def": signatures},
            }

    async def _predict(self, spec: ModelSpec, body: bytes) -> Response:
        by_row = True

        def inputs(model: Model) -> tuple[str, Values]:
            nonlocal by_row
            request = json_values.parse(body)
            signature = model.signature(json_values.signature_name(request))
            by_row = json_values.is_by_row(request)
            return signature.name, json_values.inputs_of(request, signature)

        _, _, answers = await self._requests.answers(spec, inputs)
        return _body(await self._requests.written(answers, lambda: json_values.predictions(answers, by_row=by_row)))

    async def _classify(self, spec: ModelSpec, body: bytes) -> Response:
        return await self._of_examples(spec, body, examples.signature_for_classes, examples.classes_of)

    async def _regress(self, spec: ModelSpec, body: bytes) -> Response:
        return await self._of_examples(spec, body, examples.signature_for_values, examples.values_of)

    async def _of_examples(
        self, spec: ModelSpec, body: bytes, choose: Callable[[Any, str], str], results: Callable[[Values], Any]
    ) -> Response:
        options = self._requests.options

        def inputs(model: Model) -> tuple[str, Values]:
            request = json_values.parse(body)
            signature = model.signature(choose(model.signatures, json_values.signature_name(request)))
            found = json_values.examples_of(request, most=options.queue)
            return signature.name, examples.inputs_of(found, signature, most_bytes=options.max_body)

        _, _, answers = await self._requests.answers(spec, inputs)
        return _body(await self._requests.written(answers, lambda: json_values.dump({"results": results(answers)})))

    async def _body(self, request: Request, ticket: Ticket) -> bytes:
        """Reads the body.

        Raises:
            Refusal: it is too large, or takes too long to arrive.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._requests.options.max_body:
            raise Refusal(Code.TOO_LARGE, f"the request is larger than {self._requests.options.max_body_mb:g} MB")
        parts = []
        try:
            async with asyncio.timeout(self._requests.options.timeout_seconds):
                async for part in request.stream():
                    ticket.grow(len(part))
                    parts.append(part)
        except TimeoutError as error:
            raise Refusal(Code.TOO_SLOW, "the request took too long to arrive") from error
        except ClientDisconnect as error:
            raise invalid("the client has gone") from error
        return b"".join(parts)


async def _while_there(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """Returns the answer to a request that has arrived; gives up when the client does.

    Raises:
        Refusal: the client has gone, so that nobody is told.
    """
    answering, gone = asyncio.create_task(answer), asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise invalid("the client has gone")
        return await answering
    finally:
        answering.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _page(file: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = (resources.files("tfpt.server") / file).read_bytes()

    async def page(request: Request) -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return page


def _json(value: Any, code: int = 200) -> Response:
    return _body(json_values.dump(value), code)


def _body(content: bytes, code: int = 200) -> Response:
    return Response(content, status_code=code, media_type="application/json")


async def _refused(request: Request, refusal: Any) -> Response:
    response = _json({"error": refusal.sentence}, refusal.code.http)
    if refusal.code is Code.UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    if refusal.code is Code.TOO_SLOW:  # what is still on its way is not wanted
        response.headers["Connection"] = "close"
    return response


async def _not_found(request: Request, error: Any) -> Response:
    return _json({"error": f"{error.detail}: {request.method} {request.scope['path'][:200]}"}, error.status_code)


async def _bug(request: Request, error: Exception) -> Response:
    return _json({"error": f"Internal: {type(error).__name__}"}, 500)
