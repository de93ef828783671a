import sys
from subprocess import run

import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError
from vlm_audio_pipeline.renderings.layout import FrameParts
from vlm_audio_pipeline.renderings.presets import GROUPS, PRESETS, find_preset
from vlm_audio_pipeline.renderings.recipe import Recipe, preset_recipes
from vlm_audio_pipeline.studies.loading import parse_study

STUDY = """
dataset: {kind: synthetic}
renderings: {a: {preset: plain, %s}}
encoders: {scripted: {kind: scripted}}
classifiers: {probe: {kind: probe, encoder: scripted}}
"""


@pytest.mark.parametrize("kind", ["colormap: viridis", "kind: recipe"])
def test_a_rendering_is_a_recipe_with_or_without_its_kind(kind, tmp_path):
    study = parse_study(STUDY % kind, tmp_path / "s.yaml")
    assert study.renderings == {"a": Recipe(preset="plain")}
    assert study.plain_values()["renderings"]["a"]["kind"] == "recipe"


def test_another_kind_of_rendering_is_refused(tmp_path):
    with pytest.raises(
        BadStudy, match=r"s\.yaml:3: renderings\.a\.kind: unknown rendering kind 'plot'; options: recipe"
    ):
        parse_study(STUDY % "kind: plot", tmp_path / "s.yaml")


def test_the_ablation_has_nine_images_of_nine_kinds():
    names = GROUPS["paper_ablation"]
    assert len(names) == 9 and names[0] == "paper"
    assert len({preset_recipes()[n].fingerprint() for n in PRESETS}) == len(PRESETS) == 18
    variants = Recipe.variants({"preset": "paper_ablation", "size": 384})
    assert list(variants)[:3] == ["", "linear_frequency", "linear_amplitude"]
    low = Recipe(**variants.pop("low_resolution"))
    assert (low.width, low.height, low.dpi) == (96, 96, 25), "a quarter of 384, as 160 x 120 is of 640 x 480"
    assert all(Recipe(**values).width == 384 for values in variants.values())
    for own in ({"colormap": "magma"}, {"frame": {"ticks": True}}, {"amplitude": "linear"}, {"dpi": 80}):
        variants = Recipe.variants({"preset": "paper_ablation", **own})
        for name, values in variants.items():
            member = Recipe(preset=f"paper_{name}" if name else "paper")
            differs = {
                k for k in Recipe.model_fields if getattr(member, k) != getattr(preset_recipes()["paper"], k)
            } - {"preset"}
            if own.get("dpi"):  # in proportion: a quarter of 80, as 25 is a quarter of 100
                member = member.model_copy(update={"dpi": 20} if name == "low_resolution" else {})
            kept = {k for k in differs if getattr(Recipe(**values), k) == getattr(member, k)}
            assert kept == differs, "a member keeps the fields that distinguish it"
    assert Recipe.variants({"preset": "paper"}) == {"": {"preset": "paper"}}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_spelled_out_form(name):
    recipe = Recipe(preset=name)
    complete = Recipe.model_validate({k: v for k, v in recipe.model_dump().items() if k not in ("preset", "size")})
    assert complete == recipe.model_copy(update={"preset": None, "size": None})
    assert complete.fingerprint() == recipe.fingerprint()
    assert PRESETS[name].description.endswith(".") and PRESETS[name].publication


def test_ablation_presets_are_called_reconstructions():
    assert all("Reconstruction" in PRESETS[name].description for name in GROUPS["paper_ablation"])


def test_the_paper_preset_has_the_published_parameters():
    # 22.05 kHz, window 2048, hop 512, log frequency, dB, viridis, labels, no colorbar (arXiv 2411.12058)
    paper = Recipe(preset="paper")
    assert (paper.rate, paper.n_fft, paper.hop_length, paper.frequency, paper.amplitude, paper.colormap) == (
        22050,
        2048,
        512,
        "log",
        "db",
        "viridis",
    )
    assert paper.frame == FrameParts(labels=True, ticks=True, title=False, colorbar=False)


def test_own_keys_override_those_of_a_preset():
    recipe = Recipe(preset="paper", colormap="magma", size=384, frame={"colorbar": True})
    assert (recipe.colormap, recipe.width, recipe.height) == ("magma", 384, 384)
    assert recipe.frame == FrameParts(colorbar=True), "the preset's labels stay"
    assert Recipe(preset="paper", frame="none").frame == "none" == Recipe(preset="paper", frame=None).frame
    assert Recipe(preset="paper", transform="mel").frequency == "mel", "another transform has its own axis"
    assert Recipe(preset="paper_magma").fingerprint() == Recipe(preset="paper", colormap="magma").fingerprint()


def test_a_default_spelled_out_does_not_change_the_fingerprint():
    plain = Recipe()
    for name in set(Recipe.model_fields) - {"preset", "size"}:
        assert Recipe(**{name: getattr(plain, name)}).fingerprint() == plain.fingerprint(), name
    assert Recipe(frame={}).fingerprint() == Recipe(frame={"labels": True, "colorbar": False}).fingerprint()
    assert Recipe(size=100).fingerprint() == Recipe(width=100, height=100).fingerprint()


def test_fingerprints_stay_from_release_to_release():
    # fingerprints of the parameters: a change makes every image stale, so it must be intended
    assert Recipe(preset="paper").fingerprint_fields() == {"kind": "recipe", "frequency": "log", "frame": {}}
    assert Recipe().fingerprint_fields() == {"kind": "recipe", "frequency": "linear"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colormap": "virids"}, "did you mean 'viridis'"),
        ({"preset": "papr"}, "did you mean 'paper'"),
        ({"preset": "paper_ablation"}, "a group of 9 presets"),
        ({"preset": "paper", "size": 30}, "must leave 16 x 16 pixels for the data, got 30 x 30"),
        ({"f_max": 12000}, "at most half the sample rate, 11025 Hz, got 12000"),
        ({"f_min": 9000, "f_max": 8000}, "f_min must be below f_max = 8000 Hz, got 9000"),
        ({"window": "hat"}, "window must be a name that scipy.signal.get_window accepts"),
        ({"duration": "pad"}, "seconds is required"),
        ({"seconds": 3}, "seconds is required"),
        ({"transform": "cqt", "frequency": "mel"}, r"one of \['log', 'linear'\] for transform cqt"),
        ({"transform": "mfcc", "frequency": "log"}, r"one of \['linear'\]"),
        ({"n_mfcc": 200}, "n_mfcc must be at most n_mels = 128, got 200"),
        ({"size": 100, "width": 50}, "size must not be combined with width or height"),
        ({"reference": 0}, "reference must be 'max', 'visible_max' or a power above 0"),
        ({"frame": {"grid": True}}, "Extra inputs are not permitted"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"transform": "fft"}, "unknown transform 'fft'; options: cqt, mel, mfcc, pcen, scipy_spectrogram, stft"),
        ({"transform": "mfcc", "silence": "white"}, "silence must be lowest for transforms without power"),
        ({"silence": "white", "resampling": "area"}, "silence must be lowest for .* interpolated pixels"),
        (
            {"frame": {"style": "matplotlib"}, "resampling": "area"},
            "resampling must be nearest for frame.style matplotlib",
        ),
        (
            {"frame": {"style": "matplotlib", "waveform": True}},
            "frame.waveform must be false for frame.style matplotlib",
        ),
        ({"frame": {"style": "matplotlib"}, "size": 20}, "must leave 16 x 16 pixels for the data, got 20 x 20"),
    ],
)
def test_invalid_values_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        Recipe(**values)


def test_unknown_presets_are_refused():
    with pytest.raises(VlmAudioError, match="did you mean 'notebook'"):
        find_preset("notebok")


def test_any_colormap_and_window_of_the_libraries_is_valid():
    assert Recipe(colormap="berlin_r", window="tukey:0.25").window == "tukey:0.25"


def test_reading_the_presets_imports_nothing_heavy():
    code = (
        "import sys; from vlm_audio_pipeline.renderings.recipe import preset_recipes; preset_recipes(); "
        "sys.exit(sorted({'scipy', 'matplotlib', 'librosa', 'PIL', 'torch'} & set(sys.modules)) or 0)"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""
