import shutil

import pytest

from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.bench import Bench


@pytest.fixture(scope="session")
def dagster_home(tmp_path_factory):
    """A Dagster home without runs, to be copied: its databases take half a second to create."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        data_folder = DataFolder(tmp_path_factory.mktemp("home") / "data")
        open_instance(data_folder).dispose()
    return data_folder.dagster_home


@pytest.fixture
def bench(tmp_path, dagster_home):
    """A study that was never run."""
    bench = Bench(tmp_path / "bench")
    shutil.copytree(dagster_home, bench.data_folder.create().dagster_home)
    return bench


@pytest.fixture(scope="session")
def ran_once(tmp_path_factory, dagster_home):
    """One study that was run through Dagster, to be copied."""
    bench = Bench(tmp_path_factory.mktemp("ran") / "bench")
    shutil.copytree(dagster_home, bench.data_folder.create().dagster_home)
    assert not bench.run(executor=DagsterExecutor()).report.failed
    return bench


@pytest.fixture
def done(ran_once, tmp_path):
    """A copy of a study that was run in another folder, with its results."""
    return ran_once.copied_to(tmp_path / "bench")
