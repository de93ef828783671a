import pytest

from vlm_audio_pipeline_tests.bench import Bench


@pytest.fixture
def bench(tmp_path):
    """A study that was never run."""
    return Bench(tmp_path / "bench")


@pytest.fixture(scope="session")
def template_bench(tmp_path_factory):
    """A study that was run once; tests copy it."""
    bench = Bench(tmp_path_factory.mktemp("ran") / "bench")
    assert not bench.run().report.failed
    return bench


@pytest.fixture
def done(template_bench, tmp_path):
    """A copy of a study that was run, with its results."""
    return template_bench.copy_to(tmp_path / "bench")
