"""Looks at this machine: versions, devices, arithmetic, decoding, disk, caches and extras, and says what to do.

The exit code is 1 where something is broken.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import NoReturn

from tfpt import app, flags
from tfpt.console import Console

PROGRAM = "Look at this machine, and say what to do where something is wrong."


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _doctor, program="doctor", about=__doc__ or "", example="tfpt doctor", need_experiment=False, argv=argv
    )  # fmt: skip


def _doctor(parsed: flags.Parsed, console: Console) -> int:
    app.start_tensorflow(parsed.options["runtime"].threads)
    from tfpt.training.checkup import BROKEN, check_up

    found = check_up()
    if parsed.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=1, ensure_ascii=False))
    else:
        for finding in found:
            to_do = f": {finding.to_do}" if finding.to_do else ""
            console.say(f"{finding.state:<6}  {finding.name}: {finding.told}{to_do}")
    return app.FAILED if any(finding.state == BROKEN for finding in found) else app.DONE


if __name__ == "__main__":
    main()
