"""One server from start to stop: sockets, the model's versions, both interfaces."""

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import uvicorn

from tfpt.config import Runtime
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.server import grpc_service, rest
from tfpt.server.batcher import Batcher, batch_sizes
from tfpt.server.connection import patient_for
from tfpt.server.engine import TENSORFLOW, put_on_engine
from tfpt.server.metrics import Metrics
from tfpt.server.model import Model
from tfpt.server.options import Options
from tfpt.server.requests import Requests
from tfpt.server.versions import Versions
from tfpt.serving.servable import Servable, is_version

_LARGEST_HEAD = 32_000  # bytes of a request's first line and headers
_SPARE = 64
"""Connections beyond those whose requests are answered, so that health can always be asked for."""
_TENSORFLOW = Runtime(engine=TENSORFLOW)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serving:
    """A server that answers.

    Attributes:
        name: of the model.
        version: the newest when it began to answer.
        url: where the page is, `http://HOST:PORT`.
        grpc: `HOST:PORT`; empty without gRPC.
        versions: what answers now.
    """

    name: str
    version: int
    url: str
    grpc: str
    versions: Versions


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    options: Options,
    *,
    runtime: Runtime = _TENSORFLOW,
    trust: tuple[str, ...] = (),
    console: Console,
) -> AsyncIterator[Serving]:
    """Serves a model while the block runs; then answers what has arrived, and stops.

    Args:
        folder: `saved_models/NAME`, or one version folder of it.
        options: the flags of the group `serve`.
        runtime: which engine runs the model.
        trust: packages outside tfpt whose components may be imported.
        console: where comings and goings of versions are said.

    Raises:
        UserError: the model cannot be loaded, or a port cannot be had.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    metrics = Metrics()
    with contextlib.ExitStack() as closing:
        listening = closing.enter_context(_listen(options))
        versions = Versions(
            folder,
            name=options.name or model_name(folder),
            policy=options.versions,
            labels={name: int(version) for name, _, version in (label.partition("=") for label in options.labels)},
            load=_loader(options, runtime, trust, console),
            console=console,
            metrics=metrics,
        )
        closing.callback(versions.close)
        batcher = Batcher(
            batch_size=options.batch_size, wait=options.batch_wait_ms / 1000, queue=options.queue, metrics=metrics
        )
        closing.callback(batcher.close)
        requests = Requests(options=options, versions=versions, batcher=batcher, metrics=metrics)
        closing.callback(requests.close)
        await versions.start()
        http = _Http(
            uvicorn.Config(
                rest.application(requests, metrics),
                http=patient_for(options.timeout_seconds, most=options.connections + _SPARE),
                ws="none",
                lifespan="off",
                loop="none",
                log_config=None,
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=_LARGEST_HEAD,
                timeout_graceful_shutdown=int(options.timeout_seconds) + 1,
            )
        )
        grpc_server = grpc_service.server(requests)
        grpc_port = _grpc_port(grpc_server, options)
        await grpc_server.start()
        working = [_working(batcher.run(), requests, console)]
        if options.poll_seconds:
            working.append(_working(versions.watch(options.poll_seconds), requests, console))
        answering = asyncio.create_task(http.serve(sockets=[listening]))
        try:
            await _started(http, answering, options)
            yield Serving(
                name=versions.name,
                version=versions.newest,
                url=f"http://{_address(options.host, listening.getsockname()[1])}",
                grpc=_address(options.host, grpc_port) if grpc_port else "",
                versions=versions,
            )
        finally:
            requests.stopping = True
            if http.started:
                await asyncio.sleep(options.drain_seconds)
            http.should_exit = True
            await asyncio.gather(answering, grpc_server.stop(options.timeout_seconds), return_exceptions=True)
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)


def _working(work: Coroutine[Any, Any, None], requests: Requests, console: Console) -> "asyncio.Task[None]":
    """Starts what should never end; if it does, that is said, and the server is not ready any more."""

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            requests.broken = True
            console.warn(f"a part of the server has ended ({type(error).__name__}: {error}); start it again.")

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task


async def _started(http: uvicorn.Server, answering: "asyncio.Task[None]", options: Options) -> None:
    """Waits until requests are answered.

    Raises:
        UserError: somebody else began to listen on the port while the model was loaded.
    """
    while not http.started:
        if answering.done():
            try:
                await answering
            except OSError as error:
                raise _not_to_be_had(options, error) from error
            raise RuntimeError("uvicorn ended before it started")
        await asyncio.sleep(0.01)


class _Http(uvicorn.Server):
    """uvicorn, which leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Captures none."""
        yield


def model_name(folder: Path) -> str:
    """Returns the name that clients use, where none was given: the model folder's."""
    folder = folder.resolve()
    name = (folder.parent if is_version(folder.name) else folder).name
    if ":" in name:
        raise UserError(
            f"--model={folder}: the name {name} holds a colon, which no address can; write --serve.name=NAME."
        )
    return name


def _loader(options: Options, runtime: Runtime, trust: tuple[str, ...], console: Console) -> Callable[[Path], Model]:
    def load(folder: Path) -> Model:
        model = Model(Servable.load(folder, trust=trust), options)
        put_on_engine(model, runtime, console=console)
        model.warm_up(batch_sizes(options.batch_size))
        return model

    return load


def _listen(options: Options) -> socket.socket:
    """Returns a socket that has the port, and does not listen yet: nobody connects before there is somebody to answer."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        raise _not_to_be_had(options, error) from error
    return made


def _not_to_be_had(options: Options, error: OSError) -> UserError:
    of_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
    flag = f"--serve.port={options.port}" if of_port else f"--serve.host={options.host}"
    why = os.strerror(error.errno) if of_port and error.errno else error.strerror  # asyncio's own is a paragraph
    return UserError(f"{flag} cannot be listened on ({why}); give another, or --serve.port=0 for a free port.")


def _grpc_port(server: grpc_service.grpc.aio.Server, options: Options) -> int:
    if options.grpc_port is None:
        return 0
    try:
        return server.add_insecure_port(_address(options.host, options.grpc_port))
    except RuntimeError as error:
        raise UserError(
            f"--serve.grpc_port={options.grpc_port} cannot be listened on; give another, 0 for a free one, or none."
        ) from error


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_public(host: str) -> bool:
    """Tells whether other machines can reach a server at this address."""
    return host not in _LOOPBACK
