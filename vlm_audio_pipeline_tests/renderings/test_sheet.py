import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.renderings.image import RenderedImage, encode_image
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.sheet import clip_gallery, contact_sheet, gallery, preset_gallery
from vlm_audio_pipeline_tests.datasets.clip_rows import clip_row
from vlm_audio_pipeline_tests.renderings.clips import read_rgb, sweep

GREY = Recipe(colormap="gray")


def grey_image(level: int, height: int = 60) -> bytes:
    image: RenderedImage = encode_image(np.full((height, 80), level, np.uint8), GREY)
    return image.bytes


def test_classes_are_rows_and_clips_are_columns():
    images = [("dog", grey_image(10)), ("rain", grey_image(60)), ("dog", grey_image(20)), ("dog", grey_image(30))]
    sheet = read_rgb(contact_sheet(images, thumbnail=80, max_columns=2))
    levels = sheet[:, :, 0].astype(int)
    pixels = {level: np.argwhere(levels == level) for level in (10, 20, 60)}
    sizes = {level: len(where) for level, where in pixels.items()}
    assert sizes[10] >= 4800 and sizes[20] >= 4800 and sizes[60] >= 4800
    assert (levels == 30).sum() < 100, "two a row"
    middle = {level: np.median(where, axis=0) for level, where in pixels.items()}
    assert middle[10][0] == middle[20][0] < middle[60][0] and middle[10][1] == middle[60][1] < middle[20][1]
    assert (sheet[:, : int(pixels[60][:, 1].min())] < 100).any(), "names at the left"
    assert contact_sheet(images) == contact_sheet(images)


def test_images_keep_their_shape():
    sheet = read_rgb(contact_sheet([("a", grey_image(10, height=20))], thumbnail=40))
    where = np.argwhere(sheet[:, :, 0] == 10)
    assert np.ptp(where[:, 0]) + 1 == 10


def test_a_gallery_has_the_name_of_each_image():
    sheet = read_rgb(gallery([(f"preset_{i}", grey_image(40 * i + 10)) for i in range(5)], thumbnail=80, columns=3))
    assert sheet.shape[1] == 6 + 3 * 86
    assert all((abs(sheet[:, :, 0].astype(int) - 40 * i - 10) <= 1).sum() >= 4800 for i in range(5))


def test_every_preset_is_on_the_gallery_once():
    # eighteen presets, four per row: five rows of images of 4 : 3, each with its name and gaps below (25 pixels)
    assert read_rgb(preset_gallery(sweep(1.0), 22050, thumbnail=80)).shape == (6 + 5 * (60 + 25), 6 + 4 * 86, 3)


@pytest.fixture
def dataset(tmp_path):
    """Return seven clips of seven classes, 0.5 s of noise each."""
    rng = np.random.default_rng(0)
    clips = []
    for i in range(7):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(4000), 8000)
        clips.append(Clip(id=f"c{i}", label=f"class{i}", fold=1 + i % 2, source=str(i), file=f"{i}.wav"))
    return Dataset(tmp_path, tuple(f"class{i}" for i in range(7)), tuple(clips), DatasetCard("test"))


@pytest.mark.parametrize(("clips", "columns", "lines"), [(1, 1, 1), (3, 3, 1), (7, 5, 2)])
def test_a_clip_gallery_has_one_clip_per_class(dataset, clips, columns, lines):
    rows = [clip_row(dataset, c) for c in dataset.clips[:clips] for _ in range(2)]
    # images of 200 x 130 pixels with gaps of 6, and a name of 13 below each
    assert read_rgb(clip_gallery(dataset, rows)).shape == (6 + (130 + 25) * lines, 6 + 206 * columns, 3)


def test_a_clip_gallery_has_the_first_classes(dataset):
    rows = [clip_row(dataset, c) for c in dataset.clips]
    assert clip_gallery(dataset, rows, max_classes=3) == clip_gallery(dataset, rows[:3])


def test_no_images_are_refused():
    for draw in (contact_sheet, gallery):
        with pytest.raises(VlmAudioError, match="there are no images"):
            draw([])
    with pytest.raises(VlmAudioError, match="there are no images"):
        clip_gallery(None, [])
