"""`render`: the pixels of a study, for files and samples of any sample rate."""

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.contracts.errors import BadClips, BadStudy
from vlm_audio_pipeline_tests.api.conftest import RATES_HZ
from vlm_audio_pipeline_tests.cli.program import vlm_audio


@pytest.mark.parametrize("i", range(len(RATES_HZ)), ids=map(str, RATES_HZ))
@pytest.mark.parametrize("rendering", ["demo", "native", "jpeg"])
def test_the_pixels_are_those_of_the_study(sounds, rendering, i):
    rows = sounds.rows(f"SELECT image FROM spectrograms WHERE rendering = '{rendering}' ORDER BY clip")
    file = sounds.files[i]
    assert vap.render(file, rendering, study=sounds.study).bytes == rows[i]["image"]
    recording = soundfile.read(file, dtype="float32")
    assert vap.render(recording, rendering, study=sounds.study).bytes == rows[i]["image"]


def test_an_image_shows_itself_and_is_an_array(tmp_path):
    image = vap.render(vap.example_sound("rooster"), "paper")
    assert (image.width, image.height) == (640, 480)
    assert image._repr_png_() == image.bytes and image._repr_jpeg_() is None
    assert image.bytes.startswith(b"\x89PNG")
    assert image.array.shape == (480, 640, 3) and image.array.dtype == np.uint8
    with Image.open(io.BytesIO(image.bytes)) as pixels:
        assert np.array_equal(image.array, np.asarray(pixels.convert("RGB")))
    assert repr(image) == "RenderedImage(image/png, 640 x 480 pixels)"
    path = image.save(tmp_path / "new" / "rooster.png")
    assert path.read_bytes() == image.bytes
    with pytest.raises(vap.VlmAudioError, match=r"must end in .png, got .*a.jpg; use .*a.png"):
        image.save(tmp_path / "a.jpg")


def test_a_jpeg_shows_itself(tmp_path):
    image = vap.render(vap.example_sound("rain"), {"preset": "plain", "size": 64, "format": "jpeg"})
    assert image._repr_png_() is None and image._repr_jpeg_() == image.bytes
    assert image.save(tmp_path / "a.jpeg").is_file() and image.save(str(tmp_path / "a.jpg")).is_file()


def test_keys_of_a_study_file_describe_a_rendering():
    image = vap.render(vap.example_sound("rain"), {"preset": "paper", "size": 128})
    assert (image.width, image.height) == (128, 128)
    with pytest.raises(BadStudy, match=r"^rendering.colormp: unknown key; did you mean 'colormap'\?"):
        vap.render(vap.example_sound("rain"), {"colormp": "magma"})


def test_errors_are_those_of_the_command(tmp_path):
    with pytest.raises(vap.VlmAudioError) as error:
        vap.render(vap.example_sound(), "papr", study="demo")
    result = vlm_audio("render", "demo", "papr", "--out", tmp_path / "out", data=tmp_path)
    assert result.err == f"error: {error.value}\n"
    with pytest.raises(vap.VlmAudioError) as error:
        vap.render(vap.example_sound(), "paper", study="dem")
    result = vlm_audio("render", "dem", "paper", "--out", tmp_path / "out", data=tmp_path)
    assert result.err == f"error: {error.value}\n"


def test_a_bad_recording_is_named_as_it_was_given(tmp_path):
    with pytest.raises(BadClips, match=r"^no.wav cannot be used: missing: the file does not exist$"):
        vap.render("no.wav")
    with pytest.raises(BadClips, match=r"^array 0 cannot be used: not finite"):
        vap.render((np.full(100, np.nan), 8000))


def test_presets_are_listed_and_drawn():
    table = vap.list_renderings()
    assert {"paper", "notebook", "plain"} <= set(table["name"])
    assert "https://arxiv.org/abs/2411.12058" in table["publication"]
    gallery = vap.preset_gallery()
    assert gallery.array.shape == (gallery.height, gallery.width, 3)


def test_example_sounds():
    samples, rate = vap.example_sound("rain", seed=3, duration_s=1)
    assert samples.shape == (44100,) and rate == 44100
    assert not np.array_equal(samples, vap.example_sound("rain", seed=4, duration_s=1)[0])
    with pytest.raises(vap.VlmAudioError, match=r"label must be .* got 'rian'; did you mean 'rain'"):
        vap.example_sound("rian")
