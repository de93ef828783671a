"""A study that commands are called on."""

import pytest

from vlm_audio_pipeline_tests.cli.program import annotated_bench, vlm_audio


@pytest.fixture
def bench(tmp_path):
    """A study that was never run."""
    return annotated_bench(tmp_path / "bench")


@pytest.fixture(scope="session")
def ran_once(tmp_path_factory):
    bench = annotated_bench(tmp_path_factory.mktemp("ran") / "bench")
    result = vlm_audio("run", bench.folder / "bench.yaml", data=bench.data_folder.root)
    assert result.code == 0, result.err
    return bench, result


@pytest.fixture
def done(ran_once, tmp_path):
    """A study that was run."""
    return ran_once[0].copied_to(tmp_path / "bench")
