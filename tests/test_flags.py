import dataclasses

import pytest

from tfpt import config, flags
from tfpt.errors import UserError

TOY = ["--task=toys.toy_task", "--data=toys.toy_data:photos", "--backbone=toys.toy_trunk:conv"]


def experiment(*argv):
    return flags.parse([*TOY, *argv]).experiment


def refusal(*argv, **options):
    with pytest.raises(UserError) as caught:
        flags.parse(argv, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def flag_file(tmp_path, text, name="mine.flags"):
    path = tmp_path / name
    path.write_text("\n".join([*TOY, text]), encoding="utf-8")
    return f"--flagfile={path}"


def test_defaults():
    made = experiment()
    assert made.train == config.Train()
    assert (made.data.name, made.data.argument, made.data.config.size) == ("toys.toy_data", "photos", "auto")
    assert made.backbone["trunk"].config.weights == "imagenet"


def test_every_type():
    made = experiment(
        "--data.text=x y",
        "--data.words=a,b",
        "--data.rates=1,2e-3",
        "--data.size=64",
        "--data.limit=3",
        "--data.rate=1e-3",
        "--data.mode=slow",
        "--data.shuffle=false",
        "--input.split=80,10,10",
        "--train.epochs",
        "3",
    )
    assert dataclasses.asdict(made.data.config) == {
        "text": "x y",
        "words": ("a", "b"),
        "rates": (1.0, 0.002),
        "size": 64,
        "limit": 3,
        "rate": 0.001,
        "mode": "slow",
        "shuffle": False,
    }
    assert (made.input.split, made.train.epochs) == ((80, 10, 10), 3)


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--data.size=big", "--data.size=big is not a whole number or auto."),
        ("--data.limit=x", "--data.limit=x is not a whole number or none."),
        ("--data.rate=nan", "--data.rate=nan is not a number."),
        ("--data.rate=0,1", "--data.rate=0,1 is not a number."),
        ("--data.mode=fats", "--data.mode=fats is not fast or slow; did you mean fast?"),
        ("--data.shuffle=maybe", "--data.shuffle=maybe is not true or false."),
        ("--data.rates=1,x", "--data.rates=1,x is not numbers with commas between them."),
        ("--input.resize=crp", "--input.resize=crp is not one of stretch, crop, pad; did you mean crop?"),
        ("--optim.learning_rate=-1", "--optim.learning_rate=-1.0 is not positive."),
        ("--task.dropout=1", "--task.dropout=1.0 is not at least 0 and below 1."),
        ("--input.split=70,20", "--input.split=70,20 is not three percentages"),
        ("--train.accumulate=3", "--train.accumulate=3 does not divide --train.batch_size=32."),
        ("--data.text= x", "--data.text= x: a value cannot start or end with a space"),
        ("--data.text=a\rb", "a value cannot hold a line break"),
    ],
)
def test_a_value_that_is_not_allowed(tmp_path, flag, sentence):
    said = refusal(*TOY, flag)
    assert said.startswith("command line: ")
    assert sentence in said
    if flag.isprintable() and "= " not in flag:
        said = refusal(flag_file(tmp_path, flag))
        assert said.startswith(f"{tmp_path / 'mine.flags'}:4: ")
        assert sentence in said


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--train.epoch=3"], "did you mean --train.epochs?"),
        (["--epochs=3"], "write --train.epochs."),
        (["--name=x"], "write --optim.name or --output.name."),
        (["--dry-run"], "write --dry_run."),
        (["--noexport.publish"], "write --export.publish=false."),
        (["--weights=none"], "write --backbone.weights."),
        (["--backbone.wights=x"], "did you mean --backbone.weights?"),
        (["--xyzzy=3"], "`tfpt train --help` lists them"),
        (["--train.epochs"], "write --train.epochs=VALUE"),
        (["--train.epochs", "--dry_run"], "write --train.epochs=VALUE"),
        (["-train.epochs=3"], "write --train.epochs=3"),
        (["--export.publish", "false"], "write --export.publish=false"),
        (["3"], "3: tfpt train takes flags only"),
        (["--train.epochs=1", "--train.epochs=2"], "--train.epochs=2: the command line holds --train.epochs=1 already"),
    ],
)
def test_a_wrong_command_line(argv, sentence):
    assert sentence in refusal(*TOY, *argv)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("num_train_epochs", "train.epochs"),
        ("lr", "optim.learning_rate"),
        ("learning_rate", "optim.learning_rate"),
        ("batch_size", "train.batch_size"),
        ("per_device_train_batch_size", "train.batch_size"),
        ("model_name_or_path", "backbone"),
        ("epochs", "train.epochs"),
        ("data_dir", "data=folder:PATH"),
        ("output_dir", "output.run_dir"),
        ("weight_decay", "optim.weight_decay"),
        ("warmup_ratio", "optim.warmup"),
        ("seed", "train.seed"),
        ("fp16", "train.precision=float16"),
        ("bf16", "train.precision=bfloat16"),
        ("freeze", "train.unfreeze"),
        ("max_seq_length", "input.max_length"),
        ("max-seq-length", "input.max_length"),
        ("img_size", "input.image_size"),
        ("dropout", "task.dropout"),
        ("tfhub_handle", "backbone=tfhub:URL"),
    ],
)
def test_names_of_other_tools(name, flag):
    assert f"write --{flag}." in refusal(f"--{name}=1")


def test_every_advised_flag_exists():
    from tfpt.foreign_names import FOREIGN_NAMES

    known = {"task", "data", "backbone", "flagfile", "task.dropout", "task.label_smoothing", "backbone.weights"}
    known |= {"task.stride", "task.max_question_length", "task.unanswerable", "task.metric", "task.head"}
    known |= {"data.subset", "data.text", "data.label"}
    known |= {f"{group}.{field.name}" for group, cls in config.GROUPS.items() for field in dataclasses.fields(cls)}
    assert {flag.partition("=")[0] for flag in FOREIGN_NAMES.values()} <= known


def test_what_is_missing():
    assert "--task is missing: write --task=NAME" in refusal()
    assert "--backbone is missing" in refusal(*TOY[:2])
    assert "write --backbone=NAME as well" in refusal("--backbone.weights=none")
    assert "there is no such task" in refusal("--task=image_clasification")
    assert "--flagfile needs a value" in refusal("--flagfile")
    assert "two trunks have the same name" in refusal("--backbone=a=toys.toy_trunk,a=toys.toy_trunk")


def test_an_unknown_component_in_a_file_names_the_line(tmp_path):
    path = tmp_path / "x.flags"
    path.write_text("# x\n--task=nothing\n")
    assert refusal(f"--flagfile={path}").startswith(f"{path}:2: --task=nothing: there is no such task")


def test_the_command_line_beats_the_file_in_any_order(tmp_path):
    file = flag_file(tmp_path, "--train.epochs=7\n--train.seed=7\n--data.size=7")
    for argv in (
        [file, "--train.epochs=2", "--data=toys.toy_data:x"],
        ["--train.epochs=2", "--data=toys.toy_data:x", file],
    ):
        parsed = flags.parse(argv)
        made = parsed.experiment
        assert (made.train.epochs, made.train.seed, made.data.argument, made.data.config.size) == (2, 7, "x", 7)
        assert parsed.flagfile == tmp_path / "mine.flags"
        assert {"train.epochs", "train.seed", "data.size", "data"} <= parsed.given


def test_home_is_expanded_on_the_command_line(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert flags.parse([*TOY[:1], "--data=toys.toy_data:~/x", TOY[2]]).experiment.data.argument == "/home/ann/x"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict:
    """What is printed."""

    output: str = config.setting("table", "The form.", choices=("table", "csv"))


def test_a_programs_own_group_and_its_paths():
    parsed = flags.parse(
        ["--model=m", "--predict.output=csv", "a b.png", "--json", "--offline", "--", "--odd.png"],
        program="predict",
        groups={"predict": Predict},
        need_experiment=False,
        positional=True,
    )
    assert parsed.experiment is None
    assert parsed.options["predict"] == Predict(output="csv")
    assert parsed.options["input"] == config.Input()
    assert (parsed.paths, parsed.model, parsed.json, parsed.offline, parsed.debug) == (
        ("a b.png", "--odd.png"),
        "m",
        True,
        True,
        False,
    )


def test_data_without_an_experiment():
    parsed = flags.parse(["--model=m", TOY[1], "--data.size=9"], need_experiment=False)
    assert parsed.experiment is None
    assert parsed.data.config.size == 9


def test_a_file_may_hold_the_groups_of_other_programs(tmp_path, monkeypatch):
    monkeypatch.setattr(flags.programs, "descriptions", lambda: {"predict": "x", "train": "y"})
    monkeypatch.setattr(flags.programs, "groups", lambda name: {"predict": Predict})
    assert flags.parse([flag_file(tmp_path, "--predict.output=csv")]).experiment.train == config.Train()
    assert "is not table or csv" in refusal(flag_file(tmp_path, "--predict.output=xml"))
    assert "it belongs to `tfpt predict`" in refusal(*TOY, "--predict.output=csv")


def test_trunks_have_shared_and_own_settings():
    made = flags.parse(
        [
            *TOY[:2],
            "--backbone=left=toys.toy_trunk:a,right=toys.toy_trunk:b",
            "--backbone.weights=none",
            "--backbone.right.width=16",
        ]
    ).experiment
    assert [
        (name, trunk.argument, trunk.config.weights, trunk.config.width) for name, trunk in made.backbone.items()
    ] == [
        ("left", "a", "none", 8),
        ("right", "b", "none", 16),
    ]


def test_parsing_leaves_absls_own_flags_alone():
    from absl import flags as absl_flags

    before = set(absl_flags.FLAGS)
    experiment()
    assert set(absl_flags.FLAGS) == before
