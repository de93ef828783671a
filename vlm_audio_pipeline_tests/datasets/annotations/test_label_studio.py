import json

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.events import Event, ReadOptions
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats, read_annotations


def region(start, end, *labels):
    return {"type": "labels", "value": {"start": start, "end": end, "labels": list(labels)}}


def write(path, *annotations):
    path.write_text(json.dumps([{"id": 1, "data": {"audio": "a.wav"}, "annotations": list(annotations)}]))
    return path


def test_a_task_with_two_annotations_is_refused_unless_one_is_ground_truth(tmp_path):
    first, second = {"result": [region(0, 1, "x")]}, {"result": [region(0, 2, "y")]}
    with pytest.raises(BadDataset, match=r"task 1: 'a\.wav' was annotated several times; export one annotation"):
        read_annotations(write(tmp_path / "a.json", first, second))
    path = write(tmp_path / "b.json", first, {**second, "ground_truth": True})
    assert read_annotations(path).events == (Event("a.wav", 0, 2, "y"),)


def test_cancelled_annotations_do_not_count(tmp_path):
    path = write(tmp_path / "a.json", {"result": [region(0, 1, "x")], "was_cancelled": True}, {"result": []})
    assert read_annotations(path).events == () and read_annotations(path).recordings == {"a.wav"}


def test_json_min_is_read(tmp_path):
    path = tmp_path / "a.json"
    task = {
        "audio": "s3://bucket/x/a.wav",
        "id": 1,
        "label": [{"start": 0, "end": 1, "labels": ["x"]}],
        "annotation_id": 3,
    }
    path.write_text(json.dumps([task]))
    assert read_annotations(path).events == (Event("a.wav", 0, 1, "x"),)


def test_the_digits_of_an_upload_are_no_part_of_the_name():
    assert annotation_formats()["label_studio"].aliases("d3886e88-yard.mp3") == ("yard.mp3",)
    assert annotation_formats()["label_studio"].aliases("yard.mp3") == ()


def json_min(path, *tasks):
    path.write_text(json.dumps([{"audio": f"{i}.wav", "annotation_id": i, **task} for i, task in enumerate(tasks, 1)]))
    return path


REGIONS = [{"start": 0, "end": 1, "labels": ["x"]}]


def test_the_regions_of_json_min_are_under_the_name_of_their_control(tmp_path):
    # Label Studio leaves the field out of a task without regions
    path = json_min(tmp_path / "a.json", {"labels": REGIONS}, {})
    assert read_annotations(path).events == (Event("1.wav", 0, 1, "x"),)
    assert read_annotations(path).recordings == {"1.wav", "2.wav"}
    path = json_min(tmp_path / "b.json", {"species": REGIONS}, {})
    with pytest.raises(
        BadDataset,
        match=r"b\.json: no task has a field `label` or `labels` with the regions, got annotation_id, audio, species; name the control",
    ):
        read_annotations(path)
    assert read_annotations(path, None, ReadOptions("species")).events == (Event("1.wav", 0, 1, "x"),)
    with pytest.raises(BadDataset, match="must name a field with regions, got 'specie'; did you mean 'species'"):
        read_annotations(path, None, ReadOptions("specie"))
    path = json_min(tmp_path / "c.json", {"label": REGIONS}, {"labels": REGIONS})
    with pytest.raises(BadDataset, match="the regions may be in `label` or `labels`; name one of them"):
        read_annotations(path)


def test_choices_are_not_read_as_a_recording_without_events(tmp_path):
    choice = {"type": "choices", "from_name": "quality", "value": {"choices": ["good"]}}
    path = write(tmp_path / "a.json", {"result": [{**region(0, 1, "x"), "from_name": "species"}, choice]})
    with pytest.raises(
        BadDataset, match="task 1: the control 'quality' is a choice, but only labels of regions are read"
    ):
        read_annotations(path)
    assert read_annotations(path, None, ReadOptions("species")).events == (Event("a.wav", 0, 1, "x"),)
    with pytest.raises(BadDataset, match="must name a control with labels of regions, got 'quality'; options: species"):
        read_annotations(path, None, ReadOptions("quality"))


def test_label_column_chooses_among_the_controls_of_json(tmp_path):
    results = [{**region(0, 1, "wren"), "from_name": "species"}, {**region(2, 3, "song"), "from_name": "call"}]
    path = write(tmp_path / "a.json", {"result": results})
    assert [e.label for e in read_annotations(path).events] == ["wren", "song"]
    assert [e.label for e in read_annotations(path, None, ReadOptions("call")).events] == ["song"]
