"""Retrain the demo's models: `python -m vlm_audio_pipeline.demo_models.train`; under 15 minutes on two cores.

What belongs here: the order of things, and how long each is trained. What does not: how (`train_clap`, `train_aimv2`,
`train_janus`). The same seed gives the same weights on the same machine with the same versions of torch and numpy; on
another one they differ in the last digits, and so does the revision.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from vlm_audio_pipeline.demo_models import cards
from vlm_audio_pipeline.demo_models.architectures import save
from vlm_audio_pipeline.demo_models.fitting import Say
from vlm_audio_pipeline.demo_models.material import HELD_OUT, RENDERINGS, TRAINING, Material, make
from vlm_audio_pipeline.engines import cores

HERE = Path(__file__).parent
MODELS = ("clap", "aimv2", "janus")


@dataclass(frozen=True)
class Schedule:
    """How much is learnt from, and for how long.

    Attributes:
        clips: of each class, to learn from.
        held_out: of each class, to measure on.
        clap: steps.
        aimv2: steps.
        janus: steps.
    """

    clips: int = 240
    held_out: int = 20
    clap: int = 600
    aimv2: int = 650
    janus: int = 850


def train(
    out: Path, seed: int, say: Say, schedule: Schedule = Schedule(), only: tuple[str, ...] = MODELS
) -> dict[str, dict[str, float]]:
    """Train models from nothing, measure them on clips they never met, and write checkpoints and cards.

    Args:
        out: gets a folder `demo-<model>` each.
        seed: of sounds, weights and batches.
        say: told how it goes.
        schedule: how long.
        only: which models.

    Returns:
        for each model what was measured: name -> share of clips named rightly.
    """
    began = time.perf_counter()
    with_threads()
    material, unseen = make(TRAINING + seed, schedule.clips), make(HELD_OUT + seed, schedule.held_out)
    say(f"{len(material.classes)} clips to learn from, {time.perf_counter() - began:.0f} s")
    measured = {}
    for name in only:
        say(f"demo-{name}")
        folder = out / f"demo-{name}"
        model, processor, measure = _TRAINED[name](material, schedule, seed, say)
        save(model, folder, processor)
        model.float()  # what is measured is what was saved: weights rounded to half precision
        measured[name] = found = measure(unseen)
        (folder / "README.md").write_text(cards.card(name, found, seed, schedule.clips), encoding="utf-8")
        say(", ".join(f"{what}: {share:.3f}" for what, share in found.items()))
    say(f"done in {time.perf_counter() - began:.0f} s")
    return measured


def with_threads() -> None:
    """Let torch use every core of this machine."""
    import torch

    torch.set_num_threads(cores())


Trained = tuple[Any, Any, Callable[[Material], dict[str, float]]]
"""A model, its processor, and what measures it on clips it never met."""


def _clap(material: Material, schedule: Schedule, seed: int, say: Say) -> Trained:
    from vlm_audio_pipeline.demo_models.train_clap import clap_accuracy, train_clap

    model, processor = train_clap(material, schedule.clap, seed, say)
    forms = ("raw labels", "human labels", "descriptions")
    return model, processor, lambda unseen: {f: clap_accuracy(model, processor, unseen, i) for i, f in enumerate(forms)}


def _aimv2(material: Material, schedule: Schedule, seed: int, say: Say) -> Trained:
    from vlm_audio_pipeline.demo_models.train_aimv2 import aimv2_accuracy, train_aimv2

    model, processor, head = train_aimv2(material, schedule.aimv2, seed, say)

    def measure(unseen: Material) -> dict[str, float]:
        return {f"rendering {r}": aimv2_accuracy(model, processor, head, unseen, i) for i, r in enumerate(RENDERINGS)}

    return model, processor, measure


def _janus(material: Material, schedule: Schedule, seed: int, say: Say) -> Trained:
    from vlm_audio_pipeline.demo_models.measure_janus import janus_accuracies
    from vlm_audio_pipeline.demo_models.train_janus import train_janus

    model, processor = train_janus(material, schedule.janus, seed, say)

    def measure(unseen: Material) -> dict[str, float]:
        return janus_accuracies(model, processor, unseen, make(HELD_OUT + seed, schedule.held_out, shuffled=True))

    return model, processor, measure


_TRAINED = {"clap": _clap, "aimv2": _aimv2, "janus": _janus}


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of sounds, weights and batches")
    parser.add_argument("--out", type=Path, default=HERE, help="where the folders go; by default into the package")
    parser.add_argument("--only", choices=MODELS, nargs="+", default=MODELS, help="which models")
    asked = parser.parse_args()
    train(asked.out, asked.seed, typer.echo, only=tuple(asked.only))


if __name__ == "__main__":
    main()
