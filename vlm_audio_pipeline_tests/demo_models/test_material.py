"""The training material of the demo models equals the inputs of a study."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor

from demo_model_training import material
from demo_model_training.architectures import build_aimv2, build_janus
from demo_model_training.conversations import apply_template, choose_prompt, make_conversation, tokenizer_corpus
from demo_model_training.train_aimv2 import normalise, shift_in_time
from demo_model_training.train_janus import tokenise
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompts import build_messages
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.datasets.synthesis import synthesise
from vlm_audio_pipeline.encoders.base import decode_image
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.studies.loading import load_study


@pytest.fixture(scope="module")
def janus():
    return build_janus(tokenizer_corpus(0))[1]


def test_the_demo_study_uses_renderings_that_were_trained_on():
    study = load_study("demo")
    trained = {name: Recipe(**values).fingerprint_fields() for name, values in material.RENDERINGS.items()}
    assert study.renderings
    for name, recipe in study.renderings.items():
        assert recipe.fingerprint_fields() == trained[name]
    # Seeds of a million and more belong to the training; the study has another one.
    assert study.dataset.seed < material.TRAINING_SEED <= material.TEST_SEED - 1_000_000


@pytest.mark.slow
def test_clips_are_rendered_and_resampled_as_in_a_study():
    both = material.make_material(5, 2)
    assert both.classes.tolist() == [*range(10), *range(10)]
    assert both.images.shape == (20, 2, 96, 96, 3) and both.images.dtype == np.uint8
    assert both.mels.shape == (20, 1, 251, 64)  # 240,000 samples, a frame every 960, one more for the centring
    index = 10 + ESC10.index("rooster")  # the second source recording
    samples = synthesise("rooster", 5, 1, 0)
    for i, values in enumerate(material.RENDERINGS.values()):
        import soxr

        image = render(soxr.resample(samples, 44100, 22050, quality="HQ"), 22050, Recipe(**values))
        assert np.array_equal(both.images[index, i], np.asarray(decode_image(image.bytes)))
    first = material.make_material(5, 1)
    assert np.array_equal(first.images, both.images[:10]) and np.array_equal(first.mels, both.mels[:10])
    shuffled = material.make_material(5, 1, shuffled=True)
    assert not np.array_equal(shuffled.images, first.images) and np.array_equal(shuffled.mels, first.mels)


@pytest.mark.parametrize("model", ["demo-janus", "demo-aimv2"])
def test_pixels_are_those_of_the_processor(model):
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    processor = AutoImageProcessor.from_pretrained(Weights(model).snapshot(), backend="pil", local_files_only=True)
    theirs = processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(normalise(torch.from_numpy(image)[None], processor), theirs, atol=1e-6, rtol=0)


def test_a_shifted_image_starts_at_another_time():
    columns = torch.arange(96).view(1, 96, 1).expand(96, 96, 3)
    shifted = shift_in_time(columns, random.Random(3))
    first = int(shifted[0, 0, 0])
    assert first != 0
    assert shifted[5, :, 1].tolist() == [*range(first, 96), *range(first)]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("examples", [0, 1, 10])
def test_conversations_have_the_tokens_of_the_processor(janus, prompt, examples):
    for seed in range(3):
        text, classes = make_conversation(random.Random(seed), janus, prompt, examples)
        assert len(classes) == examples + 1
        ids, is_response = tokenise(
            [text, "<|User|>: and?\n\n<|Assistant|>: longer" * 200 + janus.tokenizer.eos_token], janus
        )
        images = [Image.new("RGB", (96, 96))] * (examples + 1)
        theirs = janus(text=text, images=images, return_tensors="pt")["input_ids"][0]
        assert torch.equal(ids[0, : len(theirs)], theirs)
        assert set(ids[0, len(theirs) :].tolist()) <= {janus.tokenizer.pad_token_id}
        # responses: the names of the examples and of the query, each with its end token, and nothing else
        responses = janus.tokenizer.decode(ids[0][is_response[0]]).split(janus.tokenizer.eos_token)
        assert responses.pop() == ""
        assert [r[1:].replace(" ", "_") for r in responses] == [ESC10[c] for c in classes]
        assert all(r[0] == " " for r in responses)


def test_questions_have_the_text_of_a_study(janus):
    """The text is the prompt's, in Janus's template: User, two line ends, Assistant and a colon without a space.

    `notebook` is for the real Janus, whose preamble it needs.
    """
    turns = build_messages(PROMPTS["plain"], ["dog", "rain"], [], ImagePart(b"", "image/png", ""))
    assert apply_template(turns, janus, add_generation_prompt=True) == (
        "<|User|>: Which sound does this spectrogram show? Choose one: dog, rain. Answer with its name only.\n"
        "<image_placeholder>\n\n<|Assistant|>:"
    )
    starts = {make_conversation(random.Random(seed), janus, "plain", 0)[0].split(":")[1][:8] for seed in range(30)}
    assert starts == {" Which s", " Name th", " Options"}  # its three wordings
    assert {choose_prompt(random.Random(seed)) for seed in range(60)} == set(PROMPTS) - {"notebook"}


def test_class_names_and_prompts_take_few_tokens(janus):
    names = [name for label in ESC10 for name in material.label_forms(label)[:2]]
    assert max(len(janus.tokenizer(f" {n}", add_special_tokens=False).input_ids) for n in names) <= 3
    [turn] = build_messages(PROMPTS["plain"], ESC10, [], ImagePart(b"", "image/png", ""))
    assert len(janus.tokenizer(turn.parts[0]).input_ids) < 60
    strange = "Zwölf Boxkämpfer 🐓 jagen"
    assert janus.tokenizer.decode(janus.tokenizer(strange, add_special_tokens=False).input_ids) == strange


def test_the_models_take_images_of_96_pixels():
    model, _ = build_aimv2()
    with torch.no_grad():
        assert model(pixel_values=torch.zeros(1, 3, 96, 96)).last_hidden_state.shape == (1, 36, 128)
    assert {Path(f"{v['size']}").name for v in material.RENDERINGS.values()} == {"96"}


def test_saved_processors_equal_those_that_the_training_builds(janus):
    saved = AutoProcessor.from_pretrained(Weights("demo-janus").snapshot(), local_files_only=True)
    text, _ = make_conversation(random.Random(1), janus, "paper", 2)
    images = [Image.new("RGB", (96, 96), (200, 10, 90))] * 3
    ours, theirs = (p(text=text, images=images, return_tensors="pt") for p in (janus, saved))
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"])
