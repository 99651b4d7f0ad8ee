import pytest

from tfpt import registry
from tfpt.errors import UserError


def test_every_component_of_tfpt_is_found():
    for kind in registry.ROOMS:
        for name in registry.names(kind):
            if kind != "preprocessor":
                assert registry.find(kind, name).__name__ == registry.camel_case(name)
    assert "image_classification" in registry.names("task")


def test_camel_case():
    assert registry.camel_case("efficientnet_lite") == "EfficientnetLite"


def test_a_reference():
    assert registry.split_reference(" tfhub : https://x/y:1 ") == ("tfhub", "https://x/y:1")
    assert registry.split_reference("digits") == ("digits", "")


def test_a_component_outside_tfpt():
    assert registry.find("task", "toys.toy_task").__name__ == "ToyTask"


def test_a_component_in_the_working_folder(tmp_path, monkeypatch):
    import sys

    (tmp_path / "my_own_parts").mkdir()
    (tmp_path / "my_own_parts" / "my_data.py").write_text("class MyData:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert registry.find("data", "my_own_parts.my_data").__name__ == "MyData"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("image_clasification", "Did you mean image_classification?"),
        ("nothing", "there is no such task; there are image_classification"),
        ("", "write NAME or NAME:ARGUMENT"),
        ("../x", "write NAME or NAME:ARGUMENT"),
        ("_hidden", "there is no such task"),
        ("nowhere.task", "there is no module nowhere"),
        ("toys.nothing", "there is no module toys.nothing"),
        ("tests_without.class", "there is no module"),
        ("json.decoder", "the module has no class Decoder"),
    ],
)
def test_what_is_refused(name, sentence):
    with pytest.raises(UserError) as caught:
        registry.find("task", name)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(f"--task={name}: ")


def test_an_import_error_inside_a_component_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "my_parts").mkdir()
    (tmp_path / "my_parts" / "broken.py").write_text("import a_module_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_missing"):
        registry.find("task", "my_parts.broken")
