"""The kind `annotated_recordings`: annotated recordings become clips, in the real layouts of Raven and others."""

from collections import Counter

import numpy as np
import pytest
import soundfile
import yaml
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets import audio
from vlm_audio_pipeline.datasets.annotated_recordings import AnnotatedRecordings
from vlm_audio_pipeline.datasets.open_recordings import RecordingPool
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline_tests.datasets.annotations.instances import AUDACITY

HEADER = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
CLEAN = {"several_labels": False, "keep_empty": 0}
RATE = 8000


def table(*events):
    rows = (
        f"{i}\tSpectrogram 1\t1\t{start}\t{end}\t500\t900\t{label}\n" for i, (start, end, label) in enumerate(events, 1)
    )
    return HEADER + "".join(rows)


EVENTS = {
    "site1/a": [(0.5, 2, "owl"), (6, 8, "fox")],
    "site1/b": [(1, 3, "fox"), (6, 9, "owl")],
    "site2/c": [(0, 4, "owl"), (5, 6, "fox"), (7.5, 8, "owl")],
    "site2/d": [(2, 3, "fox")],
}


@pytest.fixture
def folder(tmp_path):
    """Four recordings of 10 s, one as MP3, and a Raven table beside each."""
    rng = np.random.default_rng(0)
    root = tmp_path / "field"
    for name, events in EVENTS.items():
        path = root / f"{name}.{'mp3' if name.endswith('c') else 'wav'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(10 * RATE), RATE)
        (root / f"{name}.Table.1.selections.txt").write_text(table(*events))
    return root


@pytest.fixture
def spec(folder):
    """Return a function that returns the spec of the folder, with two folds and clips of exactly one label."""

    def make(**fields):
        return AnnotatedRecordings(**{"path": folder, "n_folds": 2, "segment": CLEAN, **fields})

    return make


def rows(dataset):
    return [(c.id, c.label) for c in dataset.clips]


def test_segments_of_5_s_have_the_label_of_the_event_in_them(spec, data_folder, folder):
    dataset = spec().open(data_folder)
    assert dataset.root == folder and dataset.classes == ("fox", "owl") and dataset.left_out == ()
    # site2/c from 5 s has fox and owl, and site2/d from 5 s has nothing: both are left out
    assert rows(dataset) == [
        ("site1__a@00000.000-00005.000", "owl"),
        ("site1__a@00005.000-00010.000", "fox"),
        ("site1__b@00000.000-00005.000", "fox"),
        ("site1__b@00005.000-00010.000", "owl"),
        ("site2__c@00000.000-00005.000", "owl"),
        ("site2__d@00000.000-00005.000", "fox"),
    ]
    first = dataset.clips[0]
    assert (first.file, first.source, first.start_s, first.end_s) == ("site1/a.wav", "site1/a.wav", 0, 5)
    assert spec().folds(data_folder) == dataset.folds == (1, 2)


def test_segments_with_several_labels_or_none_have_all_of_them(spec, data_folder):
    clips = {c.id: (c.label, c.labels) for c in spec(segment={}).open(data_folder).clips}
    assert len(clips) == 8
    assert clips["site1__a@00000.000-00005.000"] == ("owl", ("owl",))
    assert clips["site2__c@00005.000-00010.000"] == ("fox; owl", ("fox", "owl"))
    assert clips["site2__d@00005.000-00010.000"] == ("", ())
    assert {c.labels for c in spec().open(data_folder).clips} == {None}  # exactly one label each


def test_labels_are_renamed_merged_and_left_out(spec, data_folder):
    merged = spec(rename={"fox": "mammal"}).open(data_folder)
    assert merged.classes == ("mammal", "owl")
    with pytest.raises(BadDataset, match="class 'bear' is in no segment; options: fox, owl"):
        spec(classes=("owl", "bear")).open(data_folder)
    # without foxes, the second half of c has one label
    only_owls = spec(rename={"fox": None})
    assert ("site2__c@00005.000-00010.000", "owl") in rows(only_owls.open(data_folder))


def test_a_dataset_without_any_label_is_refused(spec, data_folder):
    nothing = spec(rename={"fox": None, "owl": None}, segment={})
    for function in (nothing.folds, nothing.open):
        with pytest.raises(
            BadDataset, match="no segment of the 4 recordings has a label, so there are no classes; check"
        ):
            function(data_folder)


def test_a_recording_that_vanishes_while_it_is_hashed_is_refused(spec, data_folder, folder):
    (folder / "site1" / "a.wav").unlink()
    with pytest.raises(BadDataset, match=r"site1/a\.wav cannot be read any more; restore it"):
        spec()._digests(["site1/a.wav", "site1/b.wav"], data_folder)


def test_a_sound_beside_a_label_that_is_not_used_is_not_clean(spec, data_folder, folder):
    (folder / "site1" / "a.Table.1.selections.txt").write_text(
        table((0.5, 2, "owl"), (1, 3, "rain"), (5, 6, "fox"), (6, 7, "wind"))
    )
    classes = ("fox", "owl")
    # both segments of a have a second label
    assert {c.file for c in spec(classes=classes).open(data_folder).clips} == {
        "site1/b.wav",
        "site2/c.mp3",
        "site2/d.wav",
    }
    without_rain = rows(spec(classes=classes, rename={"rain": None}).open(data_folder))
    assert [row for row in without_rain if "__a@" in row[0]] == [("site1__a@00000.000-00005.000", "owl")]
    several = spec(classes=classes, segment={"keep_empty": 0}).open(data_folder)
    assert [c.labels for c in several.clips if c.file == "site1/a.wav"] == [("owl",), ("fox",)]


def test_without_segments_there_is_advice(spec, data_folder):
    with pytest.raises(
        BadDataset,
        match="no segment of the 4 recordings is left, because each has no label, or several; change `segment`",
    ):
        spec(
            segment={**CLEAN, "seconds": 10, "min_overlap_s": 9},
            classes=("owl", "fox"),
            rename={"fox": None, "owl": None},
        ).folds(data_folder)


def test_a_source_shares_a_fold_and_folds_do_not_move(spec, data_folder):
    by_site = spec(source=r"^(\w+)/").open(data_folder)
    assert {(c.source, c.fold) for c in by_site.clips} in ({("site1", 1), ("site2", 2)}, {("site1", 2), ("site2", 1)})
    before = {c.source: c.fold for c in spec().open(data_folder).clips}
    other_hop = spec(segment={**CLEAN, "hop_s": 2.5}).open(data_folder)
    assert {c.source: c.fold for c in other_hop.clips} == before
    with pytest.raises(BadDataset, match=r"'\^\(site1\)/', does not match this path"):
        spec(source="^(site1)/").folds(data_folder)


@pytest.fixture
def quiet_folder(folder):
    """The four recordings, two more without an event, and two with a sound from their start to their end."""
    for i, events in enumerate([[], [], [(0, 10, "owl")], [(0, 10, "fox")]]):
        soundfile.write(folder / f"q{i}.wav", 0.1 * np.random.default_rng(i).standard_normal(10 * RATE), RATE)
        (folder / f"q{i}.Table.1.selections.txt").write_text(table(*events))
    return folder


def test_the_share_of_empty_segments_moves_no_fold(spec, quiet_folder, tmp_path):
    def folds(share):
        data_folder = DataFolder(tmp_path / f"data_{share}")  # without stored folds
        dataset_spec = spec(n_folds=3, segment={"seconds": 1, "keep_empty": share})
        dataset = dataset_spec.open(data_folder)
        assert dataset_spec.folds(data_folder) == dataset.folds
        return {clip.source: clip.fold for clip in dataset.clips}

    every = folds(1)
    assert len(every) == 8
    some, labelled = folds(0.3), folds(0)
    assert some.items() <= every.items() and len(labelled) == 6 and labelled.items() <= every.items()


def test_a_fold_without_clips_is_refused(spec, quiet_folder, data_folder, tmp_path):
    path = tmp_path / "folds.csv"
    files = ["a.wav,1", "b.wav,2", "c.mp3,1", "d.wav,2", "q0.wav,3", "q1.wav,1", "q2.wav,2", "q3.wav,1"]
    path.write_text("recording,fold\n" + "\n".join(files))
    assert spec(fold_file=path, segment={}).folds(data_folder) == (1, 2, 3)
    for function in (spec(fold_file=path).folds, spec(fold_file=path).open):
        with pytest.raises(BadDataset, match=r"fold 3 has no clip, .*: q0\.wav; raise `keep_empty`"):
            function(data_folder)


def test_folds_are_read_from_a_file(spec, data_folder, tmp_path):
    path = tmp_path / "folds.csv"
    path.write_text("recording,fold,source\na.wav,3,x\nb,7,y\nsite2/c.mp3,3,x\nd.wav,7,z\n")
    clips = spec(fold_file=path).open(data_folder).clips
    assert {(c.file, c.fold, c.source) for c in clips} == {
        ("site1/a.wav", 3, "x"),
        ("site1/b.wav", 7, "y"),
        ("site2/c.mp3", 3, "x"),
        ("site2/d.wav", 7, "z"),
    }
    assert spec(fold_file=path).folds(data_folder) == (3, 7)
    for text, message in {
        "recording,fold\na.wav,1\n": "must name every recording, but these are missing: site1/b.wav, site2/c.mp3, site2/d.wav",
        "recording,fold\na.wav,one\n": "line 2, column 'fold': a fold must be a whole number of 1 or more, got 'one'",
        "recording,fold\na.wav,1\na,2\n": "line 3: 'a' must occur once, but a line above is about the same recording",
        "file,fold\na.wav,1\n": "line 1: no column 'recording', got file, fold",
    }.items():
        path.write_text(text)
        with pytest.raises(BadDataset, match=message):
            spec(fold_file=path).open(data_folder)


def test_annotated_recordings_that_are_not_there_are_listed(spec, data_folder, folder):
    (folder / "site2" / "d.wav").unlink()
    with pytest.raises(
        BadDataset,
        match=r"1 annotated recordings are not in .*:\n  d, in .*d.Table.1.selections.txt, line 2; options: a.wav",
    ):
        spec().open(data_folder)
    skipping = spec(on_bad_clip="skip").open(data_folder)
    assert [(left.file, left.reason) for left in skipping.left_out] == [
        ("d", "missing: it is annotated, but not in the folder")
    ]


def test_recordings_without_annotations_are_left_out_unless_nothing_occurs_in_them(spec, data_folder, folder):
    (folder / "site1" / "b.Table.1.selections.txt").unlink()
    dataset = spec(n_folds=2).open(data_folder)
    assert [(left.file, left.reason) for left in dataset.left_out] == [
        ("site1/b.wav", "not annotated: no annotation file names it; see `unannotated`")
    ]
    everything = spec(unannotated="empty", segment={}).open(data_folder)
    assert [c.labels for c in everything.clips].count(()) == 3


def test_events_after_the_end_are_refused_with_their_line(spec, data_folder, folder):
    path = folder / "site1" / "a.Table.1.selections.txt"
    path.write_text(table((1, 2, "owl"), (11, 12, "fox")))
    with pytest.raises(BadDataset) as caught:
        spec().open(data_folder)
    assert f"but site1/a.wav has 10 s:\n  {path}, line 3: fox, 11 s to 12 s\n" in str(caught.value)
    path.write_text(table((1, 2, "owl"), (9, 12, "fox")))  # an event that ends later is cut
    assert ("site1__a@00005.000-00010.000", "fox") in rows(spec().open(data_folder))


def test_damaged_recordings_stop_the_study_or_are_listed(spec, data_folder, folder):
    (folder / "site1" / "b.wav").write_bytes(b"RIFF damaged")
    with pytest.raises(BadDataset, match=r"1 of 4 recordings in .* cannot be used:\n  site1/b.wav: "):
        spec().folds(data_folder)
    dataset = spec(on_bad_clip="skip").open(data_folder)
    assert [left.file for left in dataset.left_out] == ["site1/b.wav"] and "site1/b.wav" not in {
        c.file for c in dataset.clips
    }


def test_a_share_of_the_segments_without_a_label_is_chosen_by_content(spec, data_folder, folder, tmp_path):
    rule = {"seconds": 0.5, "several_labels": False, "keep_empty": 0.5}

    def empty(dataset_spec):
        segments = dataset_spec._segments(data_folder)[1]
        return {
            (f.rsplit("/")[-1], s.start_s)
            for f, file_segments in segments.items()
            for s in file_segments
            if not s.labels
        }

    chosen = empty(spec(segment=rule))
    everything = empty(spec(segment={**rule, "keep_empty": 1}))
    assert 0.3 * len(everything) < len(chosen) < 0.7 * len(everything)
    moved = folder.rename(tmp_path / "moved")
    assert empty(AnnotatedRecordings(path=moved, segment=rule)) == chosen


def test_one_annotation_file_may_name_all_recordings(spec, data_folder, folder, tmp_path):
    path = tmp_path / "all.csv"
    lines = [
        f"{name}.{'mp3' if name.endswith('c') else 'wav'},{s},{e},{label}"
        for name, events in EVENTS.items()
        for s, e, label in events
    ]
    path.write_text("file,start,end,label\n" + "\n".join(lines))
    assert rows(spec(annotations=path).open(data_folder)) == rows(spec().open(data_folder))
    assert rows(spec(annotations=[path], format="table").open(data_folder)) == rows(spec().open(data_folder))


def test_audacity_tracks_beside_recordings_are_found(data_folder, tmp_path, tone):
    for name in ("x", "y"):
        tone(tmp_path / f"{name}.wav", 4, RATE)
        (tmp_path / f"{name}.txt").write_text(AUDACITY)
    (tmp_path / "README.txt").write_text("These recordings are mine.\n")
    rule = {"seconds": 1, "min_overlap_s": 0.5, **CLEAN}
    dataset = AnnotatedRecordings(path=tmp_path, n_folds=2, segment=rule).open(data_folder)
    # wren is in 1-2 (0.5 s) only; robin song is in 2-3; the click at 3 s belongs to 3-4
    assert {(c.start_s, c.label) for c in dataset.clips} == {(1, "wren"), (2, "robin song"), (3, "click")}


@pytest.mark.slow
def test_a_study_of_segments_decodes_each_recording_once_and_checks_its_content(
    folder, data_folder, monkeypatch, tmp_path
):
    frames = Counter()
    real = soundfile.SoundFile.read

    def read(sound, *arguments, **options):
        samples = real(sound, *arguments, **options)
        frames[sound.format] += len(samples)
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    monkeypatch.setattr(audio, "OPEN_RECORDINGS", RecordingPool())
    values = {
        "name": "field",
        "dataset": {
            "kind": "annotated_recordings",
            "path": str(folder),
            "n_folds": 2,
            "segment": {"seconds": 1, "hop_s": 0.25, **CLEAN},
        },
        "encoders": {"bands": {"kind": "scripted", "dimensions": 4}},
        "classifiers": {"knn": {"kind": "knn", "encoder": "bands", "k": 1}},
    }
    study = tmp_path / "field.yaml"
    study.write_text(yaml.safe_dump(values))
    assert not run_study(Graph(load_study(study), data_folder)).failed
    clips = query(
        data_folder, "SELECT file, start_s, end_s, duration_s, fold, source, label FROM clips ORDER BY clip"
    ).to_pylist()
    predictions = query(data_folder, "SELECT clip FROM predictions").to_pylist()
    assert len(clips) == len(predictions) > 40
    assert all(
        row["duration_s"] == 1 and row["end_s"] - row["start_s"] == 1 and row["source"] == row["file"] for row in clips
    )
    assert len({(row["source"], row["fold"]) for row in clips}) == 4
    # c.mp3 has 10 s and segments from 0 s to 8 s; the other steps find it decoded.
    assert 8 * RATE <= frames["MP3"] <= 10 * RATE
    # WAV is read where its segments are.
    assert frames["WAV"] == 2 * RATE * sum(row["file"].endswith(".wav") for row in clips)

    before = (
        Graph(load_study(study), data_folder).input_assets["dataset"].versions(ResultStore(data_folder.result_store))
    )
    soundfile.write(folder / "site2" / "d.wav", np.zeros(10 * RATE), RATE)
    after = (
        Graph(load_study(study), data_folder).input_assets["dataset"].versions(ResultStore(data_folder.result_store))
    )
    [changed] = {row["fold"] for row in clips if row["file"] == "site2/d.wav"}
    assert {fold for fold in before if before[fold] != after[fold]} == {changed}


@pytest.mark.slow
def test_segments_with_any_number_of_labels_are_for_the_task_multi_label(folder, data_folder, tmp_path):
    study = tmp_path / "field.yaml"
    values = {
        "name": "field",
        "dataset": {"kind": "annotated_recordings", "path": str(folder), "n_folds": 2, "segment": {"seconds": 2}},
        "encoders": {"bands": {"kind": "scripted", "dimensions": 4}},
        "classifiers": {"knn": {"kind": "knn", "encoder": "bands", "k": 1}},
    }
    study.write_text(yaml.safe_dump(values))
    with pytest.raises(BadDataset, match="in the task single_label every clip needs exactly one class"):
        run_study(Graph(load_study(study), data_folder))
    study.write_text(yaml.safe_dump({**values, "name": "field_labels", "task": "multi_label"}))
    assert not run_study(Graph(load_study(study), data_folder)).failed
    [counts] = query(
        data_folder, "SELECT count(DISTINCT clip) clips, count(*) predictions FROM multi_label_predictions"
    ).to_pylist()
    assert counts == {"clips": 20, "predictions": 40}  # 4 recordings of 10 s in segments of 2 s, for 2 classes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "ravn"}, "got 'ravn'; did you mean 'raven'"),
        ({"source": "site"}, "source must have a group"),
        ({"source": "("}, "source must be a regular expression"),
        ({"segment": {"second": 5}}, "second"),
    ],
)
def test_impossible_values_are_refused(spec, fields, message):
    with pytest.raises(ValidationError, match=message):
        spec(**fields)


def test_without_recordings_or_annotations_nothing_is_guessed(data_folder, tmp_path, tone):
    with pytest.raises(BadDataset, match="contains no recordings"):
        AnnotatedRecordings(path=tmp_path).open(data_folder)
    tone(tmp_path / "a.wav")
    with pytest.raises(BadDataset, match="no annotation file was recognised; name the files in `annotations`"):
        AnnotatedRecordings(path=tmp_path).open(data_folder)
    (tmp_path / "a.txt").write_text("no annotations")
    with pytest.raises(BadDataset, match=r"the format of .*a\.txt is not recognised"):
        AnnotatedRecordings(path=tmp_path, annotations=tmp_path / "a.txt").open(data_folder)
    with pytest.raises(BadDataset, match=r"b\.txt does not exist; correct `annotations`"):
        AnnotatedRecordings(path=tmp_path, annotations=tmp_path / "b.txt").open(data_folder)
    tone(tmp_path / "a.flac")
    with pytest.raises(BadDataset, match=r"must have different names without their suffix, got a\.flac and a\.wav"):
        AnnotatedRecordings(path=tmp_path).open(data_folder)
