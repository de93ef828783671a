import json

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.events import Event
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
