import os
import time

from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.planning import input_assets
from vlm_audio_pipeline.planning.input_assets import _FoldVersions
from vlm_audio_pipeline.storage.result_store import ResultStore


def test_the_versions_of_folds_are_computed_again_only_after_a_change(tmp_path, data_folder, monkeypatch):
    result_store = ResultStore(data_folder.result_store)
    for name in "abcd":
        (tmp_path / name).write_bytes(name.encode())
    clips = tuple(Clip(n, "xy"[i % 2], i // 2 + 1, n, n) for i, n in enumerate("abcd"))
    dataset = Dataset(tmp_path, ("x", "y"), clips, DatasetCard("Test"))
    lookups, file_digests = [], result_store.file_digests
    monkeypatch.setattr(result_store, "file_digests", lambda paths: lookups.append(1) or file_digests(paths))
    versions = _FoldVersions(lambda: dataset)
    monkeypatch.setattr(input_assets, "_MIN_AGE_NS", 10**12)
    first = versions(result_store)
    assert versions(result_store) == first
    assert len(lookups) == 2  # files that are so new could change without another stamp
    monkeypatch.setattr(input_assets, "_MIN_AGE_NS", 0)
    assert [versions(result_store) for _ in range(3)] == [first] * 3
    assert len(lookups) == 3
    time.sleep(0.02)
    (tmp_path / "d").write_bytes(b"D")
    changed = versions(result_store)
    assert (changed[1] == first[1], changed[2] == first[2]) == (True, False)
    os.remove(tmp_path / "a")
    assert versions(result_store)[1] != first[1]
