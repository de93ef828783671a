"""The built-in study `can_vlms_hear` against the steps of its notebook and plugins, and `esc10` and `paper` beside it."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.prompt_choice import resolve_prompt
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.studies.loading import load_study


@pytest.fixture(scope="module")
def study():
    return load_study("can_vlms_hear")


def test_the_embeddings_are_those_of_the_notebook(study):
    clap, music2latent, aimv2 = (study.encoders[name] for name in ("clap", "music2latent", "aimv2"))
    assert (clap.model, clap.peak_normalise) == ("laion/clap-htsat-unfused", True)
    assert (music2latent.peak_normalise, music2latent.unit_length) == (True, True)
    assert (aimv2.model, aimv2.pooling) == ("apple/aimv2-large-patch14-native", "first_patch")
    assert study.renderings[aimv2.rendering] == Recipe(preset="notebook")
    assert (study.projection.scaling, study.projection.metric) == ("none", "euclidean")


def test_the_classifiers_are_those_of_the_notebook(study):
    clap, janus = study.classifiers["clap_zero_shot"], study.classifiers["janus_7b"]
    assert clap.texts(("sea_waves",)) == [["This is a sound of sea_waves."]]
    assert (janus.model.split("/")[1], janus.dtype, janus.temperature, janus.max_tokens, janus.shots) == (
        *("Janus-Pro-7B", "bfloat16", 0, 512, 0),
    )
    assert (janus.label_form, janus.scorings) == ("raw", {"generation"})
    prompt = resolve_prompt(janus.prompt)
    assert prompt.name == "notebook" and prompt.media_first and prompt.preamble
    assert {name: c.reproduces for name, c in study.classifiers.items() if c.reproduces} == {
        "clap_zero_shot": "can-vlms-hear/laion/clap-htsat-unfused",
        "janus_7b": "can-vlms-hear/deepseek-ai/Janus-Pro-7B",
    }


def test_white_silence_can_be_switched_off(study):
    white, dark = (
        study.renderings[study.classifiers[name].rendering] for name in ("janus_7b", "janus_7b_dark_silence")
    )
    assert (white.silence, dark.silence) == ("white", "lowest")
    assert white.model_copy(update={"silence": "lowest"}).fingerprint() == dark.fingerprint()
    assert any("janus_7b_dark_silence" in contrast.against for contrast in study.contrasts)


def test_vision_encoders_get_square_images_in_esc10():
    """The image processors of AIMv2 crop the centre: a square image loses nothing."""
    esc10 = load_study("esc10")
    sizes = {
        (r.width, r.height) for e in esc10.encoders.values() if e.takes_images for r in [esc10.renderings[e.rendering]]
    }
    assert len(sizes) == 1 and len(set(sizes.pop())) == 1


def test_no_model_of_the_paper_is_later_than_the_paper():
    # version 1 of arXiv 2411.12058 is of 18 November 2024
    dates = [c.model[-10:] for c in load_study("paper").classifiers.values() if c.model.startswith("gpt-4o-20")]
    assert dates and max(dates) < "2024-11-18"
