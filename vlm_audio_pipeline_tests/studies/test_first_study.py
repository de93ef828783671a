import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.cli.run_view import run_and_show
from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.first_study import MODEL, copy_built_in_study, write_first_study
from vlm_audio_pipeline.studies.loading import built_in_studies, load_study


@pytest.fixture
def listing(tmp_path):
    """Return a function that writes a CSV file from a header and rows."""

    def write(header: str, *rows: str, name: str = "clips.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


@pytest.fixture
def recordings(tmp_path):
    """Return a listing of 24 recordings in 3 folds: a hum at about 100 Hz, or white noise."""
    rng = np.random.default_rng(0)
    t = np.arange(4000) / 8000
    lines = ["file,category,fold,src_file,microphone,remark"]
    (tmp_path / "audio").mkdir()
    for i in range(24):
        label, microphone = ("hum", "near") if i % 2 else ("hiss", "far")
        sound = np.sin(2 * np.pi * (100 + i) * t) if label == "hum" else rng.standard_normal(t.size)
        soundfile.write(tmp_path / "audio" / f"{i}.wav", 0.1 * sound, 8000)
        lines.append(f"audio/{i}.wav,{label},{i // 8 + 1},tape{i},{microphone},remark {i}")
    path = tmp_path / "My sounds.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_written_study_without_weights_runs_its_baselines(recordings, tmp_path):
    path = write_first_study(recordings)

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
    assert run_and_show(Graph(study, data_folder), ("knn", "probe", "leaderboard")) == 0
    sql = "SELECT classifier, correct, predictions, dataset_clips FROM leaderboard WHERE kind != 'reference' ORDER BY 1"
    rows = query(data_folder, sql).to_pylist()
    # a hum at 100 Hz and white noise cannot be confused
    janus = {"classifier": "janus", "correct": 0, "predictions": 0, "dataset_clips": 24}  # no weights: not run
    assert rows == [
        janus,
        *({"classifier": c, "correct": 24, "predictions": 24, "dataset_clips": 24} for c in ("knn", "probe")),
    ]
    counts = query(data_folder, "SELECT microphone, count(*) n FROM predictions GROUP BY 1 ORDER BY 1").to_pylist()
    assert counts == [{"microphone": "far", "n": 24}, {"microphone": "near", "n": 24}]


@pytest.mark.slow
def test_a_written_study_with_the_weights_of_its_model_runs_completely(recordings, tmp_path):
    """With the demo's tiny model instead of Janus-Pro. Its answers about these sounds have no meaning: they are counted."""
    path = write_first_study(recordings)
    text = path.read_text()
    assert text.count(f"model: {MODEL}") == 1
    path.write_text(text.replace(f"model: {MODEL}", "model: demo-janus"))
    data_folder = DataFolder(tmp_path / "data")
    graph = Graph(load_study(path), data_folder)
    # without UMAP, whose compilation takes longer than all the rest
    steps = [
        name for name, step in graph.steps.items() if not (step.stage.on_demand or step.stage.asset == "projections")
    ]
    assert run_and_show(graph, steps) == 0
    sql = "SELECT classifier, scoring, control, predictions, rank IS NULL AS is_unranked FROM leaderboard WHERE kind != 'reference'"
    rows = [tuple(row.values()) for row in query(data_folder, f"{sql} ORDER BY ALL").to_pylist()]
    assert rows == [
        ("janus", "generation", "blank", 24, True),
        ("janus", "generation", "none", 24, False),
        ("janus", "likelihood", "blank", 24, True),
        ("janus", "likelihood", "none", 24, False),
        ("knn", "score", "none", 24, False),
        ("probe", "score", "none", 24, False),
    ]
    sql = "SELECT scoring, against, against_control, clips FROM contrasts"
    assert [tuple(row.values()) for row in query(data_folder, sql).to_pylist()] == [
        ("likelihood", "chance", "none", 24),
        ("likelihood", "janus", "blank", 24),
        ("likelihood", "probe", "none", 24),
    ]
    verdicts = query(data_folder, "SELECT classifier, scoring FROM verdicts ORDER BY position").to_pylist()
    assert verdicts == [
        {"classifier": "janus", "scoring": "likelihood"},
        {"classifier": "janus", "scoring": "generation"},
    ]


def test_a_csv_without_folds_gets_a_number_of_folds_that_every_class_can_fill(listing, tmp_path):
    rows = [f"{i}.wav,{'hum' if i < 3 else 'hiss'}" for i in range(10)]
    study = load_study(write_first_study(listing("path,label", *rows)))
    assert study.dataset.n_folds == 3  # class hum has 3 recordings
    assert study.dataset.folds(DataFolder(tmp_path / "data")) == (1, 2, 3)
    many = [f"{i}.wav,{'hum' if i < 10 else 'hiss'}" for i in range(20)]
    assert load_study(write_first_study(listing("path,label", *many, name="many.csv"))).dataset.n_folds == 5


def test_a_fold_column_with_other_values_is_ignored(listing):
    path = write_first_study(listing("path,label,fold", "a.wav,x,train", "b.wav,y,test"))
    assert load_study(path).dataset.columns.fold is None


def test_only_group_columns_with_unused_names_become_extra_columns(listing):
    header = "path,label,Room: No.,id,same,SCORES,file"
    rows = [f"{i}.wav,{'ab'[i % 2]},{'big' if i < 4 else 'small'},{i},1,{i % 2},{i % 3}" for i in range(8)]
    assert load_study(write_first_study(listing(header, *rows))).dataset.keep == ("Room: No.",)


def test_a_study_in_another_folder_has_a_relative_path_to_the_csv(listing, tmp_path):
    csv = listing("path,label", "a.wav,x", "b.wav,y")
    path = write_first_study(csv, tmp_path / "studies" / "new.yaml")
    assert path == tmp_path / "studies" / "new.yaml"
    assert 'path: "../clips.csv"' in path.read_text()
    assert load_study(path).dataset.path.resolve() == csv.resolve()


@pytest.mark.parametrize(
    ("stem", "name"), [("demo", "my_demo"), ("2026 field", "my_2026_field"), ("Wälder (v2)", "w_lder_v2")]
)
def test_the_study_gets_an_unused_name(listing, stem, name):
    path = write_first_study(listing("path,label", "a.wav,x", "b.wav,y", name=f"{stem}.csv"))
    assert load_study(path).name == name


def test_unusual_column_names_are_quoted(listing):
    path = write_first_study(listing('"audio","class","group"', '"a.wav","yes","#1"', '"b.wav","no","#2"'))
    assert load_study(path).dataset.columns.label == "class"
    path = write_first_study(listing("Ton: # Datei,label", "a.wav,x", "b.wav,y", name="ton.csv"))
    assert load_study(path).dataset.columns.path == "Ton: # Datei"


def test_an_existing_file_is_not_overwritten(listing):
    csv = listing("path,label", "a.wav,x", "b.wav,y")
    path = write_first_study(csv)
    path.write_text("mine")
    with pytest.raises(BadStudy) as caught:
        write_first_study(csv)
    assert str(caught.value) == (f"{path} exists already; remove it, or choose another file with --out")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path,label", [], "has no rows below its header; write one row per clip"),
        ("path,sound", ["a.wav,x"], r"no column of the CSV \(path, sound\) seems to contain the label of each clip"),
    ],
)
def test_no_study_is_written_for_an_unusable_csv(listing, tmp_path, header, rows, message):
    with pytest.raises(BadDataset, match=message):
        write_first_study(listing(header, *rows))
    assert [p.name for p in tmp_path.iterdir()] == ["clips.csv"]


def assert_has_image_model_control_and_contrast(study):
    janus = study.classifiers["janus"]
    assert (janus.kind, janus.rendering, janus.controls) == ("language_model", "paper", ("blank",))
    assert "paper" in study.renderings
    assert study.contrasts[0].classifier == "janus"
    assert study.contrasts[0].against == ("chance", "janus@blank", "probe")


def test_a_first_study_has_an_image_a_vision_language_model_a_control_and_a_contrast(listing):
    assert_has_image_model_control_and_contrast(
        load_study(write_first_study(listing("path,label", "a.wav,x", "b.wav,y")))
    )


def test_a_first_study_from_a_folder(tmp_path):
    for label, count in (("dog", 7), ("cat", 3)):
        (tmp_path / "my sounds" / label).mkdir(parents=True)
        for i in range(count):
            soundfile.write(tmp_path / "my sounds" / label / f"{i}.wav", np.zeros(100), 8000)
    path = write_first_study(tmp_path / "my sounds")
    assert path == tmp_path / "my sounds.yaml"
    study = load_study(path)
    assert (study.name, study.dataset.kind, study.dataset.path) == ("my_sounds", "folder", tmp_path / "my sounds")
    assert study.dataset.n_folds == 3, "class cat has 3 recordings"
    assert len(study.dataset.open(DataFolder(tmp_path / "data")).clips) == 10
    assert_has_image_model_control_and_contrast(study)


def test_a_folder_with_a_listing_instead_of_class_folders_names_the_listing(listing, tmp_path):
    csv = listing("path,label", "a.wav,x", "b.wav,y")
    with pytest.raises(BadDataset, match=f"use `vlm-audio init {csv}`"):
        write_first_study(tmp_path)


@pytest.mark.parametrize("name", built_in_studies())
def test_a_copy_of_a_built_in_study_differs_only_in_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = copy_built_in_study(name)
    assert str(path) == f"my_{name}.yaml"
    copy, original = load_study(path).plain_values(), load_study(name).plain_values()
    assert copy == {**original, "name": f"my_{name}"}
    assert "# " in path.read_text(), "comments are kept"
    with pytest.raises(BadStudy, match="exists already"):
        copy_built_in_study(name)


AUDACITY_TRACK = "0.2\t1.8\twren\n2.1\t3.7\towl\n"


@pytest.mark.parametrize("names_file", [False, True])
def test_a_folder_of_annotated_recordings_or_its_file_becomes_a_study_that_loads(tmp_path, names_file, monkeypatch):
    monkeypatch.setenv("VLM_AUDIO_DATA", str(tmp_path / "data"))
    root = tmp_path / "field"
    root.mkdir()
    for name in "abc":
        soundfile.write(root / f"{name}.wav", 0.1 * np.random.default_rng(0).standard_normal(8000 * 4), 8000)
    if names_file:
        (root / "events.tsv").write_text(
            "filename\tonset\toffset\tevent_label\n"
            + "".join(f"{n}.wav\t0.2\t1.8\twren\n" for n in "abc")
            + "".join(f"{n}.wav\t2.1\t3.7\towl\n" for n in "abc")
        )
        path = write_first_study(root / "events.tsv")
        assert path == root / "events.yaml" and 'format: "dcase"' in path.read_text()
    else:
        for name in "abc":
            (root / f"{name}.txt").write_text(AUDACITY_TRACK)
        path = write_first_study(root)
        assert path == tmp_path / "field.yaml" and 'format: "audacity"' in path.read_text()
    text = path.read_text()
    assert (
        "  segment:  # segments without exactly one label are left out\n    seconds: 2.0\n" in text
    )  # 5 s and 3 s have both
    dataset = load_study(path).dataset
    assert dataset.kind == "annotated_recordings" and dataset.n_folds == 3
    clips = dataset.open(DataFolder(tmp_path / "data")).clips
    assert [(c.file, c.start_s, c.label) for c in clips][:2] == [("a.wav", 0, "wren"), ("a.wav", 2, "owl")] and len(
        clips
    ) == 6


def test_a_known_dataset_gets_its_own_kind(tmp_path):
    root = tmp_path / "UrbanSound8K"
    (root / "metadata").mkdir(parents=True)
    rows = [f"{i}-3-0-0.wav,{i},0,4,1,{i},3,dog_bark\n{i}-8-0-0.wav,{i},0,4,1,{i},8,siren\n" for i in range(1, 11)]
    (root / "metadata" / "UrbanSound8K.csv").write_text(
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n" + "".join(rows)
    )
    path = write_first_study(root)
    assert 'dataset:\n  kind: urbansound8k\n  path: "UrbanSound8K"  # UrbanSound8K\n' in path.read_text()
    assert load_study(path).dataset.folds(DataFolder(tmp_path / "data")) == tuple(range(1, 11))
