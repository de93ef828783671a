"""Conformance of every registered dataset. A new dataset that reads files needs an entry in `SPECS`."""

import ast
import csv
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

import vlm_audio_pipeline
from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.base import DATASETS, DatasetSpec, annotation_files
from vlm_audio_pipeline.datasets.class_names import class_name
from vlm_audio_pipeline.datasets.esc_classes import ESC10_FOLDERS
from vlm_audio_pipeline.evaluation.published import published_results
from vlm_audio_pipeline_tests.datasets.clip_rows import typed_row
from vlm_audio_pipeline_tests.datasets.hub_folders import AUDIO_AND_LABEL, save_to_disk

PACKAGE = Path(vlm_audio_pipeline.__file__).parent
KINDS = sorted(DATASETS.all())


def esc10_files(root: Path, tone) -> dict[str, object]:
    for i, folder in enumerate(ESC10_FOLDERS):
        for fold in (1, 2):
            tone(root / folder / f"{fold}-{100 * fold + i}-A.ogg", 0.1)
    return {"path": root}


def esc50_files(root: Path, tone) -> dict[str, object]:
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for target, label in ((0, "dog"), (14, "chirping_birds")):
        for fold in (1, 2):
            tone(root / "audio" / f"{fold}-{fold}{target}-A-{target}.wav", 0.1)
            lines.append(f"{fold}-{fold}{target}-A-{target}.wav,{fold},{target},{label},{not target},{fold}{target},A")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return {"path": root}


def csv_files(root: Path, tone) -> dict[str, object]:
    rows = [(f"{label}{fold}.wav", label, fold) for label in "ab" for fold in (1, 2)]
    for file, _, _ in rows:
        tone(root / file, 0.1)
    with (root / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "fold"), *rows])
    return {"path": root / "clips.csv"}


def folder_files(root: Path, tone) -> dict[str, object]:
    for label in "ab":
        for i in range(2):
            tone(root / label / f"{i}.wav", 0.1)
    return {"path": root, "n_folds": 2}


def recordings_files(root: Path, tone) -> dict[str, object]:
    for name in "cd":
        tone(root / f"{name}.wav", 2)
        (root / f"{name}.txt").write_text("0\t1\ta\n1\t2\tb\n")  # an Audacity label track
    return {"path": root, "n_folds": 2, "segment": {"seconds": 1}}


def urbansound8k_files(root: Path, tone) -> dict[str, object]:
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for class_id, label in ((0, "air_conditioner"), (3, "dog_bark")):
        for fold in (1, 2, 10):
            tone(root / "audio" / f"fold{fold}" / f"{fold}{class_id}-{class_id}-0-0.wav", 0.1)
            lines.append(f"{fold}{class_id}-{class_id}-0-0.wav,{fold}{class_id},0.0,0.1,1,{fold},{class_id},{label}")
    (root / "metadata").mkdir()
    (root / "metadata" / "UrbanSound8K.csv").write_text("\n".join(lines) + "\n")
    return {"path": root}


def fsd50k_files(root: Path, tone) -> dict[str, object]:
    (root / "FSD50K.ground_truth").mkdir(parents=True)
    (root / "FSD50K.ground_truth" / "vocabulary.csv").write_text("0,Bark,/m/05tny_\n1,Gong,/m/0mbct\n")
    mids = {"Bark": "/m/05tny_", "Gong": "/m/0mbct"}
    rows = {"dev": ["fname,labels,mids,split"], "eval": ["fname,labels,mids"]}
    for number, (label, split) in enumerate((label, split) for label in mids for split in ("train", "val", "eval")):
        part, suffix = ("eval", "") if split == "eval" else ("dev", f",{split}")
        tone(root / f"FSD50K.{part}_audio" / f"{number}.wav", 0.1)
        rows[part].append(f"{number},{label},{mids[label]}{suffix}")
    for part, lines in rows.items():
        (root / "FSD50K.ground_truth" / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return {"path": root}


def icbhi_files(root: Path, tone) -> dict[str, object]:
    parts = []
    for patient, part in ((101, "train"), (102, "test")):
        name = f"{patient}_1b1_Al_sc_Meditron"
        tone(root / "ICBHI_final_database" / f"{name}.wav", 2, 4000)
        (root / "ICBHI_final_database" / f"{name}.txt").write_text("0.0\t1.0\t0\t0\n1.0\t1.9\t1\t0\n")
        parts.append(f"{name}\t{part}")
    (root / "ICBHI_challenge_train_test.txt").write_text("\n".join(parts) + "\n")
    return {"path": root}


def huggingface_files(root: Path, tone) -> dict[str, object]:
    for i in range(4):
        tone(root / f"{i}.wav", 0.1)
    rows = [
        {"audio": {"bytes": (root / f"{i}.wav").read_bytes(), "path": f"{i}.wav"}, "label": i % 2} for i in range(4)
    ]
    save_to_disk(root / "saved", rows, AUDIO_AND_LABEL)
    return {"path": root / "saved", "n_folds": 2}


SPECS: dict[str, Callable[[Path, Callable], dict[str, object]]] = {
    "csv": csv_files,
    "esc10": esc10_files,
    "esc50": esc50_files,
    "folder": folder_files,
    "huggingface_folder": huggingface_files,
    "fsd50k": fsd50k_files,
    "icbhi": icbhi_files,
    "urbansound8k": urbansound8k_files,
    "annotated_recordings": recordings_files,
    "soundscape": lambda root, tone: {"recordings": 8, "duration_s": 10, "events_per_minute": 60, "n_folds": 2},
    "synthetic": lambda root, tone: {"clips": 20, "takes": 1, "n_folds": 2, "duration_s": 1},
}


@pytest.fixture(params=KINDS)
def spec(request, tmp_path, tone) -> DatasetSpec:
    """The spec of each registered dataset, with a few files if it reads files."""
    make = SPECS.get(request.param, lambda root, tone: {})
    return DATASETS.get(request.param)(**make(tmp_path / "files", tone))


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_card_is_complete(kind):
    card = DATASETS.get(kind).card
    assert card.title and card.title == card.title.strip()
    if card.published_name:
        assert card.published_name in {result.dataset for result in published_results()}
        assert card.published_name in (card.collections or ())
        assert card.licence and re.match("https?://", card.url) and "@" in card.citation
    if card.download_bytes:
        assert card.licence and re.match("https?://", card.url)


@pytest.mark.parametrize("kind", KINDS)
def test_class_names_are_unambiguous(kind):
    names = DATASETS.get(kind).card.classes()
    phrases = [phrase for c in names for phrase in (c.readable_name, *c.synonyms)]
    assert len(set(phrases)) == len(phrases), "no word or phrase may occur twice"
    for c in names:
        assert c.description.strip() and all(s == s.lower().strip() for s in c.synonyms)
        assert class_name(c.name) == c, "datasets that share a class must use the same words for it"


@pytest.mark.parametrize("name", sorted(annotation_files()))
def test_annotation_files_are_inside_the_dataset_and_others_are_refused(name, tmp_path):
    file = annotation_files()[name]
    assert not PurePosixPath(file.file).is_absolute() and ".." not in PurePosixPath(file.file).parts
    other = tmp_path / PurePosixPath(file.file).name
    other.write_bytes(b"something else")
    with pytest.raises(BadDataset, match="is not the spreadsheet"):
        file.read(other)


def test_names_of_annotation_files_are_unique():
    names = [name for dataset in DATASETS.all().values() for name in dataset.card.annotations]
    assert len(set(names)) == len(names)


def test_an_opened_dataset_has_the_announced_folds(spec, data_folder):
    announced = spec.folds(data_folder)
    dataset = spec.open(data_folder)
    assert spec.folds(data_folder) == announced == dataset.folds == tuple(sorted(dataset.folds))
    assert spec.is_local(data_folder) and spec.download_size(data_folder) == 0
    assert [c.id for c in dataset.clips] == sorted(c.id for c in dataset.clips)
    assert {name for c in dataset.clips for name in c.class_names} == set(dataset.classes)
    assert dataset.card.title
    names_on_card = {c.name for c in spec.card.classes()}
    assert not names_on_card or set(dataset.classes) <= names_on_card


def test_samples_of_each_clip_are_read_at_any_rate(spec, data_folder):
    dataset = spec.open(data_folder)
    clip = dataset.clips[0]
    row = typed_row(dataset, clip)
    for rate in (8000, row.sample_rate_hz):
        samples = dataset.samples(row, rate)
        assert samples.dtype == "float32" and samples.shape == (round(row.duration_s * rate),)


def test_the_classes_of_the_study_are_used_in_their_order(spec, data_folder):
    last, first = spec.open(data_folder).classes[-1], spec.open(data_folder).classes[0]
    chosen = spec.model_copy(update={"classes": (last, first)}).open(data_folder)
    assert chosen.classes == (last, first) and {n for c in chosen.clips for n in c.class_names} == {first, last}


def test_the_path_of_a_dataset_does_not_change_its_fingerprint(spec):
    if "path" in type(spec).model_fields:
        assert spec.model_copy(update={"path": Path("/elsewhere/listing")}).fingerprint() == spec.fingerprint()
    assert type(spec)(**{**spec.model_dump(), "name": "other"}).fingerprint() == spec.fingerprint()


def test_no_other_folder_names_a_dataset_in_code():
    """A new dataset is one file, so no other folder may compare with a kind or a published name."""
    names = {*KINDS, *(card.published_name for kind in KINDS if (card := DATASETS.get(kind).card))} - {
        "",
        "csv",
        "folder",
    }
    offenders = []
    for path in sorted(PACKAGE.rglob("*.py")):
        folder, file = path.relative_to(PACKAGE).parts[0], str(path.relative_to(PACKAGE))
        if folder in ("datasets", "demo_models"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in names:
                offenders.append((file, node.value))
    # A study of that name, and what the card of a model says about its training data.
    allowed = {("dagster_app/definitions.py", "esc10"), ("encoders/clap.py", "ESC-50"), ("encoders/clap.py", "ESC-10")}
    assert set(offenders) <= allowed
