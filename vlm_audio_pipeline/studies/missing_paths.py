"""Find the paths of a study that do not exist, with file, line and key, and the most similar names beside them.

Paths are checked when a study is opened, not when its file is read: a study file can be written before its recordings are there.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.contracts.paths import show_path
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.studies.mistakes import Mistakes
from vlm_audio_pipeline.studies.study import Study
from vlm_audio_pipeline.studies.yaml_text import KeyPath, read_text, read_yaml


def check_dataset_paths(study: Study) -> None:
    """Check that the paths of the dataset exist; without them nothing can run.

    Raises:
        BadStudy: with file, line and key of each missing path.
    """
    _mistakes(study, [(("dataset",), study.dataset)]).raise_all()


def missing_path_warnings(study: Study) -> list[str]:
    """Return one message for each missing path of an encoder or classifier; only the steps that need it are not run."""
    parts: list[tuple[KeyPath, Spec]] = [(("encoders", name), spec) for name, spec in study.encoders.items()]
    parts += [(("classifiers", name), spec) for name, spec in study.classifiers.items()]
    try:
        _mistakes(study, parts).raise_all()
    except BadStudy as error:
        return str(error).split("\n")
    return []


def locate_mistake(study: Study, message: str) -> str:
    """Put file and line before a message that begins with the key of an entry, such as `classifiers.probe.controls: ...`."""
    match = re.match(r"((?:dataset|renderings|encoders|classifiers)[\w.]*): ", message)
    if match is None or study.path is None or not study.path.is_file():
        return message
    mistakes = Mistakes(study.path, read_yaml(read_text(study.path), study.path)[1])
    mistakes.add(tuple(match[1].split(".")), message.removeprefix(match[0]))
    try:
        mistakes.raise_all()
    except BadStudy as error:
        return str(error)
    return message


def _mistakes(study: Study, parts: list[tuple[KeyPath, Spec]]) -> Mistakes:
    missing = [(key_path, path) for part, spec in parts for key_path, path in _missing_paths(part, spec)]
    lines = read_yaml(read_text(study.path), study.path)[1] if missing and study.path and study.path.is_file() else {}
    mistakes = Mistakes(study.path, lines)
    for key_path, path in missing:
        mistakes.add(key_path, _explain(path, study.path))
    return mistakes


def _missing_paths(part: KeyPath, spec: Spec) -> Iterator[tuple[KeyPath, Path]]:
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        is_path = isinstance(value, Path) or (name == "model" and isinstance(value, str) and os.path.isabs(value))
        if is_path and not Path(value).exists():
            yield (*part, name), Path(value)


def _explain(path: Path, study_file: Path | None) -> str:
    """Return that a path does not exist, with the names in the folder that has the first missing part."""
    path = Path(os.path.normpath(path))
    folder = next(parent for parent in path.parents if parent.is_dir())
    missing = path.relative_to(folder).parts[0]
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".") and entry != study_file]
    place = "" if folder == path.parent else f", because {show_path(folder)} has no '{show_path(missing)}'"
    return f"{show_path(path)} does not exist{place}; correct the path; {suggestion(show_path(missing), map(show_path, names))}"
