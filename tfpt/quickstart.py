"""Shows the whole way in a few minutes: handwritten digits to a measured, exported and served model.

Fetches EfficientNet-Lite0 once, trains it on the digits that ship with scikit-learn, measures it, exports it with a proof
that the export answers the same, and classifies one image file. configs/image_classification/digits_efficientnet_lite0.flags
is the same experiment as a file to copy.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tfpt import app, flags
from tfpt.console import Console
from tfpt.errors import UserError

PROGRAM = "From handwritten digits to a served model, in a few minutes."

SETTINGS = {
    "task": "image_classification",
    "data": "digits",
    "backbone": "efficientnet_lite:lite0",
    "image_size": 64,
    "augment": "random_crop(pad=4)",
    "head_epochs": 3,
    "epochs": 6,
    "output": {"name": "quickstart"},
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _quickstart,
        program="quickstart",
        about=__doc__ or "",
        example="tfpt quickstart",
        need_experiment=False,
        argv=argv,
    )


def _quickstart(parsed: flags.Parsed, console: Console) -> None:
    if foreign := sorted(parsed.given - {"offline", "debug"}):
        raise UserError(
            f"--{foreign[0]}: the quickstart has settings of its own; `tfpt train --help` shows how to choose."
        )
    from tfpt import keywords, run

    done = run.fit_experiment(keywords.experiment_from_kwargs(**SETTINGS), console=console, offline=parsed.offline)
    run.tell(done, console)
    picture = _write_sample(done.folder)
    from tfpt.serving.answers import answer_files, highest

    (answer,) = answer_files(done.model, [str(picture)], console=Console(quiet=True))
    pairs = ", ".join(f"{label} {score:.3f}" for label, score in highest(answer.answer, 3))
    console.say(f"picture {picture}: {pairs}")
    console.say("")
    console.say("Look at the report in a browser. Then, with a folder of your own photos (a folder a class inside it):")
    console.say('  tfpt train --task=image_classification --data=folder:"my photos" --backbone=efficientnet_lite:lite0')
    console.say(f"  tfpt predict --model={done.experiment.output.model_dir} {picture}")


def _write_sample(folder: Path) -> Path:
    """Writes a test digit as an image file and returns its path."""
    import numpy as np
    import tensorflow as tf

    from tfpt.data.digits import Digits
    from tfpt.evaluation.predictions import read_predictions

    tested = next(p for p in read_predictions(folder / "predictions.csv") if p.split == "test")
    digits = Digits()
    k = int(np.flatnonzero(np.array(digits.index().names) == tested.name)[0])
    picture = folder / f"{tested.name}_is_{tested.label}.png"
    picture.write_bytes(digits.example(tf.constant(k, tf.int64))["image"].numpy())
    return picture


if __name__ == "__main__":
    main()
