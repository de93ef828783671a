from pathlib import Path

import pytest

from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.schemas import TABLES


def test_the_folder_given_goes_before_the_setting(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Layout.default().root == tmp_path.resolve() / "data"
    monkeypatch.setenv("VLM_AUDIO_DATA", "elsewhere")
    assert Layout.default().root == tmp_path.resolve() / "elsewhere"
    assert Layout.default("/given").root == Path("/given")
    monkeypatch.setenv("VLM_AUDIO_DATA", "")
    assert Layout.default().root == tmp_path.resolve() / "data"


def test_home_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Layout.default("~/d").root == tmp_path.resolve() / "d"


def test_looking_makes_nothing(layout):
    _ = layout.tables, layout.results, layout.rows, layout.studies, layout.datasets, layout.dagster_home
    layout.lock("a/b")
    layout.part("clips", "s", fold=1)
    assert not layout.root.exists()


def test_parts_lie_where_the_documentation_says():
    layout = Layout(Path("/d"))
    assert layout.part("predictions", "esc10", "knn", 3) == (
        Path("/d/tables/predictions/study=esc10/classifier=knn/fold=3/part-0.parquet")
    )
    assert layout.part("embeddings", "esc10", "clap", 1) == (
        Path("/d/tables/embeddings/study=esc10/encoder=clap/fold=1/part-0.parquet")
    )
    assert layout.part("clips", "esc10", fold=0) == Path("/d/tables/clips/study=esc10/fold=0/part-0.parquet")
    assert layout.part("leaderboard", "esc10") == Path("/d/tables/leaderboard/study=esc10/part-0.parquet")


def test_no_two_parts_share_a_path():
    layout = Layout(Path("/d"))
    paths = [
        layout.part(t, study, owner if s.owner else None, fold if s.per_fold else None)
        for t, s in TABLES.items()
        for study in ("a", "b")
        for owner in (("x", "y") if s.owner else (None,))
        for fold in ((1, 11) if s.per_fold else (None,))
    ]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("name", ["catalogue", "s.embeddings/clap|1"])
def test_locks_lie_in_one_folder(name):
    lock = Layout(Path("/d")).lock(name)
    assert lock.parent == Path("/d/locks")
    assert lock.suffix == ".lock"
