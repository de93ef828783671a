import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.fsd50k import Fsd50k

# The layout of the real files; the labels contain their ancestors.
VOCABULARY = "0,Animal,/m/0jbk\n1,Bark,/m/05tny_\n2,Guitar,/m/0342h\n3,Music,/m/04rlf\n"
DEV = """fname,labels,mids,split
64760,"Guitar,Music","/m/0342h,/m/04rlf",train
345111,"Bark,Animal","/m/05tny_,/m/0jbk",val
1,"Bark,Animal","/m/05tny_,/m/0jbk",train
3,"Bark,Guitar,Music,Animal","/m/05tny_,/m/0342h,/m/04rlf,/m/0jbk",val
"""
EVAL = 'fname,labels,mids\n37199,"Guitar,Music","/m/0342h,/m/04rlf"\n'


@pytest.fixture
def folder(tmp_path):
    """A small copy without recordings."""
    truth = tmp_path / "FSD50K.ground_truth"
    truth.mkdir()
    for name, text in (("vocabulary", VOCABULARY), ("dev", DEV), ("eval", EVAL)):
        (truth / f"{name}.csv").write_text(text)
    return tmp_path


def test_official_splits_are_folds_and_files_are_in_their_folders(folder, data_folder):
    spec = Fsd50k(path=folder, classes=("Guitar", "Bark"), several_labels=False)
    dataset = spec.open(data_folder)
    assert [(c.id, c.label, c.fold, c.file) for c in dataset.clips] == [
        ("1", "Bark", 1, "FSD50K.dev_audio/1.wav"),
        ("345111", "Bark", 2, "FSD50K.dev_audio/345111.wav"),
        ("37199", "Guitar", 3, "FSD50K.eval_audio/37199.wav"),
        ("64760", "Guitar", 1, "FSD50K.dev_audio/64760.wav"),
    ]
    assert dataset.classes == ("Guitar", "Bark") and spec.folds(data_folder) == (1, 2, 3)
    assert "CC BY" in dataset.card.licence and "10.1109/TASLP.2021.3133208" in dataset.card.citation


def test_clips_have_all_their_labels(folder, data_folder):
    clips = {c.id: c.labels for c in Fsd50k(path=folder).open(data_folder).clips}
    assert clips["3"] == ("Animal", "Bark", "Guitar", "Music") and clips["64760"] == ("Guitar", "Music")
    selected = {c.id: c.labels for c in Fsd50k(path=folder, classes=("Guitar", "Bark")).open(data_folder).clips}
    assert selected["3"] == ("Bark", "Guitar") and selected["1"] == ("Bark",)


def test_mistakes_are_told_with_file_and_line(folder, data_folder, tmp_path):
    with pytest.raises(
        BadDataset, match="`classes` must be classes of the dataset, got 'Gitar'; did you mean 'Guitar'"
    ):
        Fsd50k(path=folder, classes=("Gitar", "Bark")).open(data_folder)
    dev = folder / "FSD50K.ground_truth" / "dev.csv"
    dev.write_text(DEV.replace("train", "training", 1))
    with pytest.raises(
        BadDataset, match=r"dev\.csv, line 2, column 'split': the split must be train or val, got 'training'"
    ):
        Fsd50k(path=folder).folds(data_folder)
    dev.write_text(DEV.replace("train", "eval", 1))
    with pytest.raises(
        BadDataset, match=r"dev\.csv, line 2, column 'split': the split must be train or val, got 'eval'"
    ):
        Fsd50k(path=folder).folds(data_folder)
    dev.write_text(DEV)
    truth = folder / "FSD50K.ground_truth" / "eval.csv"
    truth.write_text(DEV.splitlines()[0] + '\n37199,"Guitar,Music","/m/0342h,/m/04rlf",train\n')
    with pytest.raises(BadDataset, match=r"eval\.csv, line 2, column 'split': the split must be eval, got 'train'"):
        Fsd50k(path=folder).folds(data_folder)
    truth.write_text(EVAL)
    dev.write_text(DEV.replace("Guitar,Music", "Guitarre,Music", 1))
    with pytest.raises(
        BadDataset,
        match=r"dev\.csv, line 2, column 'labels': 'Guitarre' is not in .*vocabulary\.csv; did you mean 'Guitar'",
    ):
        Fsd50k(path=folder).folds(data_folder)
    dev.unlink()
    with pytest.raises(BadDataset, match=r"has no FSD50K\.ground_truth/dev\.csv, so it is not FSD50K"):
        Fsd50k(path=folder).folds(data_folder)
