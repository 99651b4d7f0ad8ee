"""Holds the architecture: imports point one way, and nothing slow is loaded before it is needed."""

import ast
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tfpt
from tfpt import programs

ROOT = Path(tfpt.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
RANKS = {
    **dict.fromkeys(("compression", "server"), 4),
    **dict.fromkeys(("training", "evaluation", "serving", "formats"), 3),
    **dict.fromkeys(("tasks", "backbones", "preprocessors", "data", "augment", "weights", "engines", "trackers"), 2),
    **dict.fromkeys(("layers", "metrics"), 1),
}
"""A room imports from rooms of its own rank and below."""
GRAMMAR = {"errors", "atomic", "registry", "config", "fields", "flagfile", "foreign_names", "unknown_flag", "record"}
GRAMMAR |= {"keywords", "programs", "flags", "help_page", "presets", "console", "startup", "cores", "untuned"}
"""The files directly under tfpt/ that every room may use; the others are programs and what programs call."""
NO_TENSORFLOW = ("data", "backbones", "tasks", "preprocessors", "augment")
HEAVY = {"tensorflow", "keras", "tensorflow_hub", "keras_hub", "sklearn", "matplotlib"}


def imports(path, *, module_level=False):
    """Yields the absolute name of every import, but for those that are only for type checkers."""
    waiting = list(ast.parse(path.read_text("utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if not (module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def room_of(module):
    """Returns the room of a dotted name, or None for what is directly under tfpt/."""
    parts = module.split(".")
    return parts[1] if parts[0] == "tfpt" and len(parts) > 1 and (ROOT / parts[1]).is_dir() else None


def top_of(module):
    """Returns the file directly under tfpt/ that a dotted name means, or None."""
    parts = module.split(".")
    return parts[1] if parts[0] == "tfpt" and len(parts) > 1 and (ROOT / f"{parts[1]}.py").is_file() else None


def test_the_reader_sees_imports(tmp_path):
    path = tmp_path / "x.py"
    path.write_text(
        "import a.b\nif TYPE_CHECKING:\n    import hidden\ntry:\n    from c import d\nexcept E:\n    pass\n"
        "def f():\n    import inner\nclass C:\n    import e\n"
    )
    assert set(imports(path)) == {"a.b", "c.d", "e", "inner"}
    assert set(imports(path, module_level=True)) == {"a.b", "c.d", "e"}
    assert {"tfpt.app", "tfpt.tasks", "tfpt.backbones.efficientnet_lite"} <= set(MODULES)


def test_every_room_has_a_rank():
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} == set(RANKS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    room, own = room_of(module), top_of(module)
    for name in imports(MODULES[module]):
        other, top = room_of(name), top_of(name)
        if room:
            assert top is None or top in GRAMMAR, f"{module} imports {name}: rooms know no programs"
            assert other is None or RANKS[other] <= RANKS[room], f"{module} imports {name}: against the way"
            assert (room, other) != ("tasks", "backbones"), f"{module} imports {name}: they meet in training"
        elif own in GRAMMAR or own == "app":
            assert other is None, f"{module} imports {name}: what every room uses knows no room"
            assert top is None or top in GRAMMAR, f"{module} imports {name}: against the way"


@pytest.mark.parametrize("module", MODULES)
def test_what_is_imported_at_module_level(module):
    names = list(imports(MODULES[module], module_level=True))
    roots = {name.partition(".")[0] for name in names}
    if room_of(module) is None or room_of(module) in NO_TENSORFLOW:
        assert not roots & HEAVY
    if top_of(module) in {"app", "__main__", *GRAMMAR, *programs.descriptions()}:
        assert "numpy" not in roots
    everywhere = list(imports(MODULES[module]))
    if module not in ("tfpt.app", "tfpt.flags"):
        assert not [name for name in everywhere if name.startswith(("absl.flags", "absl.app"))]


def test_files_are_named_after_ideas():
    names = {path.stem for path in [*ROOT.rglob("*"), *Path(__file__).parent.rglob("*.py")]}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def seconds(*arguments):
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        (["--help"], 0.5),
        (["--help", "--task=image_classification", "--data=digits", "--backbone=efficientnet_lite:lite0"], 0.5),
        (["--train.epoch=3"], 1.0),
        (["--task=image_classification", "--data=digits", "--backbone=efficientnet_lite", "--train.epochs=-3"], 1.0),
    ],
)
def test_help_and_flag_errors_are_fast(arguments, limit):
    bare = statistics.median(seconds("-c", "pass") for _ in range(3))
    ours = statistics.median(seconds("-m", "tfpt.train", *arguments) for _ in range(3))
    assert ours < bare + limit


@pytest.mark.parametrize("last", ["--help", "--train.epochs=-3"])
def test_help_and_flag_errors_load_no_tensorflow(last):
    arguments = ["--task=image_classification", "--data=digits", "--backbone=efficientnet_lite:lite0", last]
    code = (
        "import sys, tfpt.train\n"
        f"try:\n    tfpt.train.main({arguments})\n"
        "except SystemExit as exit:\n"
        "    print('LOADED', exit.code, *{'tensorflow', 'keras', 'numpy', 'rich'} & set(sys.modules))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1].split() == ["LOADED", "0" if last == "--help" else "2"]


@pytest.mark.parametrize("program", programs.descriptions())
def test_a_programs_groups_can_be_found_by_the_other_programs(program):
    """One flag file serves every program, so each reads the groups of the others from their constant `GROUPS`."""
    calls = [
        ast.unparse(keyword.value)
        for node in ast.walk(ast.parse((ROOT / f"{program}.py").read_text("utf-8")))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "groups"
    ]
    assert set(calls) <= {"GROUPS"}, f'tfpt/{program}.py: write GROUPS = {{"{program}": ...}} and groups=GROUPS'


def test_the_core_and_every_component_import_with_the_extras_hidden():
    script = """
import sys
hidden = {"keras_hub", "tensorflow_text", "tensorflow_hub", "tf_keras", "pyarrow", "tokenizers", "sentencepiece", "huggingface_hub", "openvino"}
hidden |= {"ai_edge_litert", "ai_edge_quantizer", "tf2onnx", "onnx", "onnxruntime"}
hidden |= {"datasets", "tensorflow_datasets", "pandas", "mlflow", "wandb", "seqeval", "starlette", "uvicorn", "prometheus_client"}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hide())
from tfpt import registry
for kind in registry.ROOMS:
    for name in registry.names(kind):
        registry.find(kind, name)
import tfpt.run, tfpt.publish, tfpt.compress, tfpt.serving.bundle, tfpt.evaluation.on_data, tfpt.training.fit
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr[-2000:]
