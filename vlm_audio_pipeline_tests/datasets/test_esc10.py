import zipfile
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets import esc10
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.datasets.download import contents_digest
from vlm_audio_pipeline.datasets.esc10 import CONTENTS_SHA256, Esc10, legacy_listing
from vlm_audio_pipeline.datasets.esc_classes import ESC10, ESC10_FOLDERS
from vlm_audio_pipeline.datasets.inspection import clips_stage, sources_in_several_folds
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.datasets.clip_rows import typed_row


@pytest.fixture
def legacy(tmp_path, tone):
    """A copy in the legacy layout with two recordings for each class, in folds 1 and 2."""
    root = tmp_path / "legacy"
    for index, folder in enumerate(ESC10_FOLDERS):
        tone(root / folder / f"1-{100 + index}-A.ogg", 0.1)
        tone(root / folder / f"2-{200 + index}-B.ogg", 0.1)
    (root / "README.md").write_text("ESC-10")
    return root


@pytest.fixture
def archive(tmp_path, legacy):
    """URL of the same files packed by GitHub, inside one folder."""
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(p for p in legacy.rglob("*") if p.is_file()):
            file.write(member, f"ESC-10-553c8f1/{member.relative_to(legacy)}")
    return path.as_uri()


def test_the_legacy_layout_is_read(legacy, data_folder):
    spec = Esc10(path=legacy)
    data = spec.open(data_folder)
    assert data.classes == ESC10
    assert len(data.clips) == 20
    first = data.clips[0]
    assert (first.id, first.label, first.fold, first.source) == ("1-100-A", "dog", 1, "100")
    assert (first.file, first.extra) == ("001 - Dog bark/1-100-A.ogg", {"take": "A"})
    assert spec.folds(data_folder) == (1, 2)
    assert spec.download_size(data_folder) == 0
    assert data.samples(typed_row(data, first), 8000).shape == (800,)  # 0.1 s at 8 kHz


def test_the_esc50_layout_is_read(data_folder, tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-17150-A-12.wav,1,12,crackling_fire,True,17150,A\n"
        "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A\n"
        "2-100032-B-0.wav,2,0,dog,True,100032,B\n"
    )
    data = Esc10(path=tmp_path).open(data_folder)
    assert [(c.id, c.label, c.fold, c.source) for c in data.clips] == [
        ("1-17150-A-12", "crackling_fire", 1, "17150"),
        ("2-100032-B-0", "dog", 2, "100032"),
    ]
    assert data.clips[0].file == "audio/1-17150-A-12.wav"
    assert data.classes == ("dog", "crackling_fire")  # the order of the folders 001 and 010


def test_the_path_is_used_before_the_variable_and_the_variable_before_a_download(
    legacy, data_folder, tmp_path, monkeypatch
):
    assert Esc10().root(data_folder) == data_folder.datasets / "esc10"
    monkeypatch.setenv("ESC10_DIR", str(legacy))
    assert Esc10().root(data_folder) == legacy
    assert Esc10(path=tmp_path).root(data_folder) == tmp_path


def test_the_path_is_not_part_of_the_fingerprint(tmp_path):
    assert DATASETS.get("esc10") is Esc10
    assert Esc10().fingerprint() == Esc10(path=tmp_path, mirror="http://127.0.0.1/").fingerprint()
    assert Esc10(path=tmp_path).asset_name == "esc10"


def test_a_folder_with_neither_layout_is_refused(data_folder, tmp_path):
    with pytest.raises(BadDataset) as error:
        Esc10(path=tmp_path / "nowhere").open(data_folder)
    assert str(error.value) == (
        "ESC-10 must be a folder with '001 - Dog bark' to '010 - Fire crackling', or with meta/esc50.csv and audio/, "
        f"got neither in {tmp_path / 'nowhere'}, which does not exist; correct `path` or ESC10_DIR, or leave both out "
        "to download it"
    )


def test_an_incomplete_copy_is_refused(legacy, data_folder):
    for file in (legacy / "002 - Rain").iterdir():
        file.unlink()
    with pytest.raises(BadDataset, match=r"has no recordings in the folders \['002 - Rain'\]"):
        Esc10(path=legacy).open(data_folder)
    assert Esc10(path=legacy, classes=("dog", "rooster")).open(data_folder).classes == ("dog", "rooster")


def test_files_with_unexpected_names_are_reported(legacy, data_folder):
    (legacy / "002 - Rain" / "rain one.ogg").touch()
    (legacy / "002 - Rain" / "._1-100-A.ogg").touch()  # what macOS leaves in archives
    (legacy / "002 - Rain" / "notes.txt").touch()
    with pytest.raises(BadDataset, match=r"such as 1-100032-A.ogg, got 002 - Rain/rain one.ogg; rename or remove"):
        Esc10(path=legacy).open(data_folder)


def test_an_unknown_class_gets_a_suggestion(legacy, data_folder):
    with pytest.raises(BadDataset, match="got 'sea waves'; did you mean 'sea_waves'"):
        Esc10(path=legacy, classes=("dog", "sea waves")).open(data_folder)


def test_a_missing_dataset_is_downloaded_once(legacy, archive, data_folder, monkeypatch):
    monkeypatch.setattr(
        esc10, "CONTENTS_SHA256", contents_digest(legacy, [f"{p.parent.name}/{p.name}" for p in legacy.glob("*/*.ogg")])
    )
    spec = Esc10(mirror=archive)
    assert spec.download_size(data_folder) == 40_000_000
    assert spec.folds(data_folder) == (1, 2, 3, 4, 5)
    progress_calls = []
    data = spec.open(data_folder, lambda *p: progress_calls.append(p))
    assert len(data.clips) == 20
    assert progress_calls[-1][2] == "download esc10.zip"
    assert data.root == data_folder.datasets / "esc10"
    assert (data.root / "README.md").read_text() == "ESC-10"  # with the attributions
    assert [p.name for p in data_folder.datasets.iterdir()] == ["esc10"]
    assert spec.download_size(data_folder) == 0
    monkeypatch.setattr(esc10, "_download_to", None)  # nothing is downloaded a second time
    assert spec.open(data_folder).clips == data.clips


def test_a_download_with_other_contents_is_refused(archive, data_folder):
    with pytest.raises(BadDataset, match=f"hash to [0-9a-f]{{64}}, not to {CONTENTS_SHA256} .* they were deleted"):
        Esc10(mirror=archive).open(data_folder)
    assert list(data_folder.datasets.iterdir()) == []


def test_a_failed_download_names_the_alternatives(data_folder, tmp_path):
    with pytest.raises(NotAvailable, match=r"point the dataset's `path` .*ESC10_DIR"):
        Esc10(mirror=(tmp_path / "none.zip").as_uri()).open(data_folder)


@pytest.mark.parametrize("mirror", ["mirror.example.com/esc10.zip", "/srv/esc10.zip", "ftp://example.com/x.zip", ""])
def test_a_mirror_must_be_a_complete_url(mirror):
    with pytest.raises(ValidationError, match=rf"mirror must begin with http://, https:// or file://, got '{mirror}'"):
        Esc10(mirror=mirror)
    for start in ("http", "https", "file"):
        Esc10(mirror=f"{start}://example.com/esc10.zip")


def test_the_card_has_licence_and_citation():
    assert "CC BY 3.0" in Esc10.card.licence
    assert "10.1145/2733373.2806390" in Esc10.card.citation


def test_the_real_listing_has_the_published_counts(esc10_dir, data_folder):
    # Published: 400 clips, 10 classes of 40, 5 folds of 80, clips of one recording in one fold; 304 recordings.
    spec = Esc10(path=esc10_dir)
    data = spec.open(data_folder)
    assert len(data.clips) == 400
    assert len({c.source for c in data.clips}) == 304
    assert sources_in_several_folds(list(data.clips)) == []
    assert Counter(c.fold for c in data.clips) == dict.fromkeys(range(1, 6), 80)
    assert Counter(c.label for c in data.clips) == dict.fromkeys(ESC10, 40)


def test_the_real_files_have_the_declared_hash(esc10_dir):
    assert contents_digest(esc10_dir, [c.file for c in legacy_listing(esc10_dir)]) == CONTENTS_SHA256


@pytest.mark.slow
def test_the_real_samples_have_the_published_lengths(esc10_dir, data_folder, result_store):
    data = Esc10(path=esc10_dir).open(data_folder)
    folds = []
    for fold in data.folds:
        tables = clips_stage("stop").run(
            StageContext("study", "", fold, data.classes, {}, data, result_store, engine=LocalEngine())
        )
        assert tables["rejected_clips"].num_rows == 0
        folds.append(TABLES["clips"].conform(tables["clips"], study="study", fold=fold))
    clips = pa.concat_tables(folds)
    assert clips.num_rows == 400
    assert result_store.count("inspection") == len(set(clips["samples_sha256"].to_pylist()))
    sample_counts = Counter(round(s * 44100) for s in clips["duration_s"].to_pylist())
    assert sample_counts[220_544] == 380
    assert pc.min_max(clips["duration_s"]).as_py() == {
        "min": pytest.approx(3.64, abs=0.005),
        "max": pytest.approx(7.24, abs=0.005),
    }
    assert set(clips["sample_rate_hz"].to_pylist()) == {44100}
    assert set(clips["channels"].to_pylist()) == {1}


def test_a_copy_with_only_one_fold_is_refused(legacy, data_folder):
    for path in legacy.glob("*/2-*"):
        path.unlink()
    with pytest.raises(BadDataset, match=r"folds must be at least two, got only \[1\]: .*; complete the copy"):
        Esc10(path=legacy).folds(data_folder)
