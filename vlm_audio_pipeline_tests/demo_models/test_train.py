"""Training from random weights still works; the real schedule takes minutes, this one is short."""

import stat
import subprocess
import sys

import pytest

from demo_model_training import cards
from demo_model_training.train import Schedule, train
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.vision import Vision
from vlm_audio_pipeline.encoders.weights import Weights


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_short_training_beats_chance_and_writes_checkpoints_that_load(tmp_path):
    lines: list[str] = []
    schedule = Schedule(clips=30, test_clips=5, clap=160, aimv2=60, janus=220)
    accuracies = train(tmp_path, 3, lines.append, schedule)
    # chance is 0.1: of 50 clips 15 or more are correct by chance with a probability of 7e-5 (binomial)
    assert accuracies["clap"]["raw labels"] > 0.28
    assert accuracies["aimv2"]["rendering demo"] > 0.28
    assert accuracies["janus"]["prompt plain"] > 0.28
    assert accuracies["janus"]["one example per class"] > 0.28
    assert accuracies["janus"]["blank"] == pytest.approx(
        0.1, abs=0.1
    )  # one response for all images, perhaps of no class
    for name in accuracies:
        folder = tmp_path / f"demo-{name}"
        assert Weights(str(folder)).missing() is None
        assert {stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == {0o644}
        assert "--seed 3" in (folder / "README.md").read_text()
    Clap(model=str(tmp_path / "demo-clap"), device="cpu").load()
    Vision(model=str(tmp_path / "demo-aimv2"), rendering="demo", device="cpu").load()
    assert any(line.startswith("finished in ") for line in lines)


def test_the_program_has_help():
    process = subprocess.run(
        [sys.executable, "-m", "demo_model_training.train", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--seed" in process.stdout and "--only {clap,aimv2,janus}" in process.stdout


@pytest.mark.parametrize("name", ["janus", "clap", "aimv2"])
def test_cards_list_the_accuracies(name):
    card = cards.card(name, {"one thing": 0.9375, "another": 1.0}, seed=4, clips=30)
    assert "| one thing | 0.938 |\n| another | 1.000 |\n" in card
    assert "300 clips of 5 s, 30 of each class" in card
    assert "seed\n1000004" in card or "(seed 1000004)" in card.replace("\n", " ")
    assert "they say nothing about any real model" in " ".join(card.split())
