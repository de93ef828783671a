"""Settings that differ between two studies. The expected values are those of the study files, and of the schema of study files."""

import json
from types import SimpleNamespace

import pytest

from vlm_audio_pipeline.reports.page.compared_results import ComparedResults
from vlm_audio_pipeline.reports.page.compared_settings import (
    DifferentSetting,
    Setting,
    different_settings,
    is_default_known,
)
from vlm_audio_pipeline.storage.history_store import HistoryEntry
from vlm_audio_pipeline.studies.loading import parse_study

STUDY = """
name: first
dataset: {kind: synthetic, clips: 200}
renderings:
  small: {transform: mel, colormap: magma, size: 96}
encoders:
  features: {kind: features}
  vectors: {kind: vision, model: demo-aimv2, rendering: small}
classifiers:
  model: {kind: language_model, model: demo-janus, rendering: small, prompt: plain}
  model_one_shot: {like: model, shots: 1, select: medoid, encoder: features}
  probe: {kind: probe, encoder: vectors}
  neighbours: {kind: knn, encoder: features, k: 5}
"""


def side(text: str, tmp_path, *, at: str = "", only_settings: dict | None = None) -> ComparedResults:
    """Return the results of a study file: now, or at an earlier time with the settings `only_settings` of each classifier."""
    study = parse_study(text, tmp_path / "study.yaml")
    record = {"study": study.plain_values(), "written_keys": study.written_keys()}
    results = SimpleNamespace(spec=record["study"], record=record)
    entries = {
        (name, "score", "none"): HistoryEntry(
            name, "score", "none", "v", "1:0", json.dumps((only_settings or {}).get(name, {})), "1.0", None, None, {}
        )
        for name in (only_settings or study.classifiers)
    }
    return ComparedResults(study.name + at, results, entries)


def test_the_values_of_both_files_are_shown_also_of_classifiers_like_another(tmp_path):
    other = STUDY.replace("magma", "viridis").replace("k: 5", "k: 1").replace("name: first", "name: other")
    lines = different_settings([side(STUDY, tmp_path), side(other, tmp_path)])
    assert lines == [
        DifferentSetting(
            ("model", "model_one_shot", "probe"),
            "rendering: colormap",
            (Setting("magma", False), Setting("viridis", False)),
        ),
        DifferentSetting(("neighbours",), "k", (Setting("5", False), Setting("1", False))),
    ]


@pytest.mark.parametrize(
    "without",
    [
        STUDY.replace(", k: 5", ""),
        STUDY.replace("  neighbours: {kind: knn, encoder: features, k: 5}", "  zero: {kind: knn, encoder: features}\n  neighbours: {like: zero}"),
    ],
    ids=["itself", "like another"],
)  # fmt: skip
def test_a_value_that_the_file_does_not_set_is_called_the_default(without, tmp_path):
    """`vlm-audio schema`: `k` of k-NN has the default 5."""
    lines = different_settings([side(without, tmp_path), side(STUDY.replace("k: 5", "k: 7"), tmp_path)])
    assert [line.values for line in lines if line.name == "k"] == [(Setting("5", True), Setting("7", False))]


@pytest.mark.parametrize(("name", "old", "new"), [("batch_size", "prompt: plain", "prompt: plain, batch_size: 4")])
def test_settings_that_cannot_change_a_result_are_not_listed(tmp_path, name, old, new):
    assert different_settings([side(STUDY, tmp_path), side(STUDY.replace(old, new), tmp_path)]) == []


def test_settings_of_the_dataset_and_missing_classifiers(tmp_path):
    other = STUDY.replace("clips: 200", "clips: 100").replace("  neighbours:", "  renamed:")
    assert different_settings([side(STUDY, tmp_path), side(other, tmp_path)]) == [
        DifferentSetting((), "dataset: clips", (Setting("200", False), Setting("100", False))),
        DifferentSetting(("neighbours",), "has results", (Setting("yes"), Setting("no"))),
        DifferentSetting(("renamed",), "has results", (Setting("no"), Setting("yes"))),
    ]


def test_earlier_results_have_the_values_that_equal_the_default_too(tmp_path):
    """The history stores only what is not the default; which of it the file set is not stored."""
    stored = {
        "neighbours": {"classifier": {"kind": "knn", "encoder": "features"}, "encoder": {"kind": "features"}},
    }
    now = side(STUDY.replace("k: 5", "k: 1"), tmp_path)
    now.entries.clear()
    now.entries.update(side(STUDY, tmp_path, only_settings=stored).entries)
    earlier = side(STUDY, tmp_path, at="@2026-11-20", only_settings=stored)
    assert different_settings([earlier, now]) == [
        DifferentSetting(("neighbours",), "k", (Setting("5", None), Setting("1", False)))
    ]
    assert [is_default_known(s) for s in (earlier, now)] == [False, True]


def test_settings_that_this_version_cannot_read_are_compared_as_they_are_stored(tmp_path):
    stored = [
        {"neighbours": {"classifier": {"kind": "knn", "encoder": "features", "k": k, "removed_setting": 1}}}
        for k in (3, 9)
    ]
    sides = [side(STUDY, tmp_path, at=f"@2026-11-{20 + i}", only_settings=s) for i, s in enumerate(stored)]
    assert different_settings(sides) == [DifferentSetting(("neighbours",), "k", (Setting("3"), Setting("9")))]


def test_the_same_settings_now_and_earlier_do_not_differ(tmp_path):
    """What the history stores of this study: the fingerprint of its parts, without defaults, and "folder" for weights in a folder."""
    study = parse_study(STUDY, tmp_path / "study.yaml")
    stored = {
        name: {
            "classifier": spec.fingerprint_fields(),
            **({"encoder": study.encoders[spec.encoder].fingerprint_fields()} if spec.encoder else {}),
            **({"rendering": study.renderings["small"].fingerprint_fields()} if name != "neighbours" else {}),
        }
        for name, spec in study.classifiers.items()
    }
    assert stored["probe"]["encoder"]["model"] == "folder"
    sides = [side(STUDY, tmp_path), side(STUDY, tmp_path, at="@2026-11-20", only_settings=stored)]
    assert different_settings(sides) == []


def test_the_neighbours_of_examples_have_no_model(tmp_path):
    sides = [side(STUDY, tmp_path) for _ in range(2)]
    knn = HistoryEntry("model_one_shot", "examples_knn", "none", "v", "1:0", "{}", "1.0", "features", None, {})
    sides[0].entries["model_one_shot", "examples_knn", "none"] = knn
    assert different_settings(sides) == []
