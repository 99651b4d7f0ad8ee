"""From a checkpoint that was fine-tuned elsewhere to a served model: no data, no training, the same proof."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import formats, startup
from tfpt.config import DEFAULT_TRUNK, Component, Export, Input, Output
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.weights.fetch import fetch

if TYPE_CHECKING:
    from tfpt.preprocessors import Preprocessor

TEXTS = (
    *("A synthetic sentence.", "", " ", 'Another one, a little longer; with commas, 1,234.5 and "quotes".', "x" * 2000),
    *(
        "\N{THUMBS UP SIGN} emoji",
        "\u05e9\u05dc\u05d5\u05dd \u0639\u0627\u0644\u0645",
        "two\nlines\tand a tab",
        "nul \0 inside",
    ),
    *(f"Sentence number {k}, of its own length{' and more' * k}." for k in range(24)),
)
"""What the proof answers, where there is no data: ordinary texts and odd ones."""


def export_checkpoint(
    task: Component,
    backbone: Component,
    *,
    input: Input,
    output: Output,
    export: Export,
    pair: bool,
    console: Console,
    offline: bool = False,
) -> Path:
    """Makes a bundle of a fine-tuned checkpoint, and proves that it answers in a fresh process as the model does here.

    Args:
        task: with `--task.head=checkpoint` set.
        backbone: the folder, or the name of the checkpoint.
        input: the length of texts.
        output: where it goes.
        export: the version.
        pair: whether it answers two texts at a time.
        console: talks to the user.
        offline: never use the network.

    Returns:
        The version folder.

    Raises:
        UserError: the checkpoint brings no head that the task can take, or answers texts otherwise than asked.
        RuntimeError: the proof failed; nothing is published.
    """
    startup.start_tensorflow()
    from tfpt.evaluation.environment import environment
    from tfpt.formats import _written
    from tfpt.serving import bundle, deployment, parity
    from tfpt.serving.model_card import checkpoint_card
    from tfpt.serving.servable import EXTRA, Servable
    from tfpt.training.assembly import assemble
    from tfpt.training.setting import checkpoint_head

    formats.check_installed(export.formats)
    made, trunk = task.make(), backbone.make()
    if export.require:
        raise UserError(f"--export.require={export.require} is asked of a test split, and there is no --data.")
    if export.warmup == "examples":
        raise UserError("--export.warmup=examples: without --data there are none; write synthetic or none.")
    for file in dict.fromkeys((*trunk.spec_files(), *trunk.weight_files())):
        fetch(file, offline=offline, console=console)
    if trunk.spec().modality != "text" or "text" not in made.modalities:
        raise UserError(
            f"--backbone={backbone}: only checkpoints for text are exported without --data, and with a task for text."
        )
    head = checkpoint_head(made, {DEFAULT_TRUNK: trunk})
    if head is None:
        raise UserError("--task.head=new: without --data there is nothing to train a new head on; leave it out.")
    state = made.take_head(head)
    features = ("text", "text_pair") if pair else ("text",)
    preprocessor: Preprocessor = made.adapt_preprocessor(trunk.preprocessor(input).for_features(features))
    parts: dict[str, Any] = {"backbones": {DEFAULT_TRUNK: trunk}, "preprocessors": {DEFAULT_TRUNK: preprocessor}}
    assembly = assemble(made, state, **parts, precision="float32", seed=0)
    head.load(assembly.model)
    for note in trunk.loading_notes():
        console.say(note)
    servable = Servable.of(
        task=made, state=state, model=assembly.model, trunks=assembly.trunks, preprocessors=parts["preprocessors"]
    )
    servable = dataclasses.replace(servable, input_names=bundle.input_names(export.input_name, servable.features()))
    raw = [{name: text.encode() for name in preprocessor.raw_features} for text in TEXTS]
    answers = servable.predict({name: [one[name] for one in raw] for name in raw[0]}, batch_size=len(raw))
    folder = Path(output.model_dir or f"saved_models/{output.name or _name(backbone)}")
    started = time.monotonic()
    with bundle.publishing(folder, export.version) as (partial, final):
        console.say("Exporting and proving the export equal in a fresh process ...")
        warmup = () if export.warmup == "none" else None
        bundle.save(servable, partial, model_name=folder.name, warmup=warmup)
        libraries = sorted(preprocessor.libraries)
        found = parity.prove(
            partial, raw, answers, batch_size=len(raw), libraries=libraries, input_names=servable.input_names
        )
        if not found.passed:
            raise RuntimeError(
                f"the exported model does not answer as the checkpoint does: {found.reason}; it was not published"
            )
        deployment.deploy(servable, partial / EXTRA, name=folder.name)
        _written.write(export.formats, servable, partial, raw, console=console)
        card = checkpoint_card(
            folder.name,
            task,
            backbone=backbone,
            spec=trunk.spec(),
            preprocessor=preprocessor,
            classes=head.classes,
            bundle=partial,
            timings={"export and proof": time.monotonic() - started},
            machine=environment(),
        )
        (partial / EXTRA / "model_card.md").write_text(card, encoding="utf-8")
    console.say(
        f"Parity passed: {found.examples} raw texts answered by the export in a fresh process, largest difference {found.max_difference:.1e}."
    )
    return final


def with_checkpoint_head(task: Component) -> Component:
    """Returns the task with `--task.head=checkpoint`.

    Raises:
        UserError: it has no such setting.
    """
    config = task.config if task.config is not None else task.make().Config()
    if not hasattr(config, "head"):
        raise UserError(f"--task={task} cannot take over the head of a checkpoint; give --data and train it.")
    return dataclasses.replace(task, config=dataclasses.replace(config, head="checkpoint"))


def _name(backbone: Component) -> str:
    return Path(backbone.argument).name or backbone.name
