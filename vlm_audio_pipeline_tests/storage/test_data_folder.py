import json
import os
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.data_folder import FORMAT_VERSION, DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES


def test_the_folder_argument_is_used_before_the_environment_variable(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert DataFolder.locate().root == tmp_path.resolve() / "data"
    monkeypatch.setenv("VLM_AUDIO_DATA", "elsewhere")
    assert DataFolder.locate().root == tmp_path.resolve() / "elsewhere"
    assert DataFolder.locate("/given").root == Path("/given")
    monkeypatch.setenv("VLM_AUDIO_DATA", "")
    assert DataFolder.locate().root == tmp_path.resolve() / "data"


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DataFolder.locate("~/d").root == tmp_path.resolve() / "d"


@pytest.mark.parametrize("name", ["a%20b", "50%", "what?", "a\\b", "a\nb", "a\x1bb", os.fsdecode(b"a\xfc")])
def test_characters_that_databases_read_as_others_are_refused(tmp_path, name):
    with pytest.raises(
        VlmAudioError, match=r"the path (of the data folder must not contain|'.*' contains bytes that are not)"
    ):
        DataFolder.locate(tmp_path / name / "data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a b", "a#b", "a*b", "a[1]", "a'b", 'a"b', "a;b", "a:b", "a&b=c", "a{b}", "\xe4\u4e2d"]
)
def test_other_characters_are_kept(tmp_path, name):
    assert DataFolder.locate(tmp_path / name).root == tmp_path.resolve() / name


def test_reading_paths_creates_nothing(data_folder):
    _ = (
        data_folder.tables,
        data_folder.catalogue,
        data_folder.result_store,
        data_folder.studies,
        data_folder.datasets,
        data_folder.dagster_home,
    )
    data_folder.lock("a/b")
    data_folder.partition_file("clips", "s", fold=1)
    assert not data_folder.root.exists()


def test_partition_files_have_the_documented_paths():
    data_folder = DataFolder(Path("/d"))
    assert data_folder.partition_file("predictions", "esc10", "knn", 3) == (
        Path("/d/tables/predictions/study=esc10/classifier=knn/fold=3/part-0.parquet")
    )
    assert data_folder.partition_file("embeddings", "esc10", "clap", 1) == (
        Path("/d/tables/embeddings/study=esc10/encoder=clap/fold=1/part-0.parquet")
    )
    assert data_folder.partition_file("clips", "esc10", fold=0) == Path(
        "/d/tables/clips/study=esc10/fold=0/part-0.parquet"
    )
    assert data_folder.partition_file("leaderboard", "esc10") == Path(
        "/d/tables/leaderboard/study=esc10/part-0.parquet"
    )


def test_no_two_partition_files_share_a_path():
    data_folder = DataFolder(Path("/d"))
    paths = [
        data_folder.partition_file(t, study, component if s.component else None, fold if s.per_fold else None)
        for t, s in TABLES.items()
        for study in ("a", "b")
        for component in (("x", "y") if s.component else (None,))
        for fold in ((1, 11) if s.per_fold else (None,))
    ]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("name", ["catalogue", "s.embeddings/clap|1"])
def test_lock_files_are_in_one_folder(name):
    lock = DataFolder(Path("/d")).lock(name)
    assert lock.parent == Path("/d/locks")
    assert lock.suffix == ".lock"


def test_a_new_folder_gets_the_format_version_and_keeps_it(tmp_path):
    data_folder = DataFolder(tmp_path / "data").create()
    assert json.loads(data_folder.format_file.read_text()) == {"format_version": FORMAT_VERSION}
    data_folder.tables.mkdir()
    assert data_folder.create() == data_folder
    data_folder.check_format()


def test_a_folder_without_results_is_accepted(tmp_path):
    (tmp_path / "datasets").mkdir()
    DataFolder(tmp_path).check_format()
    DataFolder(tmp_path / "missing").check_format()
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", ["tables", "rows.sqlite"])
def test_a_folder_from_before_format_versions_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    for use in (DataFolder(tmp_path).create, DataFolder(tmp_path).check_format):
        with pytest.raises(VlmAudioError) as caught:
            use()
        assert str(caught.value) == (
            f"the data folder {tmp_path} has format version 1, but this version of the program needs {FORMAT_VERSION}; "
            "use a new folder with --data, or delete this one"
        )
    assert not DataFolder(tmp_path).format_file.exists()


@pytest.mark.parametrize(
    ("version", "advice"), [(FORMAT_VERSION - 1, "use a new folder"), (FORMAT_VERSION + 1, "update vlm-audio-pipeline")]
)
def test_another_format_version_is_refused(tmp_path, version, advice):
    data_folder = DataFolder(tmp_path)
    data_folder.format_file.write_text(json.dumps({"format_version": version}))
    with pytest.raises(VlmAudioError, match=rf"format version {version}, .* needs {FORMAT_VERSION}; {advice}"):
        data_folder.check_format()


@pytest.mark.parametrize("content", ["", "2", "{}", '{"format_version": "two"}', "\udce9"])
def test_a_damaged_format_file_is_named(tmp_path, content):
    data_folder = DataFolder(tmp_path)
    data_folder.format_file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(VlmAudioError, match=r"format\.json cannot be read as the format version"):
        data_folder.create()
