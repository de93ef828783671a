import pytest

from vlm_audio_pipeline_tests.bench import Bench


@pytest.fixture
def bench(tmp_path):
    """A study that was never run."""
    return Bench(tmp_path / "bench")


@pytest.fixture(scope="session")
def ran_once(tmp_path_factory):
    """One study that was run, to be copied."""
    bench = Bench(tmp_path_factory.mktemp("ran") / "bench")
    assert not bench.run().report.failed
    return bench


@pytest.fixture
def done(ran_once, tmp_path):
    """A study that was run, elsewhere, and copied here with its results."""
    return ran_once.copied_to(tmp_path / "bench")
