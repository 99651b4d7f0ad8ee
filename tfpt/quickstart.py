"""Shows the whole way in a few minutes: from data that is at hand to a measured, exported model that answers.

Fetches EfficientNet-Lite0 once, trains it on the handwritten digits that ship with scikit-learn, measures it, exports it with a
proof that the export answers the same, and answers one image file. With --quickstart.kind=text the same is done with MiniLM
and sentences of film reviews, both fetched once. The experiments are in configs/ as files to copy:
image_classification/digits_efficientnet_lite0.flags and text_classification/movie_reviews_minilm.flags.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from tfpt import app, flags
from tfpt.config import setting
from tfpt.console import Console
from tfpt.errors import UserError

if TYPE_CHECKING:
    from tfpt.run import Run

PROGRAM = "From data that is at hand to a served model, in a few minutes."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `quickstart`."""

    kind: str = setting(
        "image",
        "image: handwritten digits; text: sentences of film reviews, which needs pip install 'tfpt[text]'.",
        choices=("image", "text"),
    )


GROUPS = {"quickstart": Options}
"""Its own flag groups, which the other programs accept in a flag file."""

SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "image": {
            "task": "image_classification",
            "data": "digits",
            "backbone": "efficientnet_lite:lite0",
            "image_size": 64,
            "augment": "random_crop(pad=4)",
            "head_epochs": 3,
            "epochs": 6,
            "output": {"name": "quickstart"},
        },
        "text": {
            "task": "text_classification",
            "data": "movie_reviews",
            "backbone": "hf:minilm_l6",
            "head_epochs": 1,
            "epochs": 2,
            "learning_rate": 1e-4,
            "output": {"name": "quickstart-text"},
        },
    }
)
"""Kind -> the experiment."""

_TEXT = "a gorgeous, witty film"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _quickstart,
        program="quickstart",
        about=__doc__ or "",
        example="tfpt quickstart",
        groups=GROUPS,
        need_experiment=False,
        argv=argv,
    )


def _quickstart(parsed: flags.Parsed, console: Console) -> None:
    if foreign := sorted(parsed.given - {"offline", "debug", "quickstart.kind"}):
        raise UserError(
            f"--{foreign[0]}: the quickstart has settings of its own; `tfpt train --help` shows how to choose."
        )
    from tfpt import keywords, run

    kind = parsed.options["quickstart"].kind
    experiment = keywords.experiment_from_kwargs(**SETTINGS[kind])
    done = run.fit_experiment(experiment, console=console, offline=parsed.offline)
    run.tell(done, console)
    show = _show_text if kind == "text" else _show_picture
    show(done, console)


def _show_picture(done: "Run", console: Console) -> None:
    """Answers a digit of the test split, and says how to go on with photos."""
    from tfpt.serving.answers import answer_files, highest

    picture = _write_sample(done.folder)
    (answer,) = answer_files(done.model, [str(picture)], console=Console(quiet=True))
    pairs = ", ".join(f"{label} {score:.3f}" for label, score in highest(answer.answer, 3))
    console.say(f"picture {picture}: {pairs}")
    console.say("")
    console.say("Look at the report in a browser. Then, with a folder of your own photos (a folder a class inside it):")
    console.say('  tfpt train --task=image_classification --data=folder:"my photos" --backbone=efficientnet_lite:lite0')
    console.say(f"  tfpt predict --model={done.experiment.output.model_dir} {picture}")


def _show_text(done: "Run", console: Console) -> None:
    """Answers a text that is not in the data, and says how to go on with texts."""
    from tfpt.serving.answers import answer_text, highest

    answer = answer_text(done.model, _TEXT)
    pairs = ", ".join(f"{label} {score:.3f}" for label, score in highest(answer.answer, 2))
    console.say(f"text    {_TEXT}: {pairs}")
    console.say("")
    console.say(
        "Look at the report in a browser. Then, with your own texts (a CSV file with the columns text and label):"
    )
    console.say("  tfpt train --task=text_classification --data=csv:mine.csv --backbone=hf:minilm_l6")
    console.say(f'  tfpt predict --model={done.experiment.output.model_dir} --text="{_TEXT}"')


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
