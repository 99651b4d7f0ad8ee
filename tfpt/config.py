"""What one experiment is: frozen dataclasses, one a flag group. No TensorFlow here.

A field is written with `setting(default, help)`; `flags.py` turns it into the flag `--group.field`. `__post_init__`
checks values and raises `ValueError("field: sentence")`, which becomes a flag error.
"""

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from tfpt import registry
from tfpt.errors import UserError

Auto = Literal["auto"]
All = Literal["all"]


def setting(
    default: Any, help: str, *, choices: tuple[str, ...] = (), hidden: bool = False, in_group: bool = False
) -> Any:
    """Returns a dataclass field that becomes a flag.

    Args:
        default: the value when the flag is not given.
        help: one or two sentences for `--help`.
        choices: the words that are allowed, where it is a fixed list.
        hidden: left out of `--help`.
        in_group: `tfpt.fit` takes it with its group only (`export={"warmup": "none"}`), as the bare name is another's.
    """
    metadata = {"help": help, "choices": choices, "hidden": hidden, "in_group": in_group}
    return dataclasses.field(default=default, metadata=metadata)


def check(condition: bool, sentence: str) -> None:
    """Raises `ValueError(sentence)` unless the condition holds; for `__post_init__`."""
    if not condition:
        raise ValueError(sentence)


def intensity_window(text: str) -> tuple[str, float, float]:
    """Returns the word of `--input.intensity` and its two numbers: of `auto`, percentiles; of `full`, 0 and 65535.

    Raises:
        ValueError: it is not written as the flag is.
    """
    word, _, argument = text.partition(":")
    fixed = {"auto": (0.1, 99.9), "full": (0.0, 65535.0)}
    if word in fixed and not argument:
        return word, *fixed[word]
    most = {"percentile": 100, "range": 65535}.get(word, 0)
    numbers = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*", argument)
    low, high = map(float, numbers.groups()) if numbers else (0.0, 0.0)
    check(
        low < high <= most,
        f"intensity: {text} is not auto, full, percentile:LOW,HIGH (from 0 to 100) or range:LOW,HIGH (from 0 to 65535), LOW below HIGH",
    )
    return word, low, high


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """How examples are split, prepared and augmented."""

    image_size: int | Auto = setting(
        "auto", "Side of the square, in pixels, that pictures are resized to; auto: the backbone's own size."
    )
    max_length: int | Auto = setting("auto", "Longest text in tokens; auto: the backbone's own length.")
    resize: str = setting(
        "stretch",
        "stretch: the whole picture, aspect ratio lost; crop: its largest centred square; pad: the whole picture with black bars.",
        choices=("stretch", "crop", "pad"),
    )
    intensity: str = setting(
        "auto",
        "Which samples of 16-bit pictures become black and white: full (0 and 65535), range:LOW,HIGH, percentile:1,99 (of the training "
        "pictures), or auto (full where they use over half of that, else percentile:0.1,99.9). Pictures of 8 bits stay as they are.",
    )
    split: tuple[int, ...] = setting(
        (70, 15, 15), "Percent of examples for train, validation and test, where the data has no split of its own."
    )
    split_seed: int = setting(0, "Another number gives another split.")
    splits: str = setting("", "A splits.csv of an earlier run: use its split again.")
    group: str = setting(
        "",
        r"Regular expression on the example's name; examples with equal matches (of group 1, if there is one) stay in one split: ^(patient\d+)_.",
    )
    folds: int = setting(
        0, "Cross-validation: divide the examples into this many folds, each of which is the test split once; 0: off."
    )
    fold: int | All = setting(
        "all",
        "Which fold is the test split, from 0; all: train once with each, and put their test predictions together.",
    )
    limit: int = setting(
        0,
        "For a first try: keep so many examples in all, of each split and class its share, the same ones each time; 0: all.",
    )
    examples_per_class: int = setting(
        0,
        "Keep this many training examples of each class, where examples have one class, else so many in all; 0: all. Validation and test stay "
        "whole.",
    )
    examples_seed: int = setting(0, "Another number keeps other examples.")
    sampling: str = setting(
        "natural",
        "How often a class is drawn in an epoch: natural (each example once), balanced (all classes alike) or sqrt (by the root of their "
        "sizes); an epoch stays as long.",
        choices=("natural", "balanced", "sqrt"),
    )
    augment: str = setting(
        "auto", "Random changes of training examples: random_crop(pad=8)|flip. auto: the task's own; none: nothing."
    )
    views: int = setting(1, "Augmented views of each example, for self-supervised tasks.")
    max_bad_fraction: float = setting(
        0.001, "Share of examples that may fail to decode before the run stops; they are left out and listed."
    )
    length_buckets: str = setting(
        "auto",
        "Texts of like lengths share a batch, in random order, which saves padding: auto (where examples are kept) or off.",
        choices=("auto", "off"),
    )
    pad_to: str = setting(
        "auto",
        "Texts are padded to the longest of their batch (batch) or of all the data (data: every batch has one shape, which XLA compiles "
        "once). auto: data on a TPU, else batch.",
        choices=("auto", "batch", "data"),
    )
    tokens_per_batch: int = setting(
        0,
        "An update takes as many texts as fit into so many tokens, padding counted, instead of --train.batch_size; 0: off.",
    )
    cache: str = setting(
        "auto",
        "Keep prepared examples in memory: auto (when they take under a quarter of it), memory or off.",
        choices=("auto", "memory", "off"),
    )
    feature_cache: str = setting(
        "auto",
        "Compute what is frozen once and keep it, for later runs too: auto (when that is faster, in memory or on disk), on or off.",
        choices=("auto", "on", "off"),
    )
    cached_views: int = setting(
        0,
        "Augmented views of each example whose frozen part is kept, one an epoch in turn; 0: examples are augmented and computed anew in each epoch.",
    )

    def __post_init__(self) -> None:
        check(
            self.image_size == "auto" or 8 <= int(self.image_size) <= 4096,
            f"image_size: {self.image_size} is not between 8 and 4096 pixels",
        )
        check(
            self.max_length == "auto" or int(self.max_length) >= 1, f"max_length: {self.max_length} is not at least 1"
        )
        check(
            len(self.split) == 3 and sum(self.split) == 100 and min(self.split) >= 0 and self.split[0] > 0,
            f"split: {','.join(map(str, self.split))} is not three percentages that add up to 100, such as 70,15,15",
        )
        intensity_window(self.intensity)
        check(self.folds == 0 or self.folds >= 2, f"folds: {self.folds} is not at least 2, or 0")
        check(not self.folds or not self.splits, "folds: --input.splits gives another split; leave one of the two out")
        check(
            self.fold == "all" or 0 <= int(self.fold) < self.folds,
            f"fold: {self.fold} is none of the folds, "
            + (f"0 to {self.folds - 1}" if self.folds else "since there is no --input.folds"),
        )
        check(self.limit >= 0, f"limit: {self.limit} is negative")
        check(self.examples_per_class >= 0, f"examples_per_class: {self.examples_per_class} is negative")
        for name in ("split_seed", "examples_seed"):
            check(abs(getattr(self, name)) < 2**63, f"{name}: {getattr(self, name)} does not fit into 64 bits")
        check(self.tokens_per_batch >= 0, f"tokens_per_batch: {self.tokens_per_batch} is negative")
        check(
            not self.tokens_per_batch or self.length_buckets == "auto",
            "tokens_per_batch: a token budget puts texts of like lengths together; leave --input.length_buckets=auto",
        )
        check(
            not self.tokens_per_batch or self.pad_to != "data",
            "tokens_per_batch: a token budget makes batches of different shapes, and --input.pad_to=data makes one; leave one of the two out",
        )
        check(
            self.sampling == "natural" or not self.tokens_per_batch,
            f"sampling: {self.sampling} needs batches of --train.batch_size examples; leave --input.tokens_per_batch out",
        )
        check(self.views >= 1, f"views: {self.views} is not at least 1")
        check(self.cached_views >= 0, f"cached_views: {self.cached_views} is negative")
        check(0 <= self.max_bad_fraction <= 1, f"max_bad_fraction: {self.max_bad_fraction} is not between 0 and 1")
        try:
            re.compile(self.group)
        except re.error as error:
            raise ValueError(f"group: {self.group} is not a regular expression: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """How long and how carefully it trains."""

    batch_size: int = setting(32, "Examples in one update, over all devices together.")
    accumulate: int = setting(
        1,
        "Split each batch into this many parts and add their gradients up: less memory, the same update but for batch normalisation and dropout, which see the parts.",
    )
    seed: int = setting(0, "Start of all randomness but the split's.")
    seeds: tuple[int, ...] = setting(
        (),
        "Train once with each of these seeds, such as 0,1,2, tell mean and range, and export the one that is best on validation; "
        "empty: --train.seed alone.",
    )
    head_epochs: int = setting(
        5, "Epochs that train the new head alone, the backbone frozen and computed once; 0: none."
    )
    head_solver: str = setting(
        "gradient",
        "How a head that is one linear layer on a frozen backbone is trained. gradient: as everything else; exact: by logistic regression (L-BFGS) "
        "whose strength of regularisation is cross-validated.",
        choices=("gradient", "exact"),
    )
    epochs: int = setting(5, "Epochs after the head, with --train.unfreeze trained as well; 0: the head only.")
    steps: int = setting(0, "Stop after this many updates in all, whatever the epochs say; 0: no bound.")
    evaluate_every: int = setting(0, "Evaluate on validation every so many updates; 0: after each epoch.")
    patience: int = setting(
        0, "Stop a stage after this many evaluations in a row without a better primary metric on validation; 0: never."
    )
    unfreeze: str = setting(
        "all",
        "What trains after the head: none, all, last:N (the N deepest groups), regex:RE (on variable paths), or gradual:N (N groups "
        "more in each epoch, the deepest first; gradual alone: so many that the last epoch trains all).",
    )
    lora_rank: int = setting(
        0,
        "After the head, train adapters of this rank beside frozen kernels instead of what --train.unfreeze says, such as 8; they are "
        "merged into the kernels at the end. 0: off.",
    )
    lora_layers: str = setting(
        r"(^|/)(query|value|qkv|[qv]_proj)(_\w+)?$",
        "Regular expression on layer paths: which layers get an adapter. Default: the query and value projections of attention.",
    )
    init_from: str = setting(
        "", "Start from another run's weights: its run folder or its exported model; what fits is taken over."
    )
    batch_norm: str = setting(
        "auto",
        "Batch normalisation of what is unfrozen: frozen (statistics and scales as they came), train, or auto (train when the batch has "
        "at least 16 examples).",
        choices=("auto", "frozen", "train"),
    )
    ema: float = setting(
        0.0, "Decay of an average of the weights that is evaluated and exported instead of them, such as 0.999; 0: off."
    )
    precision: str = setting(
        "auto",
        "Arithmetic of the backbone in training; results are always from the float32 model. auto: bfloat16 where the hardware has it.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    checkpoint_minutes: float = setting(5.0, "Save the state of training every so many minutes, and after each epoch.")
    checkpoint_steps: int = setting(0, "Save it every so many updates, too; 0: by time and epoch only.")
    keep_checkpoints: int = setting(2, "How many states to keep.")
    recoveries: int = setting(
        3,
        "When the loss blows up (is no number, or beyond --train.spike), go back to the last state, pass over the batches between and halve the "
        "learning rate, this often at most.",
    )
    spike: float = setting(
        0.0,
        "The loss of an update that is more than so many times the median of the 20 before it counts as blown up, such as 20; 0: only what is no "
        "number.",
    )

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**63, f"seed: {self.seed} is not between 0 and {2**63 - 1}")
        check(
            all(0 <= seed < 2**63 for seed in self.seeds) and len(set(self.seeds)) == len(self.seeds),
            f"seeds: {','.join(map(str, self.seeds))} are not different numbers from 0, such as 0,1,2",
        )
        check(self.batch_size >= 1, f"batch_size: {self.batch_size} is not at least 1")
        check(self.accumulate >= 1, f"accumulate: {self.accumulate} is not at least 1")
        check(
            self.batch_size % self.accumulate == 0,
            f"accumulate: {self.accumulate} does not divide --train.batch_size={self.batch_size}",
        )
        check(self.spike == 0 or self.spike > 1, f"spike: {self.spike} is not above 1, or 0")
        for name in ("head_epochs", "epochs", "steps", "evaluate_every", "patience", "checkpoint_steps", "recoveries"):
            check(getattr(self, name) >= 0, f"{name}: {getattr(self, name)} is negative")
        check(
            self.head_epochs + self.epochs > 0,
            "epochs: with --train.head_epochs=0 there is nothing to train; give one of them",
        )
        check(0 <= self.ema < 1, f"ema: {self.ema} is not at least 0 and below 1")
        check(self.keep_checkpoints >= 1, f"keep_checkpoints: {self.keep_checkpoints} is not at least 1")
        check(self.checkpoint_minutes > 0, f"checkpoint_minutes: {self.checkpoint_minutes} is not positive")
        kind, _, argument = self.unfreeze.partition(":")
        known = (
            self.unfreeze in ("none", "all")
            or (kind == "last" and argument.isdigit() and int(argument) > 0)
            or (kind == "regex" and argument)
            or self.unfreeze == "gradual"
            or (kind == "gradual" and argument.isdigit() and int(argument) > 0)
        )
        check(bool(known), f"unfreeze: {self.unfreeze} is not none, all, last:N, regex:RE, gradual or gradual:N")
        check(self.lora_rank >= 0, f"lora_rank: {self.lora_rank} is negative")
        check(
            not self.lora_rank or self.unfreeze == "all",
            f"lora_rank: adapters train in place of --train.unfreeze={self.unfreeze}; leave one of the two out",
        )
        for name, pattern in (("unfreeze", argument if kind == "regex" else ""), ("lora_layers", self.lora_layers)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: {pattern} is not a regular expression: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimizer and its learning rate."""

    name: str = setting(
        "adamw",
        "The update rule. lion wants a tenth of adamw's learning rate and ten times its weight decay.",
        choices=("adamw", "sgd", "lion", "adafactor", "rmsprop"),
    )
    learning_rate: float = setting(1e-3, "Highest learning rate after the head.")
    head_learning_rate: float = setting(3e-3, "Highest learning rate while only the head trains.")
    weight_decay: float = setting(0.01, "Decoupled weight decay; never on biases and normalisation layers.")
    schedule: str = setting(
        "cosine",
        "The learning rate over a stage, after the warm-up.",
        choices=("cosine", "linear", "constant", "step"),
    )
    step_at: tuple[int, ...] = setting(
        (30, 60, 90), "Where the schedule step lowers the learning rate: percent of the stage."
    )
    step_factor: float = setting(0.1, "What the schedule step multiplies the learning rate with.")
    warmup: float = setting(0.1, "Share of a stage in which the learning rate rises from 0.")
    layer_decay: float = setting(
        1.0, "Factor on the learning rate from each group of layers to the next shallower one, such as 0.8; 1: none."
    )
    head_multiplier: float = setting(
        1.0, "Factor on the head's learning rate when the backbone trains as well; 0 leaves the head as it is."
    )
    momentum: float = setting(0.9, "Momentum of sgd and rmsprop.")
    clip_norm: float = setting(1.0, "Scale gradients down to this global norm; 0: never.")
    lazy_embeddings: bool = setting(
        False,
        "Move and decay only the rows of an embedding table that a batch uses: LazyAdam, another algorithm than adamw, and faster "
        "for large tables.",
    )

    def __post_init__(self) -> None:
        for name in ("learning_rate", "head_learning_rate"):
            check(getattr(self, name) > 0, f"{name}: {getattr(self, name)} is not positive")
        for name in ("weight_decay", "head_multiplier", "clip_norm"):
            check(getattr(self, name) >= 0, f"{name}: {getattr(self, name)} is negative")
        check(0 <= self.warmup < 1, f"warmup: {self.warmup} is not at least 0 and below 1")
        check(0 <= self.layer_decay <= 1, f"layer_decay: {self.layer_decay} is not between 0 and 1")
        check(0 <= self.momentum < 1, f"momentum: {self.momentum} is not at least 0 and below 1")
        check(
            not self.lazy_embeddings or self.name == "adamw",
            f"lazy_embeddings: it goes with name=adamw, not with {self.name}",
        )
        check(0 < self.step_factor <= 1, f"step_factor: {self.step_factor} is not above 0 and at most 1")
        check(
            all(0 < a < 100 for a in self.step_at) and list(self.step_at) == sorted(set(self.step_at)),
            f"step_at: {','.join(map(str, self.step_at))} are not growing percentages, such as 30,60,90",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where it runs."""

    strategy: str = setting(
        "auto",
        "How many devices share each batch. one: a single one; mirrored: all GPUs of this machine; multi_worker: several machines; tpu; auto: what "
        "there is.",
        choices=("auto", "one", "mirrored", "multi_worker", "tpu"),
    )
    workers: tuple[str, ...] = setting(
        (),
        "Addresses of all processes of multi_worker, HOST:PORT with commas, the same on each; default: TF_CONFIG or Slurm's.",
    )
    worker: int = setting(-1, "The place of this process among --runtime.workers, from 0.")
    replicas: int = setting(
        0, "How many GPUs of this machine mirrored takes, or logical CPUs where it has none; 0: all GPUs."
    )
    tpu: str = setting("", "Name or address of the TPU; local: the one of this machine.")
    threads: int = setting(0, "CPU threads; 0: one a core.")
    engine: str = setting(
        "auto",
        "What computes the frozen part of a backbone, and validation between epochs: tensorflow, openvino (extra cpu-fast), or auto (the fastest "
        "that is installed, by measurement).",
    )
    engine_precision: str = setting(
        "auto",
        "Arithmetic of the engine. auto: bfloat16 for the kept features that are trained on, where the CPU has it and they change by less than a "
        "tenth of what they differ by; float32 for all that is measured and served.",
        choices=("auto", "float32", "bfloat16"),
    )

    def __post_init__(self) -> None:
        check(self.threads >= 0, f"threads: {self.threads} is negative")
        known = ["auto", *registry.names("engine")]
        check("." in self.engine or self.engine in known, f"engine: {self.engine} is none of {', '.join(known)}")
        check(self.replicas >= 0, f"replicas: {self.replicas} is negative")
        check(
            self.strategy in ("auto", "multi_worker") or not self.workers,
            f"workers: they need --runtime.strategy=multi_worker, not {self.strategy}",
        )
        for address in self.workers:
            check(bool(re.fullmatch(r"[^:\s]+:\d+|\[[^\]\s]+\]:\d+", address)), f"workers: {address} is not HOST:PORT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Where results go."""

    name: str = setting("", "Name of the experiment; default: the flagfile's, or one made of task, data and backbone.")
    run_dir: str = setting("", "Folder for the run; default: runs/NAME.")
    model_dir: str = setting("", "Folder for exported models; default: saved_models/NAME.")
    if_exists: str = setting(
        "resume",
        "When the run folder exists. resume: go on if it is the same experiment; resume_changed: also with other learning rates, "
        "augmentation, patience and the like, which is said; new: take NAME-2, NAME-3, ...; fail: stop.",
        choices=("resume", "resume_changed", "new", "fail"),
    )
    report_examples: int | None = setting(
        24, "Most wrong examples shown in the report, as pictures or texts inside the file; 0 or none: none."
    )

    trackers: tuple[str, ...] = setting(
        ("tensorboard",),
        "Where the run can be followed, several with commas: tensorboard (files in the run folder), mlflow:URI, wandb:PROJECT; empty: nowhere.",
    )

    def __post_init__(self) -> None:
        check(
            not re.search(r"[/\\\n\r\0]", self.name) and self.name not in (".", ".."),
            f"name: {self.name!r} cannot be a folder name; use letters, digits, - and _",
        )
        check((self.report_examples or 0) >= 0, f"report_examples: {self.report_examples} is negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What is published as a served model."""

    require: str = setting(
        "", 'Publish only if this holds on the test split, else exit with code 3: "accuracy>=0.9"; several with commas.'
    )
    version: str = setting("next", "Version folder: next, a number, or time (the seconds since 1970).")
    publish: bool = setting(True, "Export a served model after training and prove it equal.")
    input_name: tuple[str, ...] = setting(
        (),
        "What clients that exist already call the model's raw input: NAME, or text=NAME,text_pair=NAME where it takes two.",
    )
    warmup: str = setting(
        "synthetic",
        "Requests in the bundle that TensorFlow Serving runs when it loads it: synthetic, examples (eight of the training data: whoever gets the "
        "model can read them) or none.",
        choices=("synthetic", "examples", "none"),
        in_group=True,
    )
    formats: tuple[str, ...] = setting(
        ("saved_model",),
        "File formats of the model, several with commas: saved_model (always), litert (extra edge), onnx (extra onnx), keras; files are in the "
        "bundle's assets.extra/formats.",
    )

    def __post_init__(self) -> None:
        check(
            self.version in ("next", "time") or (self.version.isdigit() and int(self.version) > 0),
            f"version: {self.version} is not next, time or a number from 1",
        )
        for name in self.input_name:
            check(
                bool(re.fullmatch(r"([A-Za-z]\w*=)?[A-Za-z]\w*", name, re.ASCII)),
                f"input_name: {name} is not NAME or FEATURE=NAME, of letters, digits and _",
            )
        known = registry.names("format")
        for name in self.formats:
            check("." in name or name in known, f"formats: {name} is none of {', '.join(known)}")


GROUPS: Mapping[str, type] = MappingProxyType(
    {"input": Input, "train": Train, "optim": Optim, "runtime": Runtime, "output": Output, "export": Export}
)
"""Flag group -> dataclass, for the groups that every program knows."""

KINDS = ("task", "data", "backbone")
"""What an experiment is made of; each is a flag and the flag group of the component that it names."""

DEFAULT_TRUNK = "trunk"
"""The name of a trunk where there is only one."""


OBJECT = "object"
"""The name of a component that was given as an object, in Python."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """A component that was chosen: by name, or the object itself.

    Attributes:
        kind: `task`, `data` or `backbone`.
        name: its name, dotted when it is outside tfpt; `object` when an object was given in Python.
        argument: what stood behind the colon; the object's class when an object was given.
        config: the component's frozen `Config`, or None for its defaults.
        instance: the object, when one was given in Python.
    """

    kind: str
    name: str
    argument: str = ""
    config: Any = None
    instance: Any = None

    @classmethod
    def parse(cls, kind: str, text: str) -> "Component":
        """Makes a component from `name:argument`; its config stays unset.

        Raises:
            UserError: no such component.
        """
        name, argument = registry.split_reference(text)
        if name != OBJECT:
            registry.find(kind, name)
        return cls(kind=kind, name=name, argument=argument)

    @classmethod
    def given(cls, kind: str, instance: Any) -> "Component":
        """Makes a component of an object that was given in Python."""
        return cls(kind=kind, name=OBJECT, argument=type(instance).__name__, instance=instance)

    def config_class(self) -> type | None:
        """Returns the dataclass that holds the component's settings; None for an object, which has its own."""
        return None if self.name == OBJECT else getattr(registry.find(self.kind, self.name), "Config", None)

    def make(self) -> Any:
        """Returns the component object.

        Raises:
            UserError: the argument or the configuration is not allowed.
        """
        if self.instance is not None:
            return self.instance
        if self.name == OBJECT:
            made_of = re.sub(r"^(\w+)@[0-9a-f]{8}$", r"\1", self.argument)
            raise UserError(
                f"--{self.kind}={self}: this experiment was made in Python with an object of the class {made_of}; "
                "run it from Python again, or name a component."
            )
        return registry.find(self.kind, self.name)(self.argument, self.config)

    def __str__(self) -> str:
        return f"{self.name}:{self.argument}" if self.argument else self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: what is learned, from what, on top of what, and how.

    `backbone` is a mapping by trunk name; a task with one trunk has the single name `trunk`.
    """

    task: Component
    data: Component
    backbone: Mapping[str, Component]
    input: Input = Input()
    train: Train = Train()
    optim: Optim = Optim()
    runtime: Runtime = Runtime()
    output: Output = Output()
    export: Export = Export()

    def __post_init__(self) -> None:
        if not self.backbone:
            raise UserError("--backbone is missing: write --backbone=NAME:ARGUMENT; `tfpt list backbones` shows them.")


_NAMED_TRUNK = re.compile(r"(?:^|,)([a-z_]\w*)=")


def split_trunks(text: str) -> dict[str, str]:
    """Splits `--backbone` into trunks by name.

    `tiny:conv` is one trunk, called `trunk`; `left=tiny:conv,right=tiny:conv` are two.
    """
    if not re.match(r"[a-z_]\w*=", text):
        return {DEFAULT_TRUNK: text}
    parts = _NAMED_TRUNK.split(text)[1:]
    if len(set(parts[::2])) < len(parts[::2]):
        raise UserError(f"--backbone={text}: two trunks have the same name.")
    return {name: reference.strip() for name, reference in zip(parts[::2], parts[1::2], strict=True)}
