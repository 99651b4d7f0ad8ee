"""Serves an exported model: TensorFlow Serving's REST and gRPC interfaces, and a page to try it on.

New version folders are taken into service while it runs. It listens on this machine only, unless --serve.host says otherwise.
"""

import asyncio
import base64
import contextlib
import json
import signal
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tfpt import app, flags
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.server.options import Options

if TYPE_CHECKING:
    from tfpt.server.service import Serving

PROGRAM = "Serve an exported model over REST and gRPC, with a web page."
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
GROUPS = {"serve": Options}
"""Its own flag groups, which the other programs accept in a flag file."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _serve,
        program="serve",
        about=__doc__ or "",
        example="tfpt serve --model=saved_models/mine",
        groups=GROUPS,
        need_experiment=False,
        argv=argv,
    )


def _serve(parsed: flags.Parsed, console: Console) -> None:
    model = parsed.model or (parsed.experiment.output.model_dir if parsed.experiment else "")
    if not model:
        raise UserError("Write --model=saved_models/NAME, the folder that `tfpt train` exported to.")
    app.start_tensorflow(parsed.options["runtime"].threads)
    try:
        from tfpt.server import service
    except ModuleNotFoundError as error:
        raise UserError(f"`tfpt serve` needs {error.name}: pip install 'tfpt[serve]'.") from error

    options, runtime = parsed.options["serve"], parsed.options["runtime"]
    if service.is_public(options.host):
        console.warn(
            f"--serve.host={options.host}: whoever reaches this machine can use the model; nobody is asked who he is."
        )

    async def answer(stop: asyncio.Event, ready: asyncio.Event) -> None:
        async with service.serving(
            Path(model), options, runtime=runtime, trust=parsed.trust, console=console
        ) as serving:
            ready.set()
            if parsed.json:
                where = {"name": serving.name, "version": serving.version, "url": serving.url, "grpc": serving.grpc}
                print(json.dumps(where), file=sys.stdout, flush=True)
            console.say(_welcome(serving))
            await stop.wait()
            console.say("Stopping: what has arrived is answered first; told once more, it ends at once.")

    async def run() -> None:
        ready = asyncio.Event()
        with _told_to_stop() as stop:
            answering, told = asyncio.create_task(answer(stop, ready)), asyncio.create_task(stop.wait())
            await asyncio.wait({answering, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if not answering.done() and not ready.is_set():
                console.say("Stopping: what is being loaded is finished first; told once more, it ends at once.")
                answering.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await answering
            else:
                await answering

    asyncio.run(run())


@contextlib.contextmanager
def _told_to_stop() -> Iterator[asyncio.Event]:
    """Yields what Ctrl-C and SIGTERM set while the block runs; the second of them ends the process as if nobody listened."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def told() -> None:
        stop.set()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _SIGNALS:
        loop.add_signal_handler(number, told)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _welcome(serving: "Serving") -> str:
    url = f"{serving.url}/v1/models/{urllib.parse.quote(serving.name)}:predict"
    grpc = [f"  gRPC  {serving.grpc}"] if serving.grpc else []
    return "\n".join(
        [
            f"{serving.name}, version {serving.version}, answers at",
            f"  page  {serving.url}/",
            f"  REST  {url}",
            *grpc,
            f"Try it: curl -d '{_example(serving)}' {url}",
            "Ctrl-C stops it.",
        ]
    )


def _example(serving: "Serving") -> str:
    """Returns a request that the model takes, as JSON without a single quote."""
    with serving.versions.lease(name=serving.name) as (_, model):
        example = model.smallest_example()
    values = {
        name: {"b64": base64.b64encode(value).decode()} if b"\0" in value else value.decode()
        for name, value in example.items()
    }
    return json.dumps({"instances": [values if len(values) > 1 else values.popitem()[1]]})


if __name__ == "__main__":
    main()
