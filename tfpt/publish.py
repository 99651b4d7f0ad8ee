"""From a trained model to a published one: score it, prove the bundle equal, ask the gate, rename, report."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt import record
from tfpt.console import Console
from tfpt.errors import UserError

_WARMUP_EXAMPLES = 8

if TYPE_CHECKING:
    from tfpt.evaluation.scoring import Scores
    from tfpt.serving.servable import Servable
    from tfpt.training.feature_cache import FeatureCache
    from tfpt.training.fit import Trained
    from tfpt.training.run_folder import RunFolder
    from tfpt.training.setting import Setting


def publish(setting: "Setting", trained: "Trained", folder: "RunFolder", console: Console) -> Path | None:
    """Measures the float32 model on validation and test, exports it, and writes the run's results.

    Returns:
        The published version folder; None with `--export.publish=false`.

    Raises:
        GateError: `--export.require` does not hold; results are written, nothing is published.
        RuntimeError: the bundle answers differently from the model that was measured; results say so, nothing is
            published.
    """
    from tfpt.evaluation import gate, measure
    from tfpt.evaluation.environment import environment
    from tfpt.evaluation.results import as_json, write_results
    from tfpt.evaluation.scoring import score
    from tfpt.formats import _written
    from tfpt.serving import bundle, deployment, parity
    from tfpt.serving.model_card import model_card
    from tfpt.serving.servable import EXTRA, Servable
    from tfpt.training.blow_up import recovery_notes
    from tfpt.training.fit import check_failed

    experiment, splits = setting.experiment, setting.splits
    started = time.monotonic()
    servable = Servable.of(
        task=setting.task,
        state=setting.state,
        model=trained.assembly.model,
        trunks=trained.assembly.trunks,
        preprocessors=setting.preprocessors,
    )
    names = bundle.input_names(experiment.export.input_name, servable.features())
    features = trained.features
    servable = dataclasses.replace(_calibrated(servable, setting, console, features=features), input_names=names)
    state, primary = servable.state, setting.task.primary_of(servable.state)
    proving = next(name for name in ("test", "validation", "train") if len(getattr(splits, name)))
    whole = parity.choose(getattr(splits, proving), seed=experiment.train.seed)
    scored = {
        name: score(
            servable,
            setting.prepared,
            examples,
            console=console,
            what=f"Measuring on {name}",
            whole=whole,
            features=features,
        )
        for name, examples in (("validation", splits.validation), ("test", splits.test))
        if len(examples)
    }
    # The proof answers in batches of its own. Where other batches could tip a choice between near ties, it is scored anew.
    same_batches = proving in scored and (
        "scores" in scored[proving].kept or (features is None and len(whole) == len(getattr(splits, proving)))
    )
    proof = (
        scored[proving]
        if same_batches
        else score(
            servable,
            setting.prepared,
            whole,
            console=console,
            what="Answering training examples for the proof",
            whole=whole,
        )
    )
    check_failed(setting)
    if failed := sorted(setting.index.names[k] for k in setting.prepared.failed):
        shown = ", ".join(failed[:3]) + (", ..." if len(failed) > 3 else "")
        console.warn(f"{len(failed)} examples cannot be decoded and are left out: {shown}.")
    for name, scores in scored.items():
        if not len(scores.examples):
            raise UserError(f"None of the {len(getattr(splits, name))} {name} examples can be decoded; mend them.")
    headline = "test" if "test" in scored else "validation"
    metrics: dict[str, Any] = {
        "task": str(experiment.task),
        "primary": primary.name,
        "higher_is_better": primary.higher_is_better,
        **{name: measure.measure(servable, scores) for name, scores in scored.items()},
        "examples": {"train": len(splits.train), **{name: len(scores.examples) for name, scores in scored.items()}},
        **({"limit": experiment.input.limit} if experiment.input.limit else {}),
        "failed": failed,
    }
    if scored:
        metrics |= setting.task.details(scored[headline].statistics, state)
    timings = {**trained.timings, "measure": time.monotonic() - started}
    requirements = gate.parse_requirements(experiment.export.require, setting.task.metric_names_of(state))
    final = None
    try:
        if experiment.export.publish:
            started = time.monotonic()
            with bundle.publishing(Path(experiment.output.model_dir), experiment.export.version) as (partial, final):
                console.say("Exporting and proving the export equal in a fresh process ...")
                name = Path(experiment.output.model_dir).name
                bundle.save(servable, partial, model_name=name, warmup=_warmup(setting))
                _prove(setting, partial, proof, metrics, console, input_names=names)
                deployment.deploy(servable, partial / EXTRA, name=name)
                timings["export and proof"] = time.monotonic() - started
                if requirements:
                    gate.check_requirements(requirements, {n: v["value"] for n, v in metrics["test"].items()})
                raw = measure.raw_examples(setting.source, proof.examples[proof.chosen], setting.preprocessors.values())
                metrics |= _written.write(experiment.export.formats, servable, partial, raw, console=console)
                record.write_flagfile(experiment, partial / EXTRA / "experiment.flags")
                nameless = {**metrics, "failed": len(metrics["failed"])}  # names of files may say of whom they are
                (partial / EXTRA / "metrics.json").write_text(
                    as_json(nameless), encoding="utf-8", errors="surrogateescape"
                )
                card = model_card(setting, metrics, bundle=partial, timings=timings, machine=environment())
                (partial / EXTRA / "model_card.md").write_text(card, encoding="utf-8", errors="surrogateescape")
    finally:
        write_results(
            folder.path,
            title=experiment.output.name,
            summary={
                "task": str(experiment.task),
                "data": str(experiment.data),
                "backbone": ", ".join(map(str, experiment.backbone.values())),
            },
            metrics=metrics,
            scored=scored,
            index=setting.index,
            source=setting.source,
            state=state,
            report_examples=experiment.output.report_examples,
            history=trained.progress.history,
            configuration=record.changed_rows(experiment),
            timings=timings,
            notes=[*setting.notes, *recovery_notes(trained.progress.history)],
        )
    return final


def _calibrated(
    servable: "Servable", setting: "Setting", console: Console, *, features: "FeatureCache | None" = None
) -> "Servable":
    """Returns the model with what its task chooses on the validation split, after training."""
    from tfpt.evaluation.scoring import score

    validation = setting.splits.validation
    if not setting.task.calibrates(setting.state):
        return servable
    if not len(validation):
        console.warn(
            "There is no validation split, so nothing is calibrated: thresholds and --task.temperature stay as they were."
        )
        return servable
    scores = score(
        servable, setting.prepared, validation, console=console, what="Calibrating on validation", features=features
    )
    if not len(scores.examples):
        return servable
    state = setting.task.calibrate(scores.statistics, servable.state)
    return servable.with_state(state)


def _warmup(setting: "Setting") -> list[dict[str, bytes]] | None:
    """Returns the raw examples of the warm-up requests, as `bundle.save` takes them."""
    import numpy as np

    from tfpt.evaluation.measure import raw_examples

    kind = setting.experiment.export.warmup
    if kind == "synthetic":
        return None
    good = [k for k in setting.splits.train if k not in setting.prepared.failed] if kind == "examples" else []
    chosen = np.random.default_rng(setting.experiment.train.seed).permutation(good)[:_WARMUP_EXAMPLES].tolist()
    return list(raw_examples(setting.source, chosen, setting.preprocessors.values()))


def _prove(
    setting: "Setting",
    bundle: Path,
    scores: "Scores",
    metrics: dict[str, Any],
    console: Console,
    *,
    input_names: Mapping[str, str],
) -> None:
    from tfpt.evaluation.measure import raw_examples
    from tfpt.serving import parity

    raw = raw_examples(setting.source, scores.examples[scores.chosen], setting.preprocessors.values())
    libraries = {library for p in setting.preprocessors.values() for library in p.libraries}
    found = parity.prove(
        bundle,
        raw,
        scores.answers,
        batch_size=scores.batch_size,
        libraries=sorted(libraries),
        input_names=input_names,
    )
    metrics["parity"] = dataclasses.asdict(found)
    if not found.passed:
        raise RuntimeError(
            f"the exported model does not answer what was measured: {found.reason}; it was not published"
        )
    console.say(
        f"Parity passed: {found.examples} raw examples answered by the export in a fresh process, largest difference "
        f"{found.max_difference:.1e}."
    )
