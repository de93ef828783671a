"""Labels in scripts that DejaVu Sans lacks. The font of these tests has one glyph, a filled square, for each of its characters."""

import io
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings import fonts
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.sheet import contact_sheet
from vlm_audio_pipeline.reports.figures import confusion_chart
from vlm_audio_pipeline.storage.schemas import TABLES


def write_font(path, characters):
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    glyph = pen.glyph()
    names = [".notdef", *(f"square{i}" for i in range(len(characters)))]
    font = FontBuilder(1000)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): name for c, name in zip(characters, names[1:], strict=True)})
    font.setupGlyf(dict.fromkeys(names, glyph))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": f"Squares {characters!a}", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    font.setupPost()
    font.save(path)


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A function that makes a font with these characters the only installed one."""
    from matplotlib import font_manager

    def install(characters=""):
        if characters:
            write_font(tmp_path / "Squares-Regular.ttf", characters)
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(map(str, tmp_path.glob("*.ttf"))))
        for cached in (fonts._installed_files, fonts._fallback_fonts, fonts._glyphs):
            cached.cache_clear()

    yield install
    for cached in (fonts._installed_files, fonts._fallback_fonts, fonts._glyphs):
        cached.cache_clear()


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


def draw_confusion(*classes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return pixels(confusion_chart(TABLES["confusion"].empty_table(), classes))


def test_a_label_is_drawn_with_an_installed_font(installed):
    installed("犬雨")
    assert fonts.font_families(["犬 and 雨"]) == ["DejaVu Sans", r"Squares '\u72ac\u96e8'"]
    assert fonts.drawable_text("犬") == "犬"
    assert (draw_confusion("犬", "b") != draw_confusion("a", "b")).any()


def test_a_character_that_no_font_has_is_shown_by_its_code(installed):
    installed("犬")
    assert fonts.drawable_text("犬雨") == r"犬\u96e8"
    assert fonts.drawable_text("\N{DOG}") == r"\U0001f415"
    draw_confusion("犬雨", "\N{DOG}")


def test_two_labels_that_no_font_has_look_different(installed):
    installed()
    assert fonts.drawable_text("犬") != fonts.drawable_text("雨")
    draw_confusion("犬", "雨")


def test_latin_greek_and_cyrillic_need_no_installed_font(installed):
    installed()
    text = "naïve Ångström, γλαύξ, сова"
    assert fonts.drawable_text(text) == text
    assert fonts.font_families([text]) == ["DejaVu Sans"]


def test_a_contact_sheet_shows_the_same_labels(installed):
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    installed("犬")
    with_font = pixels(contact_sheet([("犬", image.getvalue())]))
    installed("雨")
    without = pixels(contact_sheet([("猫", image.getvalue())]))
    assert without.shape[1] > with_font.shape[1], "the code is wider than the glyph"


@pytest.mark.parametrize("style", ["plain", "matplotlib"])
def test_an_image_for_a_model_has_no_missing_glyphs(installed, style):
    """A box or a code instead of a label would change what the model sees."""
    installed()
    frame = {"labels": True, "ticks": True, "title": False, "colorbar": False, "time_label": "時間"}
    frame |= {"style": "matplotlib"} if style == "matplotlib" else {}
    recipe = Recipe.model_validate({"frame": frame, "width": 300, "height": 240})
    with pytest.raises(VlmAudioError, match=r"'\\u6642', '\\u9593'.*install a font"):
        render(np.ones(22050, np.float32), 22050, recipe)
    installed("時間")
    assert render(np.ones(22050, np.float32), 22050, recipe).bytes


def test_formulas_in_class_names_are_text(installed):
    installed()
    assert (draw_confusion("$a$", "b") != draw_confusion("a", "b")).any()
    draw_confusion(r"$\frac{$", "_hidden")
