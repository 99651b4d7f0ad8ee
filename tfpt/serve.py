"""Serves an exported model: TensorFlow Serving's REST and gRPC interfaces, and a page to try it on.

New version folders are taken into service while it runs. It listens on this machine only, unless --serve.host says otherwise.
"""

import asyncio
import base64
import json
import signal
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tfpt import app, flags
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.server.options import Options

if TYPE_CHECKING:
    from tfpt.server.service import Serving

PROGRAM = "Serve an exported model over REST and gRPC, with a web page."
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

    async def run() -> None:
        stop = asyncio.Event()
        async with service.serving(
            Path(model), options, runtime=runtime, trust=parsed.trust, console=console
        ) as serving:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            if parsed.json:
                where = {"name": serving.name, "version": serving.version, "url": serving.url, "grpc": serving.grpc}
                print(json.dumps(where), file=sys.stdout, flush=True)
            console.say(_welcome(serving))
            await stop.wait()
            console.say("Stopping: what has arrived is answered first.")

    asyncio.run(run())


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
    values = {
        name: {"b64": base64.b64encode(value).decode()} if b"\0" in value else value.decode()
        for name, value in serving.model.smallest_example().items()
    }
    return json.dumps({"instances": [values if len(values) > 1 else values.popitem()[1]]})


if __name__ == "__main__":
    main()
