"""Brings pretrained weights and small data sets into the cache, so that runs need no network afterwards.

Write what --backbone or --data takes, such as efficientnet_lite:lite0 or movie_reviews, or give --flagfile and everything that
its experiment needs is fetched. What is there already is checked, not fetched again. `tfpt list weights` shows what there is.
"""

from collections.abc import Sequence
from typing import NoReturn

from tfpt import app, flags
from tfpt.console import Console
from tfpt.errors import UserError

PROGRAM = "Bring pretrained weights and small data sets into the cache."


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _fetch,
        program="fetch",
        about=__doc__ or "",
        example="tfpt fetch efficientnet_lite:lite0",
        need_experiment=False,
        positional="NAME...",
        argv=argv,
    )


def _fetch(parsed: flags.Parsed, console: Console) -> None:
    from tfpt.weights.fetch import fetch

    names = list(parsed.paths)
    for component in parsed.backbone.values():
        names += component.make().weight_files()
    if parsed.data is not None:
        names += parsed.data.make().data_files()
    if not names:
        raise UserError("Nothing to fetch: write a name such as efficientnet_lite:lite0, or --flagfile=FILE.")
    for name in names:
        path = fetch(name, offline=parsed.offline, console=console)
        console.say(f"{name}  {path}")


if __name__ == "__main__":
    main()
