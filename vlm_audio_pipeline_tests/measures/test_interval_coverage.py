"""The script `benchmarks/interval_coverage.py`, and the tables of docs/statistics.md that it prints."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "benchmarks" / "interval_coverage.py"
    spec = importlib.util.spec_from_file_location("interval_coverage", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_layouts_have_the_clips_and_source_recordings_of_esc10(script):
    sizes = {name: script.size(name).split(" (")[0] for name in script.LAYOUTS}
    assert sizes == {"ESC-10": "400 / 304", "fold 1": "80 / 61", "fold 2": "80 / 62", "half of fold 1": "40 / 37"}


def test_outcomes_of_a_source_have_the_stated_correlation(script):
    sources = np.repeat(np.arange(100), 2)
    outcomes = script.clustered_uniforms(np.random.default_rng(2), sources, 200, 0.8) < 0.3
    pairs = outcomes.reshape(-1, 2)
    assert outcomes.mean() == pytest.approx(0.3, abs=0.01)
    assert np.corrcoef(pairs[:, 0], pairs[:, 1])[0, 1] == pytest.approx(0.8, abs=0.02)


def test_few_shot_accuracies_vary_between_draws_as_those_of_one_shot_knn_on_esc10(script):
    correct, expected = script.few_shot_worlds("ESC-10", 0.5, 40, 25)
    assert correct.mean(axis=2).std(axis=1, ddof=1).mean() == pytest.approx(0.045, abs=0.003)
    assert correct.mean() == pytest.approx(0.5, abs=0.02) and expected.mean() == pytest.approx(0.5, abs=0.01)


def test_the_smallest_size_prints_all_tables(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["interval_coverage.py", "--smallest"])
    monkeypatch.setattr(script, "SMALLEST_WORLDS", 2)
    script.main()
    printed = capsys.readouterr().out
    assert printed.count("coverage of the 95 % interval, 2 worlds, seed 1") == 3
    assert len(re.findall(r"^\| \d+ / \d+ \(", printed, re.MULTILINE)) == 4 * 2 + 2 * 2 * 2 + 2 * 2 * 4
    assert " of 56 settings have a coverage of 0.93 to 0.97" in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accuracy", "difference", "few-shot"])
def test_the_tables_of_the_documentation_are_those_of_the_script(script, name):
    page = (ROOT / "docs" / "statistics.md").read_text()
    lines = [line for line in script.TABLES[name](script.WORLDS) if line]
    assert [line for line in lines if line not in page.splitlines()] == []
    if name == "accuracy":
        within = int(re.match(r"\*{0,2}(\d+) of 56", lines[-1])[1])
        assert within >= 52
    if name == "few-shot":
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
        for *_, scope, these, others in rows:
            claimed = others if scope == "clips and draws of examples" else these
            assert 0.93 <= float(claimed) <= 0.97, rows
