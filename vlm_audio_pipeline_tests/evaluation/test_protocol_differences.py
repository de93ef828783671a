from dataclasses import replace

import pytest

from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.evaluation.protocol_differences import closest_results, compare_protocols
from vlm_audio_pipeline.evaluation.published_results import published_results
from vlm_audio_pipeline.renderings.recipe import Recipe

RESULTS = {(r.name, r.setting, r.variant, r.split): r for r in published_results() if r.dataset == "ESC-10"}
JANUS = RESULTS["can-vlms-hear/deepseek-ai/Janus-Pro-7B", "zero-shot", "", "all clips"]
CLAP = RESULTS["can-vlms-hear/laion/clap-htsat-unfused", "zero-shot", "", "all clips"]
GPT_FEW_SHOT = RESULTS["dixit2024/GPT-4o", "few-shot", "", "5-fold"]
GPT_DEFAULT = RESULTS["dixit2024/GPT-4o", "zero-shot", "default rendering", "fold 1"]
GEMINI = RESULTS["dixit2024/Gemini-1.5", "few-shot", "", "5-fold"]
LISTENERS = RESULTS["piczak2015/human listeners", "listening", "", "321 judged clips"]

JANUS_PROTOCOL = Protocol(
    setting="zero-shot",
    input="spectrogram image",
    model="deepseek-ai/Janus-Pro-7B",
    prompt=JANUS.prompt,
    label_form="raw",
    shots=0,
    decoding="greedy, at most 512 tokens",
    trials=1,
    number_format="bfloat16",
    rendering="r",
)
JANUS_RECIPE = Recipe(preset=JANUS.preset)
CLAP_PROTOCOL = Protocol(
    setting="zero-shot",
    input="audio",
    model="laion/clap-htsat-unfused",
    prompt="This is a sound of {label}.",
    label_form="raw",
    trials=1,
    audio="peak-normalised",
)
GPT_PROTOCOL = replace(JANUS_PROTOCOL, model="gpt-4o-2024-08-06", prompt="paper", number_format=None)


def compare(result, protocol, scoring="generation", recipe=None):
    found = compare_protocols(result, protocol, scoring, recipe)
    return found.differences, found.not_stated


def test_an_equal_protocol_has_no_difference():
    assert compare(JANUS, JANUS_PROTOCOL, recipe=JANUS_RECIPE) == ([], [])
    assert compare(CLAP, CLAP_PROTOCOL, "score") == ([], [])


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"input": "audio"}, "input: published spectrogram image, here audio"),
        ({"setting": "few-shot"}, "setting: published zero-shot, here few-shot"),
        (
            {"model": "deepseek-community/Janus-Pro-7B"},
            "model: published deepseek-ai/Janus-Pro-7B, here deepseek-community/Janus-Pro-7B",
        ),
        (
            {"model": "deepseek-ai/Janus-Pro-1B"},
            "model: published deepseek-ai/Janus-Pro-7B, here deepseek-ai/Janus-Pro-1B",
        ),
        ({"prompt": "plain"}, f"prompt: published {JANUS.prompt}, here plain"),
        ({"label_form": "human"}, "label form: published raw, here human"),
        ({"shots": 1}, "shots: published 0, here 1"),
        (
            {"decoding": "greedy, at most 32 tokens"},
            "decoding: published greedy, at most 512 tokens, here greedy, at most 32 tokens",
        ),
        ({"trials": 3}, "trials: published 1, here 3"),
        ({"number_format": "auto"}, "number format: published bfloat16, here auto"),
    ],
)
def test_each_kind_of_difference_has_both_values(change, difference):
    assert compare(JANUS, replace(JANUS_PROTOCOL, **change), recipe=JANUS_RECIPE) == ([difference], [])


def test_a_difference_in_scoring():
    # a likelihood is not decoded, so the number of tokens is no second difference
    protocol = replace(JANUS_PROTOCOL, decoding="greedy, at most 32 tokens")
    differences, _ = compare(JANUS, protocol, "likelihood", JANUS_RECIPE)
    assert differences == ["scoring: published generation, here likelihood"]


def test_a_difference_in_the_preparation_of_audio():
    assert compare(CLAP, replace(CLAP_PROTOCOL, audio="as recorded"), "score")[0] == [
        "audio: published peak-normalised, here as recorded"
    ]
    assert compare(CLAP, replace(CLAP_PROTOCOL, prompt="{label}"), "score")[0] == [
        "prompt: published This is a sound of {label}., here {label}"
    ]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"colormap": "magma"}, "rendering, colormap: published viridis, here magma"),
        ({"amplitude": "linear"}, "rendering, amplitude: published db, here linear"),
        ({"frame": {"colorbar": True}}, "rendering, frame.colorbar: published no, here yes"),
        ({"rate": 16000}, "rendering, rate: published 22050, here 16000"),
        ({"n_fft": 1024}, "rendering, n_fft: published 2048, here 1024"),
    ],
)
def test_each_difference_in_the_rendering_that_the_publication_states(change, difference):
    assert compare(GPT_DEFAULT, GPT_PROTOCOL, recipe=Recipe(preset="paper", **change))[0] == [difference]


def test_the_size_of_the_image_is_not_stated_in_the_paper():
    differences, not_stated = compare(GPT_DEFAULT, GPT_PROTOCOL, recipe=Recipe(preset="paper", size=384))
    [rendering] = [line for line in not_stated if line.startswith("rendering: ")]
    assert differences == [] and "width 384, height 384, dpi 100" in rendering
    assert "n_mels" not in rendering, "it has no effect on an STFT"


@pytest.mark.parametrize(
    ("model", "differences", "not_stated"),
    [
        ("gpt-4o-2024-08-06", [], ["snapshot of the model: here gpt-4o-2024-08-06"]),
        ("openai/gpt-4o-2024-08-06", [], ["snapshot of the model: here openai/gpt-4o-2024-08-06"]),
        ("gpt-4o", [], ["snapshot of the model: here the name gpt-4o, which stands for changing snapshots"]),
        ("gpt-4o-mini", ["model: published GPT-4o, here gpt-4o-mini"], []),
        ("gpt-4o-mini-2024-07-18", ["model: published GPT-4o, here gpt-4o-mini-2024-07-18"], []),
        ("gpt-4", ["model: published GPT-4o, here gpt-4"], []),
        (
            "gpt-4o-2024-11-20",
            [
                "model: published GPT-4o on 2024-11-18, here gpt-4o-2024-11-20, a snapshot that is newer than the publication"
            ],
            [],
        ),
    ],
)
def test_models_are_compared_by_exact_id_and_date(model, differences, not_stated):
    found = compare(GPT_DEFAULT, replace(GPT_PROTOCOL, model=model), recipe=Recipe(preset="paper"))
    assert found[0] == differences
    assert [line for line in found[1] if "model" in line] == not_stated


def test_a_system_without_an_exact_id():
    audio = Protocol("few-shot", "audio", model="gemini-1.5-pro")
    assert compare(GEMINI, audio) == ([], ["model: published as Gemini-1.5 without an exact id, here gemini-1.5-pro"])
    assert compare(GEMINI, replace(audio, model="gemini-2.0-flash"))[0] == [
        "model: published Gemini-1.5, here gemini-2.0-flash"
    ]


def test_what_the_publication_does_not_state_is_listed_with_the_value_here():
    protocol = replace(GPT_PROTOCOL, setting="few-shot", shots=1, examples="medoid by classical")
    differences, not_stated = compare(GPT_FEW_SHOT, protocol, recipe=Recipe(preset="paper"))
    assert differences == []
    assert not_stated[:7] == [
        "snapshot of the model: here gpt-4o-2024-08-06",
        "prompt: here paper",
        "label form: here raw",
        "shots: here 1",
        "examples: here medoid by classical",
        "decoding: here greedy, at most 512 tokens",
        "trials: here 1",
    ]


def test_annotators_are_compared_by_the_file_of_their_annotations():
    listening = Protocol("listening", "audio", "ESC-10-HumanClassification.xlsx", audio="as recorded")
    assert compare(LISTENERS, listening, "annotation") == ([], [])
    assert compare(LISTENERS, replace(listening, model="panel.csv"), "annotation")[0] == [
        "annotators: published ESC-10-HumanClassification.xlsx, here panel.csv"
    ]


def test_a_rendering_outside_the_study_cannot_be_compared():
    assert "rendering: here 'r', which this study does not define" in compare(GPT_DEFAULT, GPT_PROTOCOL)[1]


@pytest.mark.parametrize("size", [{}, {"size": 384}])
def test_each_rendering_of_the_ablation_meets_the_result_of_its_own_variant(size):
    ablation = [r for r in published_results() if r.variant]
    recipes = {v: Recipe(**values) for v, values in Recipe.variants({"preset": "paper_ablation", **size}).items()}
    assert len(recipes) == len(ablation) == 9
    variants = {name: [r.variant for r in closest_results(ablation, recipe)] for name, recipe in recipes.items()}
    assert variants == {
        "": ["default rendering"],
        "linear_frequency": ["linear frequency"],
        "linear_amplitude": ["linear amplitude"],
        "no_labels": ["no axis labels"],
        "magma": ["magma"],
        "mel": ["mel frequency"],
        "colorbar": ["colorbar shown"],
        "low_resolution": ["low resolution"],
        "mfcc": ["MFCC"],
    }


def test_without_a_rendering_no_result_is_closest():
    both = [CLAP, JANUS]
    assert closest_results(both, None) == both == closest_results(both, Recipe())
