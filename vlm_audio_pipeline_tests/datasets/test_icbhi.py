import duckdb
import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.icbhi import Icbhi, icbhi_classes
from vlm_audio_pipeline_tests.pages import blocks

CYCLES = "0.036\t0.579\t0\t0\n0.579\t2.45\t1\t0\n2.45\t3.893\t0\t1\n3.893\t5.793\t1\t1\n"
# Names of the real database; patient 156 has recordings in both parts of the official split.
PARTS = {
    "101_1b1_Al_sc_Meditron": "test",
    "103_2b2_Ar_mc_LittC2SE": "train",
    "156_2b3_Al_mc_AKGC417L": "test",
    "156_2b3_Ar_mc_AKGC417L": "train",
}


@pytest.fixture
def folder(tmp_path):
    """A small copy with empty recordings."""
    audio = tmp_path / "ICBHI_final_database"
    audio.mkdir()
    for name in PARTS:
        (audio / f"{name}.wav").touch()
        (audio / f"{name}.txt").write_text(CYCLES)
    (tmp_path / "ICBHI_challenge_train_test.txt").write_text(
        "".join(f"{name}\t{part}\n" for name, part in PARTS.items())
    )
    return tmp_path


def test_each_cycle_is_a_clip_with_the_class_of_the_challenge(folder, data_folder):
    dataset = Icbhi(path=folder).open(data_folder)
    assert [(c.label, c.start_s, c.end_s) for c in dataset.clips[:4]] == [
        ("normal_breathing", 0.036, 0.579),
        ("crackle", 0.579, 2.45),
        ("wheeze", 2.45, 3.893),
        ("crackle_and_wheeze", 3.893, 5.793),
    ]
    first = dataset.clips[0]
    assert (first.id, first.file) == (
        "101_1b1_Al_sc_Meditron@00000.036-00000.579",
        "ICBHI_final_database/101_1b1_Al_sc_Meditron.wav",
    )
    assert first.extra == {"chest_location": "Al", "equipment": "Meditron"}
    assert dataset.classes == tuple(name.name for name in icbhi_classes())
    assert "10.1007/978-981-10-7419-6_6" in dataset.card.citation


def test_the_official_split_has_two_folds_and_a_patient_in_both_counts_twice(folder, data_folder):
    clips = Icbhi(path=folder).open(data_folder).clips
    assert {(c.source, c.fold) for c in clips} == {("101", 2), ("103", 1), ("156 test", 2), ("156 train", 1)}
    assert Icbhi(path=folder).folds(data_folder) == (1, 2)


def test_folds_by_patient_have_each_patient_once(folder, data_folder):
    clips = Icbhi(path=folder, split="patients", n_folds=3).open(data_folder).clips
    assert {c.source for c in clips} == {"101", "103", "156"}
    assert len({(c.source, c.fold) for c in clips}) == 3


def test_mistakes_are_told_with_what_to_do(folder, data_folder, tmp_path):
    split = folder / "ICBHI_challenge_train_test.txt"
    split.write_text("101_1b1_Al_sc_Meditron\ttest\n")
    with pytest.raises(
        BadDataset, match="must name every recording, but 103_2b2_Ar_mc_LittC2SE and 2 others are missing"
    ):
        Icbhi(path=folder).open(data_folder)
    split.write_text("101_1b1_Al_sc_Meditron\tvalidation\n")
    with pytest.raises(BadDataset, match="line 1: a line must have a recording and train or test"):
        Icbhi(path=folder).open(data_folder)
    split.unlink()
    with pytest.raises(
        BadDataset, match=r"the official split; download it from https://bhichallenge.*or set `split: patients`"
    ):
        Icbhi(path=folder).open(data_folder)
    audio = folder / "ICBHI_final_database"
    (audio / "101_1b1_Al_sc_Meditron.txt").unlink()
    with pytest.raises(BadDataset, match=r"101_1b1_Al_sc_Meditron\.txt does not exist; complete the copy"):
        Icbhi(path=folder, split="patients").open(data_folder)
    (audio / "other.wav").touch()
    (audio / "101_1b1_Al_sc_Meditron.txt").write_text(CYCLES)
    with pytest.raises(BadDataset, match=r"other\.wav must be named <patient>_<index>_"):
        Icbhi(path=folder, split="patients").open(data_folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadDataset, match="contains no WAV files"):
        Icbhi(path=tmp_path / "empty").open(data_folder)


def test_the_documented_query_gives_the_score_of_the_challenge():
    # Normal: 3 of 4 right, specificity 0.75. Others: 2 of 5 right (a wheeze for a crackle is wrong, as is no answer), sensitivity
    # 0.4. The mean is 0.575; the failed request does not count.
    n, c, w, b = (class_name.name for class_name in icbhi_classes())
    labels = [n, n, n, n, c, c, w, b, b, c]
    predicted = [n, n, n, c, c, w, w, None, c, None]
    predictions = pa.table(
        {
            "study": ["demo"] * 10,
            "classifier": ["p"] * 10,
            "scoring": ["score"] * 10,
            "control": ["none"] * 10,
            "label": labels,
            "correct": [label == answer for label, answer in zip(labels, predicted, strict=True)],
            "outcome": ["answered"] * 7 + ["unparseable", "answered", "error"],
        }
    )
    [query] = [block for block in blocks("docs/sql.md", "sql") if "specificity" in block]
    with duckdb.connect() as connection:
        connection.register("predictions", predictions)
        assert connection.execute(query).fetchall() == [("p", "score", 0.4, 0.75, pytest.approx(0.575))]
