"""Which engine a command uses: an option, an environment variable, or a file in the data folder. Never the study file."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.work import Engine
from vlm_audio_pipeline.engines.engine_file import FILE, engine_problem, read_engine_file
from vlm_audio_pipeline.engines.local import LocalEngine
from vlm_audio_pipeline.engines.machine_check import MachineCheck

VARIABLE = "VLM_AUDIO_ENGINE"


@dataclass(frozen=True)
class EngineSetting:
    """The engine of a command.

    Attributes:
        kind: "local" or "ray".
        address: of a Ray cluster: "auto" or HOST:PORT.
        options: other arguments of the engine.
    """

    kind: str = "local"
    address: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)


def read_engine_setting(option: str | None, data_folder: Path) -> EngineSetting:
    """Return the engine that the option names, else the environment variable, else the file, else the local one.

    Args:
        option: `local`, `ray`, `ray://auto` or `ray://HOST:PORT`; None: not given.
        data_folder: folder of `engine.yaml`, a mapping with the keys `engine`, `workers`, `patience_s` and `files`. The last three also
            apply if the option names the engine.

    Raises:
        VlmAudioError: for an unknown engine, key or value, with the option, the variable, or file, line and key.
    """
    path = data_folder / FILE
    values = read_engine_file(path) if os.path.lexists(path) else {}
    engine_of_file = values.pop("engine", "local")
    sources = ((option, "--engine"), (os.environ.get(VARIABLE) or None, VARIABLE))
    text, place = next(((text, place) for text, place in sources if text is not None), (engine_of_file, str(path)))
    if problem := engine_problem(text):
        raise VlmAudioError(f"{place}: {problem}")
    kind, _, address = text.partition("://")
    return EngineSetting(kind, address or "auto", values if kind == "ray" else {})


def open_engine(setting: EngineSetting) -> Engine:
    """Open an engine. A cluster whose nodes have other versions than this process is refused.

    Raises:
        NotAvailable: if ray is not installed, or there is no cluster.
        VlmAudioError: with the differences of the nodes.
    """
    if setting.kind == "local":
        return LocalEngine()
    from vlm_audio_pipeline.engines.ray import RayEngine

    engine = RayEngine(setting.address, **setting.options)
    try:
        engine.refuse_different_nodes()
    except BaseException:
        engine.close()
        raise
    return engine


def check_engine(setting: EngineSetting) -> list[MachineCheck]:
    """Compare the nodes of a cluster with this machine; nothing for the local engine."""
    if setting.kind == "local":
        return []
    from vlm_audio_pipeline.engines.ray import RayEngine

    try:
        engine = RayEngine(setting.address, **setting.options)
    except VlmAudioError as error:
        return [MachineCheck("bad", str(error))]
    try:
        return engine.check_nodes()
    finally:
        engine.close()
