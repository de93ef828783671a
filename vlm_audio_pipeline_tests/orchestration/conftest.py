import pytest

from vlm_audio_pipeline_tests.orchestration.bench import Bench


@pytest.fixture
def bench(tmp_path):
    """A study that was never run."""
    return Bench(tmp_path)


@pytest.fixture
def done(bench):
    """A study that was run."""
    ran = bench.run()
    assert not ran.report.failed
    return bench
