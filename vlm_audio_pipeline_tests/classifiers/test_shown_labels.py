import pyarrow as pa

from vlm_audio_pipeline.classifiers.shown_labels import add_shown_labels
from vlm_audio_pipeline.renderings.controls import choose_other_clip
from vlm_audio_pipeline_tests.classifiers.stage_runner import gaussian_blobs

RENAMED = {0: {"a": "b", "b": "c", "c": "a"}, 1: {"a": "c", "b": "a", "c": "b"}}


def shown_labels(rows, renamed=None):
    """Return the shown labels of (clip, control, trial) rows."""
    _, clips, _ = gaussian_blobs(n_folds=1, per_class=2)
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(("clip", "control", "trial"))})
    return add_shown_labels(table, clips, *([renamed] if renamed else []))["shown_label"].to_pylist()


def label_of_other_clip(clip):
    rows = gaussian_blobs(n_folds=1, per_class=2)[1].to_pylist()
    return choose_other_clip(next(row for row in rows if row["clip"] == clip), rows)["label"]


def test_only_the_control_other_clip_shows_another_class():
    controls = ("none", "blank", "time_shuffled", "other_clip", "no_image")
    other = label_of_other_clip("1-a-00")
    assert other in "bc"
    assert shown_labels([("1-a-00", control, 0) for control in controls]) == [None, None, None, other, None]


def test_permuted_labels_rename_the_class_that_the_query_shows():
    other = RENAMED[1][label_of_other_clip("1-a-00")]
    rows = [
        ("1-a-00", "none", 0),
        ("1-a-00", "none", 1),
        ("1-c-01", "time_shuffled", 0),
        ("1-a-00", "blank", 0),
        ("1-a-00", "other_clip", 1),
    ]
    assert shown_labels(rows, RENAMED) == ["b", "c", "a", None, other]
