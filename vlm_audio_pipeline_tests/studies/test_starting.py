import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.cli.run_view import run_and_show
from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline.studies.starting import write_starting_study


@pytest.fixture
def listing(tmp_path):
    """Write a csv: `listing(header, rows, name)`."""

    def write(header: str, *rows: str, name: str = "clips.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def test_the_study_runs_end_to_end(tmp_path):
    rng = np.random.default_rng(0)
    t = np.arange(4000) / 8000
    lines = ["file,category,fold,src_file,microphone,remark"]
    (tmp_path / "audio").mkdir()
    for i in range(24):
        label, microphone = ("hum", "near") if i % 2 else ("hiss", "far")
        sound = np.sin(2 * np.pi * (100 + i) * t) if label == "hum" else rng.standard_normal(t.size)
        soundfile.write(tmp_path / "audio" / f"{i}.wav", 0.1 * sound, 8000)
        lines.append(f"audio/{i}.wav,{label},{i // 8 + 1},tape{i},{microphone},remark {i}")
    (tmp_path / "My sounds.csv").write_text("\n".join(lines) + "\n")

    path = write_starting_study(tmp_path / "My sounds.csv")

    assert path == tmp_path / "My sounds.yaml"
    study = load_study(path)
    assert study.name == "my_sounds"
    assert study.dataset.columns.model_dump(exclude_none=True) == {
        "path": "file",
        "label": "category",
        "fold": "fold",
        "source": "src_file",
    }
    assert study.dataset.keep == ("microphone",)
    data_folder = DataFolder(tmp_path / "data")
    assert run_and_show(Graph(study, data_folder)) == 0
    sql = "SELECT classifier, correct, predictions, dataset_clips FROM leaderboard WHERE kind != 'reference' ORDER BY 1"
    rows = query(data_folder, sql).to_pylist()
    # a hum at 100 Hz and white noise cannot be confused
    assert rows == [{"classifier": c, "correct": 24, "predictions": 24, "dataset_clips": 24} for c in ("knn", "probe")]
    counts = query(data_folder, "SELECT microphone, count(*) n FROM predictions GROUP BY 1 ORDER BY 1").to_pylist()
    assert counts == [{"microphone": "far", "n": 24}, {"microphone": "near", "n": 24}]


def test_a_csv_without_folds_gets_as_many_as_every_class_can_fill(listing, tmp_path):
    rows = [f"{i}.wav,{'hum' if i < 3 else 'hiss'}" for i in range(10)]
    study = load_study(write_starting_study(listing("path,label", *rows)))
    assert study.dataset.n_folds == 3  # the 3 recordings of a hum
    assert study.dataset.folds(DataFolder(tmp_path / "data")) == (1, 2, 3)
    many = [f"{i}.wav,{'hum' if i < 10 else 'hiss'}" for i in range(20)]
    assert load_study(write_starting_study(listing("path,label", *many, name="many.csv"))).dataset.n_folds == 5


def test_a_fold_column_with_other_values_is_ignored(listing):
    path = write_starting_study(listing("path,label,fold", "a.wav,x,train", "b.wav,y,test"))
    assert load_study(path).dataset.columns.fold is None


def test_only_columns_of_groups_with_free_names_are_kept(listing):
    header = "path,label,Room: No.,id,same,SCORES,file"
    rows = [f"{i}.wav,{'ab'[i % 2]},{'big' if i < 4 else 'small'},{i},1,{i % 2},{i % 3}" for i in range(8)]
    assert load_study(write_starting_study(listing(header, *rows))).dataset.keep == ("Room: No.",)


def test_a_study_in_another_folder_finds_the_csv(listing, tmp_path):
    csv = listing("path,label", "a.wav,x", "b.wav,y")
    path = write_starting_study(csv, tmp_path / "studies" / "new.yaml")
    assert path == tmp_path / "studies" / "new.yaml"
    assert 'path: "../clips.csv"' in path.read_text()
    assert load_study(path).dataset.path.resolve() == csv.resolve()


@pytest.mark.parametrize(
    ("stem", "name"), [("demo", "my_demo"), ("2026 field", "my_2026_field"), ("Wälder (v2)", "w_lder_v2")]
)
def test_the_study_gets_an_unused_name(listing, stem, name):
    path = write_starting_study(listing("path,label", "a.wav,x", "b.wav,y", name=f"{stem}.csv"))
    assert load_study(path).name == name


def test_strange_column_names_are_quoted(listing):
    path = write_starting_study(listing('"audio","class","group"', '"a.wav","yes","#1"', '"b.wav","no","#2"'))
    assert load_study(path).dataset.columns.label == "class"
    path = write_starting_study(listing("Ton: # Datei,label", "a.wav,x", "b.wav,y", name="ton.csv"))
    assert load_study(path).dataset.columns.path == "Ton: # Datei"


def test_nothing_is_overwritten(listing):
    csv = listing("path,label", "a.wav,x", "b.wav,y")
    path = write_starting_study(csv)
    path.write_text("mine")
    with pytest.raises(BadStudy) as caught:
        write_starting_study(csv)
    assert str(caught.value) == (f"{path} exists already; remove it, or choose another file with --out")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path,label", [], "must have at least one row below its header, got none; write one row per clip"),
        ("path,sound", ["a.wav,x"], "must have a column with the label of each clip, got none among path, sound"),
    ],
)
def test_an_unusable_csv_writes_nothing(listing, tmp_path, header, rows, message):
    with pytest.raises(BadDataset, match=message):
        write_starting_study(listing(header, *rows))
    assert [p.name for p in tmp_path.iterdir()] == ["clips.csv"]
