"""Studies over a few clips of each fold (`--limit`)."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import ClipSample
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import Stage, StageContext
from vlm_audio_pipeline.studies.study import Study


def limit_study(study: Study, limit: int) -> Study:
    """Return a study over at most `limit` clips of each fold. It has another name, so its results are stored separately."""
    return replace(study, name=f"{study.name}_limit{limit}", limit=limit)


def check_limit(limit: int | None, classes: Sequence[str]) -> None:
    """Check that a limited study has a clip of each class.

    Raises:
        VlmAudioError: for a limit below the number of classes.
    """
    if limit is not None and limit < len(classes):
        raise VlmAudioError(
            f"--limit must be at least {len(classes)} (one clip per class in each fold), got {limit}; raise it"
        )


def limit_clips(stage: Stage, limit: int | None) -> Stage:
    """Return a stage that keeps at most `limit` clips of each fold, balanced over classes, the same in every run; None: all."""
    if limit is None:
        return stage

    def run(context: StageContext) -> dict[str, pa.Table]:
        tables = stage.run(context)
        fold = context.fold or 0
        check_limit(limit, context.classes)
        table = stage.tables[0]
        return {**tables, table: ClipSample(clips=limit).take(tables[table], (fold,), fold)}

    return replace(stage, run=run, parameters={**stage.parameters, "limit": limit})
