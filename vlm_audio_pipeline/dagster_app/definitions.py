"""The Dagster entry point: builds the definitions of studies.

`dagster dev -w workspace.yaml` and `vlm-audio ui` load `defs`. Environment variables:

- VLM_AUDIO_DATA: the data folder; default: `data/`.
- VLM_AUDIO_STUDIES: names or paths of the studies to load, separated by commas; default: the built-in demo, baselines and
  esc10, and the studies that were run in the data folder.
- VLM_AUDIO_SENSOR_INTERVAL_S: time between two evaluations of the sensor of scheduled reruns, s.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError
from vlm_audio_pipeline.contracts.escapes import show_control_codes
from vlm_audio_pipeline.dagster_app.assets import graph_assets
from vlm_audio_pipeline.dagster_app.jobs import study_jobs
from vlm_audio_pipeline.dagster_app.sensors import SENSOR_INTERVAL_S, rerun_definitions
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.catalogue import study_records
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline.studies.study import check_unique_name

DEFAULT_STUDIES = ("demo", "baselines", "esc10")


def studies_to_show(data_folder: DataFolder) -> list[str]:
    """Return the names or paths of the studies to load."""
    selected = [s.strip() for s in os.environ.get("VLM_AUDIO_STUDIES", "").split(",") if s.strip()]
    if selected:
        return selected
    records = study_records(data_folder, leave_out_damaged=True).items()
    files = {name: record.get("file") for name, record in records if record.get("limit") is None}
    return [*DEFAULT_STUDIES, *(f for n, f in files.items() if n not in DEFAULT_STUDIES and f and Path(f).is_file())]


def build_definitions(
    *,
    studies: Sequence[str],
    data_folder: DataFolder,
    executor: dg.ExecutorDefinition = dg.in_process_executor,
    sensor_interval_s: int = SENSOR_INTERVAL_S,
) -> dg.Definitions:
    """Assemble the definitions of studies.

    A study that cannot be loaded is left out with a warning, so that one bad file does not hide the others.

    Args:
        studies: names of built-in studies, or paths.
        data_folder: the data folder.
        executor: Dagster's executor of the steps of a run; by default one process, so that models stay loaded.
        sensor_interval_s: time between two evaluations of the sensor of scheduled reruns, s.
    """
    assets: dict[tuple[str, ...], Any] = {}
    jobs: list[Any] = []
    reruns = []
    datasets: dict[str, tuple[str, str | Path]] = {}
    names: dict[str, str] = {}
    for study in studies:
        try:
            graph = Graph(load_study(study), data_folder)
            check_unique_name(graph.study, study, names)
            _check_dataset(graph, study, datasets)
            study_assets = graph_assets(graph)
        except VlmAudioError as error:
            logging.getLogger(__name__).warning("study '%s' is not shown: %s", study, show_control_codes(str(error)))
            continue
        for asset in study_assets:
            assets.setdefault(tuple(asset.key.path), asset)  # studies of one dataset share its asset
        jobs += study_jobs(graph).values()
        if (rerun := graph.study.rerun) is not None:
            reruns.append(rerun_definitions(graph, rerun, sensor_interval_s))
    refreshes, schedules, sensors = zip(*reruns, strict=True) if reruns else ((), (), ())
    return dg.Definitions(
        assets=list(assets.values()),
        jobs=[*jobs, *refreshes],
        schedules=schedules,
        sensors=sensors,
        executor=executor,
    )


def _check_dataset(graph: Graph, study: str, datasets: dict[str, tuple[str, str | Path]]) -> None:
    """Check that no other study uses the same name for another dataset, because both would be one asset."""
    spec = graph.study.dataset
    path = getattr(spec, "path", None) or ""
    other, other_path = datasets.setdefault(spec.asset_name, (study, path))
    if path != other_path:
        raise BadStudy(
            f"{study}: dataset.name: '{spec.asset_name}' is also the name of another dataset in study '{other}'; "
            "give one of the two datasets another `name`"
        )


def _defs() -> dg.Definitions:
    data_folder = DataFolder.locate()
    data_folder.check_format()
    interval_s = int(os.environ.get("VLM_AUDIO_SENSOR_INTERVAL_S", SENSOR_INTERVAL_S))
    return build_definitions(
        studies=studies_to_show(data_folder), data_folder=data_folder, sensor_interval_s=interval_s
    )


defs = _defs()
