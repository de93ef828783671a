"""Studies for tests of commands."""

import pytest

from vlm_audio_pipeline_tests.cli.program import annotated_bench, vlm_audio


@pytest.fixture
def bench(tmp_path):
    """A study that was never run."""
    return annotated_bench(tmp_path / "bench")


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    bench = annotated_bench(tmp_path_factory.mktemp("ran") / "bench")
    result = vlm_audio("run", bench.folder / "bench.yaml", data=bench.data_folder.root)
    assert result.code == 0, result.err
    return bench, result


@pytest.fixture(scope="session")
def results(first_run, tmp_path_factory):
    """A study that was run. Tests share it, so they only read it."""
    return first_run[0].copy_to(tmp_path_factory.mktemp("results") / "bench")


@pytest.fixture
def done(first_run, tmp_path):
    """A study that was run, in a folder of its own."""
    return first_run[0].copy_to(tmp_path / "bench")


@pytest.fixture(autouse=True)
def no_width(monkeypatch):
    """Output has no width, whatever the terminal of the tests is."""
    monkeypatch.delenv("COLUMNS", raising=False)
