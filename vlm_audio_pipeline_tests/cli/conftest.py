"""A study that commands are called on."""

import pytest

from vlm_audio_pipeline_tests.cli.program import judged_in_every_fold, vlm_audio


@pytest.fixture
def bench(tmp_path):
    """A study that was never run."""
    return judged_in_every_fold(tmp_path / "bench")


@pytest.fixture(scope="session")
def ran_once(tmp_path_factory):
    bench = judged_in_every_fold(tmp_path_factory.mktemp("ran") / "bench")
    said = vlm_audio("run", bench.folder / "bench.yaml", data=bench.layout.root)
    assert said.code == 0, said.err
    return bench, said


@pytest.fixture
def done(ran_once, tmp_path):
    """A study that was run."""
    return ran_once[0].copied_to(tmp_path / "bench")
