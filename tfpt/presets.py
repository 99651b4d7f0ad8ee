"""Settings that belong together: `--preset=NAME`. What is given by itself wins; the values stand in experiment.flags."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tfpt.errors import UserError

PICTURES, TEXTS = "image", "text"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """Flags and where they come from.

    Attributes:
        about: what it is for.
        origin: who found them.
        flags: modality -> flag -> value.
    """

    about: str
    origin: str
    flags: Mapping[str, Mapping[str, str]]


def _bit(*, steps: int, warmup: float, step_at: str, mixup: bool) -> Preset:
    crops = "random_crop(pad=0.1)|flip"
    return Preset(
        about=f"pictures: everything trains, from the start, for {steps:,} updates of 512 examples",
        origin="BiT-HyperRule: Kolesnikov et al., Big Transfer, ECCV 2020, section 3.3; the picture's size is left to the backbone",
        flags={
            PICTURES: {
                "input.augment": f"{crops}|mixup(0.1)" if mixup else crops,
                "train.head_epochs": "0",
                "train.epochs": "1000",
                "train.steps": str(steps),
                "train.evaluate_every": str(steps // 5),
                "train.batch_size": "512",
                "train.accumulate": "16",
                "optim.name": "sgd",
                "optim.momentum": "0.9",
                "optim.learning_rate": "0.003",
                "optim.weight_decay": "0",
                "optim.clip_norm": "0",
                "optim.schedule": "step",
                "optim.step_at": step_at,
                "optim.step_factor": "0.1",
                "optim.warmup": str(warmup),
            }
        },
    )


_HEAD_ALONE = {"input.augment": "none", "train.head_epochs": "20", "train.epochs": "0"}
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "quick": Preset(
            about="the head alone, on features that are computed once",
            origin="linear probing, the first half of LP-FT: Kumar et al., ICLR 2022",
            flags={PICTURES: _HEAD_ALONE, TEXTS: _HEAD_ALONE},
        ),
        "strong": Preset(
            about="the head, then everything for long, with strong regularisation",
            origin="LP-FT: Kumar et al., ICLR 2022; pictures: the augmentation light2 of AugReg, Steiner et al., TMLR 2022; texts: "
            "rate, schedule and length of Mosbach et al., On the Stability of Fine-tuning BERT, ICLR 2021",
            flags={
                PICTURES: {
                    "input.augment": "random_crop(pad=0.1)|flip|randaugment(2,3.3)|mixup(0.2)",
                    "train.head_epochs": "10",
                    "train.epochs": "30",
                    "optim.schedule": "cosine",
                },
                TEXTS: {
                    "train.head_epochs": "5",
                    "train.epochs": "20",
                    "optim.learning_rate": "2e-5",
                    "optim.schedule": "linear",
                    "optim.warmup": "0.1",
                },
            },
        ),
        "bit_small": _bit(steps=500, warmup=0.2, step_at="40,60,80", mixup=False),
        "bit_medium": _bit(steps=10_000, warmup=0.05, step_at="30,60,90", mixup=True),
        "bit_large": _bit(steps=20_000, warmup=0.025, step_at="30,60,90", mixup=True),
    }
)
"""Name -> preset. The sizes of BiT-HyperRule are up to 20,000 examples, up to 500,000, and more."""


def flags_of(name: str, modalities: Sequence[str]) -> Mapping[str, str]:
    """Returns flag -> value of a preset.

    Args:
        name: of the preset.
        modalities: of the task.

    Raises:
        UserError: there is no such preset, or none for such a task.
    """
    if name not in PRESETS:
        raise UserError(f"--preset={name}: there is no such preset; there are {', '.join(PRESETS)}.")
    found = [flags for modality, flags in PRESETS[name].flags.items() if modality in modalities]
    if not found:
        raise UserError(
            f"--preset={name} is for {' and '.join(PRESETS[name].flags)}, and --task is for {' and '.join(modalities)}; there are "
            f"{', '.join(PRESETS)}."
        )
    return found[0]


def describe(name: str, flags: Mapping[str, str]) -> tuple[str, ...]:
    """Returns what the user is told: the values that the preset brings now, and where they come from.

    Args:
        name: of the preset.
        flags: those of its flags that were not given otherwise.
    """
    values = " ".join(f"--{flag}={value}" for flag, value in flags.items())
    return (
        f"--preset={name} ({PRESETS[name].about}): {values or 'all of its flags were given otherwise'}",
        f"Its values are from {PRESETS[name].origin}.",
    )
