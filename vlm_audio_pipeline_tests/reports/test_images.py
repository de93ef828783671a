import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vlm_audio_pipeline.contracts.errors import BadClips, VlmAudioError
from vlm_audio_pipeline.renderings.presets import PRESETS
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.reports.images import choose_clips, render_preset_gallery, write_images
from vlm_audio_pipeline_tests.bench import Bench


@pytest.fixture
def dataset(tmp_path):
    bench = Bench(tmp_path / "bench")
    return bench.graph().dataset()


def test_chosen_clips_are_balanced_and_reproducible(dataset):
    four = choose_clips(dataset, 4)
    assert sorted(c.label for c in four) == ["high", "high", "low", "low"]
    assert four == choose_clips(dataset, 4)
    assert len(choose_clips(dataset, None)) == len(choose_clips(dataset, 99)) == 12


def test_one_file_per_clip_and_a_contact_sheet(dataset, tmp_path):
    calls = []
    recipe = Recipe(rate=8000, n_fft=256, hop_length=64, size=48)
    sheet, *files = write_images(
        dataset,
        choose_clips(dataset, 4),
        recipe,
        tmp_path / "out",
        lambda done, total, what: calls.append((done, total)),
    )
    assert [f.relative_to(tmp_path / "out").parts[0] for f in files] == ["high", "high", "low", "low"]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {Image.open(f).size for f in files} == {(48, 48)}
    with Image.open(sheet) as image:
        assert image.width > 2 * 48 and image.height >= 2 * 48
    # high tones are above low tones; rows of an image are counted from the top
    brightest = [int(np.asarray(Image.open(f).convert("L"), float).mean(axis=1).argmax()) for f in files]
    assert max(brightest[:2]) < min(brightest[2:])


def test_no_clips_is_an_error(dataset, tmp_path):
    with pytest.raises(VlmAudioError, match="no clips to render"):
        write_images(dataset, [], Recipe(), tmp_path)


def test_unreadable_recordings_are_named_and_the_others_are_rendered(dataset, tmp_path):
    bad, *good = choose_clips(dataset, 4)
    (dataset.root / bad.file).write_bytes(b"")
    with pytest.raises(BadClips, match=rf"(?s)1 of 4 recordings.*{bad.file}.*empty"):
        write_images(dataset, [bad, *good], Recipe(rate=8000, n_fft=256, size=48), tmp_path / "out")
    assert sorted(f.stem for f in (tmp_path / "out").glob("*/*")) == sorted(c.id for c in good)
    assert (tmp_path / "out" / "contact_sheet.png").exists()


def test_the_gallery_has_every_preset():
    with Image.open(io.BytesIO(render_preset_gallery())) as image:
        rows = -(-len(PRESETS) // 4)
        assert image.width >= 4 * 240 and image.height > rows * 100


def test_labels_and_ids_cannot_leave_the_folder(dataset, tmp_path):
    one = choose_clips(dataset, 1)[0]
    wild = [replace(one, id=name) for name in ("../../a", ".._.._a", "_.._a", "/a")]
    _, *files = write_images(dataset, wild, Recipe(rate=8000, n_fft=256, size=48), tmp_path / "a" / "out")
    assert all(f.resolve().is_relative_to(tmp_path / "a" / "out") for f in files)
    assert len({*files}) == 4 and all(f.exists() for f in files)


def test_out_must_not_be_a_file(dataset, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(VlmAudioError, match="must be a folder"):
        write_images(dataset, choose_clips(dataset, 2), Recipe(), tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
