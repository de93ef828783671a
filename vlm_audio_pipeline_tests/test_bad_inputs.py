"""Wrong recordings and listings, tested through the command and its messages."""

import csv
import json

import numpy as np
import pytest
import soundfile
import yaml

from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.cli.program import vlm_audio

RATE = 8000
LABELS = ("bell", "crow", "dog")
FOLDS = (1, 2, 3)
TAKES = 2


class Project:
    """A CSV of 18 recordings (3 folds x 3 classes x 2 takes) and a study file with one classifier."""

    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "data"
        (folder / "audio").mkdir(parents=True)
        self.rows = []
        rng = np.random.default_rng(4)
        for fold in FOLDS:
            for index, label in enumerate(LABELS):
                for take in range(TAKES):
                    name = f"{fold}-{label}-{take}"
                    t = np.arange(RATE // 10) / RATE
                    wave = 0.4 * np.sin(2 * np.pi * (300 + 900 * index) * t) + 0.01 * rng.standard_normal(len(t))
                    soundfile.write(folder / "audio" / f"{name}.wav", wave.astype(np.float32), RATE)
                    self.rows.append({"id": name, "path": f"audio/{name}.wav", "label": label, "fold": fold})
        self.study = {
            "name": "sounds",
            "dataset": {"kind": "csv", "path": "clips.csv", "columns": {"id": "id"}},
            "encoders": {"bands": {"kind": "scripted", "dimensions": 8}},
            "classifiers": {"knn": {"kind": "knn", "encoder": "bands", "k": 1}},
        }

    def audio(self, name):
        return self.folder / "audio" / f"{name}.wav"

    def row(self, name):
        return next(r for r in self.rows if r["id"] == name)

    def call(self, command="run", *arguments):
        with (self.folder / "clips.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        path = self.folder / "sounds.yaml"
        path.write_text(yaml.safe_dump(self.study, sort_keys=False))
        return vlm_audio(command, path, *arguments, data=self.data)

    def query(self, sql):
        result = vlm_audio("sql", sql, "--format", "json", data=self.data)
        assert result.code == 0, result.err
        return json.loads(result.out)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


def missing(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def renamed_text(path):
    path.write_text("These are field notes, not a recording.\n" * 20)


def not_numbers(path):
    samples, _ = soundfile.read(path, dtype="float32")
    samples[10:13] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


DAMAGE = {
    "1-bell-0": (missing, "missing"),
    "1-crow-1": (empty, "empty: the file has 0 bytes"),
    "2-dog-0": (truncated, "truncated"),
    "3-bell-1": (renamed_text, "undecodable"),
    "3-crow-0": (not_numbers, "not finite: 3 of 800 samples"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_bad_recording_stops_the_run_and_is_named_with_the_reason(project, name):
    damage, reason = DAMAGE[name]
    damage(project.audio(name))
    result = project.call()
    assert result.code == 1
    assert result.err.count(f"{name} (audio/{name}.wav): {reason}") == 1  # not once per fold
    assert "failed sounds/clips (folds 1,2,3): 1 of 18 recordings cannot be used:" in result.err
    assert "on_bad_clip: skip" in result.err
    assert "Traceback" not in result.err
    store = ResultStore(project.data / "results.sqlite")
    assert (store.count("inspection"), store.count("vector")) == (
        17,
        0,
    )  # good recordings are stored; nothing was embedded


def test_one_error_lists_all_bad_recordings(project):
    for name, (damage, _) in DAMAGE.items():
        damage(project.audio(name))
    result = project.call()
    assert result.code == 1
    assert result.err.count("cannot be used") == 1
    assert "5 of 18 recordings cannot be used" in result.err
    for name, (_, reason) in DAMAGE.items():
        assert result.err.count(f"{name} (audio/{name}.wav): {reason}") == 1


def test_a_run_continues_after_recordings_are_repaired(project):
    valid_bytes = project.audio("2-dog-0").read_bytes()
    truncated(project.audio("2-dog-0"))
    assert project.call().code == 1
    project.audio("2-dog-0").write_bytes(valid_bytes)
    result = project.call()
    assert result.code == 0, result.err
    assert project.query("SELECT count(*) AS n FROM predictions") == [{"n": 18}]


def test_skipped_recordings_are_listed_and_counted_in_every_denominator(project):
    project.study["dataset"]["on_bad_clip"] = "skip"
    for name, (damage, _) in DAMAGE.items():
        damage(project.audio(name))
    result = project.call()
    assert result.code == 0, result.err
    rejected = {r["clip"]: r for r in project.query("SELECT * FROM rejected_clips")}
    assert set(rejected) == set(DAMAGE)
    for name, (_, reason) in DAMAGE.items():
        assert rejected[name]["reason"].startswith(reason)
        assert rejected[name]["fold"] == int(name[0])
    # 18 recordings, 5 of them rejected
    (row,) = project.query("SELECT * FROM leaderboard WHERE kind <> 'reference'")
    assert (row["predictions"], row["clips"], row["dataset_clips"], row["rejected_clips"]) == (13, 13, 13, 5)
    assert row["accuracy"] == row["correct"] / 13
    assert "5 recordings rejected" in row["note"]
    assert "5 recordings rejected" in result.out and f"{row['correct']} / 13" in result.out
    assert project.query("SELECT count(*) AS n FROM clips") == [{"n": 13}]
    folds = project.query("SELECT fold, count(*) AS n FROM predictions GROUP BY fold ORDER BY fold")
    assert [f["n"] for f in folds] == [4, 5, 4]  # of 6 each; 2, 1 and 2 rejected
    training = project.query("SELECT DISTINCT fold, training_clips AS n FROM predictions ORDER BY fold")
    assert [f["n"] for f in training] == [9, 8, 9]  # the clips of the other folds


def test_skipping_all_recordings_of_a_class_is_refused(project):
    project.study["dataset"]["on_bad_clip"] = "skip"
    for fold in FOLDS:
        for take in range(TAKES):
            project.audio(f"{fold}-crow-{take}").unlink()
    result = project.call()
    assert result.code == 1
    assert result.err.count("there is none for class crow") == 1
    assert "6 of 18 recordings cannot be used" in result.err


def test_skipping_all_recordings_of_a_fold_is_refused(project):
    project.study["dataset"]["on_bad_clip"] = "skip"
    for label in LABELS:
        for take in range(TAKES):
            project.audio(f"2-{label}-{take}").unlink()
    result = project.call()
    assert result.code == 1
    assert result.err.count("there is none for fold 2") == 1


# ------------------------------------------------------------------------------------------------------- wrong listings


def same_id(project):
    project.row("2-dog-0")["id"] = "1-dog-0"
    return ["clip ids must be unique", "'1-dog-0'"]


def class_without_clips(project):
    project.study["dataset"]["classes"] = [*LABELS, "doge"]
    return ["clips.csv", "class 'doge' has no clips", "did you mean 'dog'?"]


def missing_column(project):
    for row in project.rows:
        row["lable"] = row.pop("label")
    return ["clips.csv", "`columns.label`", "did you mean 'lable'?"]


def empty_label(project):
    project.row("1-crow-0")["label"] = ""
    return ["clips.csv, line 4", "label must not be empty"]


def invalid_fold(project):
    project.row("1-crow-0")["fold"] = "one"
    return ["clips.csv, line 4", "fold must be a whole number of 1 or more, got 'one'"]


def one_fold_only(project):
    for row in project.rows:
        row["fold"] = 1
    return ["folds must be at least two"]


def class_of_one_fold(project):
    project.rows = [r for r in project.rows if r["label"] != "crow" or r["fold"] == 2]
    return ["class 'crow' occurs only in fold 2"]


def source_in_two_folds(project):
    for row in project.rows:
        row["source"] = "shared" if row["id"] in ("1-dog-0", "3-dog-0") else row["id"]
    return ["source 'shared' in folds [1, 3]"]


def classifier_with_an_unknown_fold(project):
    project.study["classifiers"]["knn"]["folds"] = [2, 7]
    return ["sounds.yaml", "classifiers.knn.folds", "[1, 2, 3]", "got [7]"]


@pytest.mark.parametrize("command", ["run", "plan", "fetch"])
@pytest.mark.parametrize(
    "damage",
    [
        same_id,
        class_without_clips,
        missing_column,
        empty_label,
        invalid_fold,
        one_fold_only,
        class_of_one_fold,
        source_in_two_folds,
        classifier_with_an_unknown_fold,
    ],
)
def test_a_wrong_listing_is_refused_before_the_run(project, damage, command):
    words = damage(project)
    result = project.call(command)
    assert result.code == 2
    assert result.err.startswith("error: ") and result.err.count("error: ") == 1
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err
    assert not (project.data / "tables").exists()


def test_a_class_missing_in_one_fold_is_trained_on_the_other_folds(project):
    """Crows are only in folds 1 and 2: fold 3 has none, and folds 1 and 2 have training clips in each other."""
    project.rows = [r for r in project.rows if r["label"] != "crow" or r["fold"] != 3]
    project.study["classifiers"]["linear_probe"] = {"kind": "probe", "encoder": "bands", "c": 1.0}
    result = project.call()
    assert result.code == 0, result.err
    for row in project.query("SELECT * FROM leaderboard WHERE kind <> 'reference'"):
        assert (row["predictions"], row["dataset_clips"], row["folds"]) == (16, 16, "1,2,3")
    scored = project.query(
        "SELECT DISTINCT len(map_keys(scores)) AS n FROM predictions WHERE classifier = 'linear_probe'"
    )
    assert scored == [{"n": 3}]  # every class has a score in every fold


def test_an_error_names_the_class_without_training_clips(project):
    """Only fold 1 has crows, so its training clips have none."""
    project.study["dataset"]["on_bad_clip"] = "skip"
    project.study["classifiers"] = {"linear_probe": {"kind": "probe", "encoder": "bands", "c": 1.0}}
    for fold in (2, 3):
        for take in range(TAKES):
            project.audio(f"{fold}-crow-{take}").unlink()
    result = project.call()
    assert result.code == 1
    assert "failed sounds/probes/linear_probe (fold 1): " in result.err
    assert "training clips of every class" in result.err and "'crow'" in result.err
    (row,) = project.query("SELECT * FROM leaderboard WHERE kind <> 'reference'")
    assert (row["folds"], row["partial"], row["rank"]) == ("2,3", True, None)
    assert (row["predictions"], row["dataset_clips"]) == (
        8,
        14,
    )  # folds 2 and 3 have 4 clips left each, fold 1 has 6


# ------------------------------------------------------------------------------------------------------- unusual, but valid


def test_silent_and_one_millisecond_recordings_are_valid(project):
    soundfile.write(project.audio("1-bell-0"), np.zeros(RATE // 10, np.float32), RATE)
    soundfile.write(project.audio("2-crow-0"), 0.1 * np.ones(RATE // 1000, np.float32), RATE)
    project.study["encoders"]["classical"] = {
        "kind": "features",
        "features": ["mfcc", "delta", "zero_crossing_rate", "logmel"],
    }
    project.study["classifiers"]["linear_probe"] = {"kind": "probe", "encoder": "classical", "c": 1.0}
    result = project.call()
    assert result.code == 0, result.err
    clips = {r["clip"]: r for r in project.query("SELECT clip, duration_s, peak, rms FROM clips")}
    assert (clips["1-bell-0"]["peak"], clips["1-bell-0"]["rms"]) == (0.0, 0.0)
    assert clips["2-crow-0"]["duration_s"] == 0.001
    assert {
        (r["classifier"], r["predictions"])
        for r in project.query("SELECT * FROM leaderboard WHERE kind <> 'reference'")
    } == {
        ("knn", 18),
        ("linear_probe", 18),
    }


def test_a_bad_recording_in_a_dataset_folder_is_named(project):
    sounds = project.folder / "sounds"
    for row in project.rows:
        target = sounds / row["label"] / f"{row['id']}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(project.audio(row["id"]).read_bytes())
    empty(sounds / "dog" / "2-dog-1.wav")
    project.study["dataset"] = {"kind": "folder", "path": "sounds", "n_folds": 2}
    result = project.call()
    assert result.code == 1
    assert result.err.count("dog__2-dog-1 (dog/2-dog-1.wav): empty") == 1
    project.study["dataset"]["on_bad_clip"] = "skip"
    assert project.call().code == 0
    (row,) = project.query("SELECT * FROM leaderboard WHERE kind <> 'reference'")
    assert (row["predictions"], row["dataset_clips"], row["rejected_clips"]) == (17, 17, 1)


def test_recordings_that_are_not_decoded_are_counted_and_named(project):
    sounds = project.folder / "sounds"
    for row in project.rows:
        target = sounds / row["label"] / f"{row['id']}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(project.audio(row["id"]).read_bytes())
    (sounds / "dog" / "memo.amr").write_bytes(b"#!AMR\n" + bytes(100))
    project.study["dataset"] = {"kind": "folder", "path": "sounds", "n_folds": 2}
    result = project.call()
    assert result.code == 0, result.err
    assert "1 file or folder in " in result.err and "dog/memo.amr: not decoded: convert it to WAV or FLAC" in result.err
    (row,) = project.query("SELECT * FROM leaderboard WHERE kind <> 'reference'")
    assert (row["predictions"], row["dataset_clips"], row["rejected_clips"]) == (18, 18, 1)
    assert project.query("SELECT label, file FROM rejected_clips") == [{"label": "dog", "file": "dog/memo.amr"}]


def test_a_class_folder_without_recordings_is_refused(project):
    (project.folder / "sounds" / "dog").mkdir(parents=True)
    project.study["dataset"] = {"kind": "folder", "path": "sounds", "n_folds": 2}
    result = project.call()
    assert result.code == 2
    assert "sounds/dog contains no recordings" in result.err
