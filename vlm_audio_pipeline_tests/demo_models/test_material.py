"""What the models learn from is what a study shows them."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor

from vlm_audio_pipeline.classifiers.language_models.messages import Picture
from vlm_audio_pipeline.classifiers.language_models.prompts import PROMPTS, messages
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.datasets.synthesis import synthesise
from vlm_audio_pipeline.demo_models import material
from vlm_audio_pipeline.demo_models.architectures import build_aimv2, build_janus
from vlm_audio_pipeline.demo_models.conversations import conversation, corpus, practised, written
from vlm_audio_pipeline.demo_models.train_aimv2 import pixels, shifted
from vlm_audio_pipeline.demo_models.train_janus import encoded
from vlm_audio_pipeline.encoders.base import picture
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.renderings.picture import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.studies.loading import load_study


@pytest.fixture(scope="module")
def janus():
    return build_janus(corpus(0))[1]


def test_the_demo_study_uses_renderings_that_were_trained_on():
    study = load_study("demo")
    trained = {name: Recipe(**values).identity() for name, values in material.RENDERINGS.items()}
    assert study.renderings
    for name, recipe in study.renderings.items():
        assert recipe.identity() == trained[name]
    # a million and more are the seeds of the training, of which none is the study's
    assert study.dataset.seed < material.TRAINING <= material.HELD_OUT - 1_000_000


def test_clips_are_drawn_and_heard_as_the_pipeline_does():
    made = material.make(5, 2)
    assert made.classes.tolist() == [*range(10), *range(10)]
    assert made.pictures.shape == (20, 2, 96, 96, 3) and made.pictures.dtype == np.uint8
    assert made.mels.shape == (20, 1, 251, 64)  # 240,000 samples, a frame every 960, one more for the centring
    line = 10 + ESC10.index("rooster")  # the second source recording
    samples = synthesise("rooster", 5, 1, 0)
    for at, values in enumerate(material.RENDERINGS.values()):
        import soxr

        drawn = render(soxr.resample(samples, 44100, 22050, quality="HQ"), 22050, Recipe(**values))
        assert np.array_equal(made.pictures[line, at], np.asarray(picture(drawn.bytes)))
    again = material.make(5, 1)
    assert np.array_equal(again.pictures, made.pictures[:10]) and np.array_equal(again.mels, made.mels[:10])
    shuffled = material.make(5, 1, shuffled=True)
    assert not np.array_equal(shuffled.pictures, again.pictures) and np.array_equal(shuffled.mels, again.mels)


@pytest.mark.parametrize("model", ["demo-janus", "demo-aimv2"])
def test_pixels_are_those_of_the_processor(model):
    drawn = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    processor = AutoImageProcessor.from_pretrained(Weights(model).snapshot(), backend="pil", local_files_only=True)
    theirs = processor(images=Image.fromarray(drawn), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels(torch.from_numpy(drawn)[None], processor), theirs, atol=1e-6, rtol=0)


def test_a_shifted_picture_begins_at_another_moment():
    columns = torch.arange(96).view(1, 96, 1).expand(96, 96, 3)
    moved = shifted(columns, random.Random(3))
    first = int(moved[0, 0, 0])
    assert first != 0
    assert moved[5, :, 1].tolist() == [*range(first, 96), *range(first)]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("examples", [0, 1, 10])
def test_conversations_are_put_to_the_model_as_the_processor_puts_them(janus, prompt, examples):
    for seed in range(3):
        text, classes = conversation(random.Random(seed), janus, prompt, examples)
        assert len(classes) == examples + 1
        ids, answers = encoded(
            [text, "<|User|>: and?\n\n<|Assistant|>: longer" * 200 + janus.tokenizer.eos_token], janus
        )
        pictures = [Image.new("RGB", (96, 96))] * (examples + 1)
        theirs = janus(text=text, images=pictures, return_tensors="pt")["input_ids"][0]
        assert torch.equal(ids[0, : len(theirs)], theirs)
        assert set(ids[0, len(theirs) :].tolist()) <= {janus.tokenizer.pad_token_id}
        # the answers are what the examples and the query were called, each with its end, and nothing else
        said = janus.tokenizer.decode(ids[0][answers[0]]).split(janus.tokenizer.eos_token)
        assert said.pop() == ""
        assert [s[1:].replace(" ", "_") for s in said] == [ESC10[at] for at in classes]
        assert all(s[0] == " " for s in said)


def test_questions_are_those_of_a_study(janus):
    """The text is the prompt's, in Janus's template: User, two line ends, Assistant and a colon without a space."""
    turns = messages(PROMPTS["plain"], ["dog", "rain"], [], Picture(b"", "image/png", ""))
    assert written(turns, janus, ask=True) == (
        "<|User|>: Which sound does this spectrogram show? Choose one: dog, rain. Answer with its name only.\n"
        "<image_placeholder>\n\n<|Assistant|>:"
    )
    begun = {conversation(random.Random(seed), janus, "plain", 0)[0].split(":")[1][:8] for seed in range(30)}
    assert begun == {" Which s", " Name th", " Options"}  # its three wordings
    assert {practised(random.Random(seed)) for seed in range(60)} == set(PROMPTS)


def test_every_word_of_a_prompt_is_few_pieces(janus):
    names = [name for label in ESC10 for name in material.names(label)[:2]]
    assert max(len(janus.tokenizer(f" {n}", add_special_tokens=False).input_ids) for n in names) <= 3
    [turn] = messages(PROMPTS["plain"], ESC10, [], Picture(b"", "image/png", ""))
    assert len(janus.tokenizer(turn.parts[0]).input_ids) < 60
    strange = "Zwölf Boxkämpfer 🐓 jagen"
    assert janus.tokenizer.decode(janus.tokenizer(strange, add_special_tokens=False).input_ids) == strange


def test_the_models_read_pictures_of_96_pixels():
    model, _ = build_aimv2()
    with torch.no_grad():
        assert model(pixel_values=torch.zeros(1, 3, 96, 96)).last_hidden_state.shape == (1, 36, 128)
    assert {Path(f"{v['size']}").name for v in material.RENDERINGS.values()} == {"96"}


def test_saved_processors_give_what_built_ones_give(janus):
    saved = AutoProcessor.from_pretrained(Weights("demo-janus").snapshot(), local_files_only=True)
    text, _ = conversation(random.Random(1), janus, "paper", 2)
    pictures = [Image.new("RGB", (96, 96), (200, 10, 90))] * 3
    ours, theirs = (p(text=text, images=pictures, return_tensors="pt") for p in (janus, saved))
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"])
