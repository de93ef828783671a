"""Studies are found by name, by path, and by the name under which they were run."""

import pytest

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.planning.clip_limit import limit_study
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.opening import find_run_study, find_study, open_graph
from vlm_audio_pipeline.planning.publishing import publish_study
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline_tests.bench import Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "bench")


def test_a_study_is_found_by_its_path_or_as_a_built_in_study(bench):
    assert find_study(bench.write(), bench.data_folder).name == "bench"
    assert find_study("demo", bench.data_folder).name == "demo"
    with pytest.raises(BadStudy, match="must be a file or one of the built-in studies, got 'bench'"):
        find_study("bench", bench.data_folder)


def test_a_study_that_was_run_is_found_by_its_name(bench):
    publish_study(bench.graph(), rebuild=False)
    assert find_study("bench", bench.data_folder).path == bench.folder / "bench.yaml"
    assert open_graph("bench", bench.data_folder, limit=4).study.name == "bench_limit4"


def test_a_limited_study_stays_limited(bench):
    limited = limit_study(load_study(bench.write()), 4)
    publish_study(Graph(limited, bench.data_folder), rebuild=False)
    found = find_study("bench_limit4", bench.data_folder)
    assert (found.name, found.limit) == ("bench_limit4", 4)


def test_a_study_that_was_renamed_in_its_file_is_not_mistaken_for_the_old_one(bench):
    publish_study(bench.graph(), rebuild=False)
    bench.write(bench.changed_study(name="renamed"))
    with pytest.raises(BadStudy, match="which is named 'renamed' now"):
        find_study("bench", bench.data_folder)


def test_a_study_whose_file_was_deleted_is_named_with_its_file(bench):
    publish_study(bench.graph(), rebuild=False)
    (bench.folder / "bench.yaml").unlink()
    with pytest.raises(
        BadStudy, match=r"'bench' was run from .*bench\.yaml, which no longer exists; .*`vlm-audio leaderboard bench`"
    ):
        find_study("bench", bench.data_folder)
    assert find_run_study("bench", bench.data_folder) == "bench"


def test_results_are_found_by_name_and_by_file(bench):
    file = str(bench.write())
    assert find_run_study(file, bench.data_folder) == "bench", "the reader of the results says that the folder is empty"
    bench.data_folder.studies.mkdir(parents=True)
    with pytest.raises(BadStudy, match=r"the study 'bench' was not run in .* yet; run `vlm-audio run .*bench\.yaml`"):
        find_run_study(file, bench.data_folder)
    publish_study(bench.graph(), rebuild=False)
    assert find_run_study("bench", bench.data_folder) == find_run_study(file, bench.data_folder) == "bench"
    with pytest.raises(BadStudy, match=r"did you mean 'bench'\?"):
        find_run_study("bnch", bench.data_folder)


def test_hints_quote_a_path_with_spaces_and_keep_the_limit(bench, tmp_path, monkeypatch):
    file = bench.write().rename(bench.folder / "my study.yaml")
    assert load_study(file).run_command == f"vlm-audio run '{bench.folder}/my study.yaml'"
    monkeypatch.chdir(bench.folder)
    assert limit_study(load_study(file), 4).run_command == "vlm-audio run 'my study.yaml' --limit 4"
    assert load_study("demo").run_command == "vlm-audio run demo"
