"""The notebooks of examples/ run from top to bottom, and show what they promise."""

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_output(notebook):
    found = nbformat.read(notebook, as_version=4)
    nbformat.validate(found)
    assert [cell for cell in found.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    found = nbformat.read(notebook, as_version=4)
    options = {"timeout": 800, "kernel_name": "python3", "resources": {"metadata": {"path": str(tmp_path)}}}
    NotebookClient(found, coalesce_streams=True, **options).execute()  # streams as Jupyter shows them
    outputs = [output for cell in found.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert said.count("epoch") == 2, "progress of the two stages is a line each"
    pages = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    for shown in ("loss over training", "accuracy over training", "confusion matrix of 3 classes", "<table>"):
        assert any(shown in page for page in pages)
    nbformat.write(found, tmp_path / notebook.name)  # to look at
