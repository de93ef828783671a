"""Which engine a command uses: an option, an environment variable, or a file in the data folder. Never the study file."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.work import Engine
from vlm_audio_pipeline.engines.local import LocalEngine
from vlm_audio_pipeline.engines.machine_check import MachineCheck

VARIABLE = "VLM_AUDIO_ENGINE"
FILE = "engine.yaml"
_OPTIONS = ("workers", "patience_s")


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
        data_folder: folder of `engine.yaml`, a mapping with the keys `engine`, `workers` and `patience_s`. The last two also apply if
            the option names the engine.

    Raises:
        VlmAudioError: for an unknown engine, key or value.
    """
    path = data_folder / FILE
    values = _read_file(path) if path.exists() else {}
    places = (
        (option, "--engine"),
        (os.environ.get(VARIABLE), VARIABLE),
        (values.pop("engine", None), f"{path}: engine"),
    )
    text, place = next(((t, p) for t, p in places if t), ("local", ""))
    kind, _, address = str(text).partition("://")
    if kind not in ("local", "ray") or (kind == "local" and address):
        raise VlmAudioError(f"{place} must be local, ray, ray://auto or ray://HOST:PORT, got '{text}'")
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


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VlmAudioError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise VlmAudioError(f"{path} must be a mapping such as `engine: ray`, got {values!r}")
    if unknown := sorted(map(str, values.keys() - {"engine", *_OPTIONS})):
        raise VlmAudioError(f"{path} has unknown keys {unknown}; the keys are engine, {', '.join(_OPTIONS)}")
    for key in _OPTIONS:
        value = values.get(key, 1)
        is_number = isinstance(value, int) or (isinstance(value, float) and key == "patience_s")
        if not is_number or isinstance(value, bool) or value <= 0:
            raise VlmAudioError(f"{path}: {key} must be a positive number, got {value!r}")
    return values
