"""Retrain the models of the demo: `python -m demo_model_training.train`, from the repository; 15 minutes on two cores.

The same seed gives the same weights on the same machine with the same versions of torch and numpy; elsewhere the last
digits differ, and so does the revision.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from demo_model_training import cards
from demo_model_training.architectures import save
from demo_model_training.fitting import Log
from demo_model_training.material import RENDERINGS, TEST_SEED, TRAINING_SEED, Material, make_material
from vlm_audio_pipeline.encoders.weights import DEMO_MODELS
from vlm_audio_pipeline.engines import core_count

MODELS = ("clap", "aimv2", "janus")


@dataclass(frozen=True)
class Schedule:
    """Sizes of the material and lengths of the trainings.

    Attributes:
        clips: training clips of each class.
        test_clips: test clips of each class.
        clap: steps.
        aimv2: steps.
        janus: steps.
    """

    clips: int = 240
    test_clips: int = 20
    clap: int = 600
    aimv2: int = 650
    janus: int = 850


def train(
    out: Path, seed: int, log: Log, schedule: Schedule = Schedule(), models: tuple[str, ...] = MODELS
) -> dict[str, dict[str, float]]:
    """Train models from random weights, measure them on test clips, and write checkpoints and cards.

    Args:
        out: folder in which each model gets a folder `demo-<model>`.
        seed: of sounds, weights and batches.
        log: called with the progress.
        schedule: sizes and lengths.
        models: names of the models to train.

    Returns:
        model -> name of a measurement -> accuracy.
    """
    start = time.perf_counter()
    use_all_cores()
    material, test = (
        make_material(TRAINING_SEED + seed, schedule.clips),
        make_material(TEST_SEED + seed, schedule.test_clips),
    )
    log(f"{len(material.classes)} training clips, {time.perf_counter() - start:.0f} s")
    accuracies = {}
    for name in models:
        log(f"demo-{name}")
        folder = out / f"demo-{name}"
        model, processor, measure = _TRAININGS[name](material, schedule, seed, log)
        save(model, folder, processor)
        model.float()  # measure the saved weights, which are rounded to half precision
        accuracies[name] = measure(test)
        (folder / "README.md").write_text(cards.card(name, accuracies[name], seed, schedule.clips), encoding="utf-8")
        log(", ".join(f"{measurement}: {accuracy:.3f}" for measurement, accuracy in accuracies[name].items()))
    log(f"finished in {time.perf_counter() - start:.0f} s")
    return accuracies


def use_all_cores() -> None:
    """Make torch use every core of this machine."""
    import torch

    torch.set_num_threads(core_count())


TrainedModel = tuple[Any, Any, Callable[[Material], dict[str, float]]]
"""A model, its processor, and the function that measures it on test clips."""


def _train_clap(material: Material, schedule: Schedule, seed: int, log: Log) -> TrainedModel:
    from demo_model_training.train_clap import clap_accuracy, train_clap

    model, processor = train_clap(material, schedule.clap, seed, log)
    forms = ("raw labels", "human labels", "descriptions")
    return model, processor, lambda test: {f: clap_accuracy(model, processor, test, i) for i, f in enumerate(forms)}


def _train_aimv2(material: Material, schedule: Schedule, seed: int, log: Log) -> TrainedModel:
    from demo_model_training.train_aimv2 import aimv2_accuracy, train_aimv2

    model, processor, head = train_aimv2(material, schedule.aimv2, seed, log)

    def measure(test: Material) -> dict[str, float]:
        return {f"rendering {r}": aimv2_accuracy(model, processor, head, test, i) for i, r in enumerate(RENDERINGS)}

    return model, processor, measure


def _train_janus(material: Material, schedule: Schedule, seed: int, log: Log) -> TrainedModel:
    from demo_model_training.measure_janus import janus_accuracies
    from demo_model_training.train_janus import train_janus

    model, processor = train_janus(material, schedule.janus, seed, log)

    def measure(test: Material) -> dict[str, float]:
        return janus_accuracies(
            model, processor, test, make_material(TEST_SEED + seed, schedule.test_clips, shuffled=True)
        )

    return model, processor, measure


_TRAININGS = {"clap": _train_clap, "aimv2": _train_aimv2, "janus": _train_janus}


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="seed of sounds, weights and batches")
    parser.add_argument(
        "--out", type=Path, default=DEMO_MODELS, help="folder for the checkpoints; default: the package's"
    )
    parser.add_argument("--only", choices=MODELS, nargs="+", default=MODELS, help="models to train; default: all")
    options = parser.parse_args()
    train(options.out, options.seed, typer.echo, models=tuple(options.only))


if __name__ == "__main__":
    main()
