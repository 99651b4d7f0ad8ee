"""Sections of benchmarks/RESULTS.md: what a benchmark writes in place of what."""

import importlib.util
from pathlib import Path

FILE = Path(__file__).parents[1] / "benchmarks/section.py"


def test_a_section_replaces_that_of_its_title_and_processor(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("section", FILE)
    section = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(section)
    results = tmp_path / "RESULTS.md"
    for title, processor, line in [
        ("Speed", "One", "10"),
        ("Memory", "One", "20"),
        ("Speed", "Two", "30"),
        ("Speed", "One", "40"),
        ("Speed", "Two", "50"),
    ]:
        monkeypatch.setattr(section, "processor", lambda processor=processor: processor)
        section.write_section(title, [line], file=results)
    parts = results.read_text(encoding="utf-8").split("## ")
    assert [part.splitlines()[0] for part in parts] == ["# Results", "Speed", "Speed", "Memory"]
    assert [part.split()[-1] for part in parts[1:]] == ["40", "50", "20"]
