import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.class_names import class_name, class_synonyms
from vlm_audio_pipeline.datasets.urbansound8k import LABELS, UrbanSound8K

HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"
# The first lines of the real file, a third recording, and one of another fold.
LINES = (
    "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark",
    "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing",
    "100263-2-0-121.wav,100263,60.5,64.5,1,5,2,children_playing",
    "7061-3-0-0.wav,7061,0,4,1,10,3,dog_bark",
    "7062-2-0-0.wav,7062,0,4,1,10,2,children_playing",
)


def write(folder, *lines):
    (folder / "metadata").mkdir(exist_ok=True)
    (folder / "metadata" / "UrbanSound8K.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return UrbanSound8K(path=folder)


def test_slices_have_their_official_folds_and_recordings(tmp_path, data_folder):
    spec = write(tmp_path, *LINES)
    dataset = spec.open(data_folder)
    assert [(c.id, c.label, c.fold, c.source, c.file) for c in dataset.clips][1:3] == [
        ("100263-2-0-117", "children_playing", 5, "100263", "audio/fold5/100263-2-0-117.wav"),
        ("100263-2-0-121", "children_playing", 5, "100263", "audio/fold5/100263-2-0-121.wav"),
    ]
    assert dataset.classes == ("children_playing", "dog_bark")  # in the order of their ids
    assert spec.folds(data_folder) == (5, 10)
    assert "CC BY-NC" in dataset.card.licence and "10.1145/2647868.2655045" in dataset.card.citation


def test_ten_classes_have_words():
    assert len(LABELS) == 10
    for label in LABELS:
        assert class_name(label).description.endswith(".") and class_synonyms(label, LABELS) == ()


def test_another_folder_and_another_class_are_refused(tmp_path, data_folder):
    with pytest.raises(BadDataset, match=r"has no metadata/UrbanSound8K\.csv"):
        UrbanSound8K(path=tmp_path).open(data_folder)
    with pytest.raises(BadDataset, match=r"line 2: the class must be one of air_conditioner, .*, got 'cat'"):
        write(tmp_path, LINES[0].replace("dog_bark", "cat")).open(data_folder)
