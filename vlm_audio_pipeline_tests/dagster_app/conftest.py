import shutil

import pytest

from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.bench import Bench


@pytest.fixture(scope="session")
def dagster_home(tmp_path_factory):
    """A Dagster home without runs. Tests copy it, because creating its databases takes half a second."""
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
def template_bench(tmp_path_factory, dagster_home):
    """A study that was run once with Dagster; tests copy it."""
    bench = Bench(tmp_path_factory.mktemp("ran") / "bench")
    shutil.copytree(dagster_home, bench.data_folder.create().dagster_home)
    assert not bench.run(executor=DagsterExecutor()).report.failed
    return bench


@pytest.fixture
def done(template_bench, tmp_path):
    """A copy of a study that was run in another folder, with its results."""
    return template_bench.copy_to(tmp_path / "bench")
