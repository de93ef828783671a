"""Open a study by the name or path that a user gives."""

import shlex
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.contracts.paths import expand_home
from vlm_audio_pipeline.contracts.work import Engine
from vlm_audio_pipeline.datasets.audio_suffixes import decoded_suffixes
from vlm_audio_pipeline.planning.clip_limit import limit_study
from vlm_audio_pipeline.planning.graph import LOCAL_ENGINE, Graph
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.study_records import study_records
from vlm_audio_pipeline.studies.loading import built_in_studies, load_study
from vlm_audio_pipeline.studies.missing_paths import check_dataset_paths, locate_mistake
from vlm_audio_pipeline.studies.study import Study


def find_study(study: str | Path, data_folder: DataFolder) -> Study:
    """Read a built-in study, a study file, or the file of a study that was run in the data folder.

    Args:
        study: the name of a built-in study, the path of a study file, or the name of a study that was run.
        data_folder: the data folder.

    Raises:
        BadStudy: if there is no such study, or its file has mistakes.
    """
    name = str(study)
    if name in built_in_studies() or expand_home(study).is_file():
        _check_kind_of_file(expand_home(study))
        return load_study(study)
    records = study_records(data_folder, leave_out_damaged=True)
    if name not in records:
        raise _unknown_study(name, {*built_in_studies(), *records}, data_folder)
    file, limit = records[name].get("file"), records[name].get("limit")
    if not file or not Path(file).is_file():
        raise BadStudy(
            f"the study '{name}' was run from {file or 'Python'}, which no longer exists; its results can still be read "
            f"(`vlm-audio leaderboard {name}`), but to run it give the path of its study file"
        )
    opened = load_study(file)
    opened = opened if limit is None else limit_study(opened, limit)
    if opened.name != name:
        raise BadStudy(
            f"the study '{name}' was run from {file}, which is named '{opened.name}' now; use `{opened.cli_argument}`, or "
            "change `name` back"
        )
    return opened


def _check_kind_of_file(path: Path) -> None:
    """Refuse a listing or a recording instead of a study.

    Raises:
        BadStudy: with the command that takes such a file.
    """
    suffix, argument = path.suffix.lower(), shlex.quote(str(path))
    if suffix == ".csv":
        raise BadStudy(
            f"{path} is a CSV file, not a study; write a study for its recordings with `vlm-audio init {argument}`"
        )
    if suffix in decoded_suffixes():
        advice = f"`vlm-audio try {argument} --study demo --classifier janus`"
        raise BadStudy(
            f"{path} is a recording, not a study; ask a language model of a study about it, such as {advice}"
        )


def find_run_study(study: str, data_folder: DataFolder) -> str:
    """Return the name of a study that was run in the data folder.

    Args:
        study: its name, or the path of its study file.
        data_folder: the data folder.

    Raises:
        BadStudy: if the file has mistakes, there is no such study, or it was not run.
    """
    records = study_records(data_folder, leave_out_damaged=True)
    if study in records:
        return study
    is_file = expand_home(study).is_file()
    if not data_folder.studies.is_dir():  # the reader of the results says that the folder is empty
        return load_study(study).name if is_file else study
    if study not in built_in_studies() and not is_file:
        raise _unknown_study(study, {*built_in_studies(), *records}, data_folder)
    opened = load_study(study)
    if opened.name not in records:
        raise BadStudy(
            f"the study '{opened.name}' was not run in the data folder {data_folder.root} yet; run "
            f"`vlm-audio run {opened.cli_argument}`"
        )
    return opened.name


def _unknown_study(study: str, names: set[str], data_folder: DataFolder) -> BadStudy:
    if study and expand_home(study).is_dir():
        advice = f"`vlm-audio init {shlex.quote(study)}`"
        return BadStudy(f"{study} is a folder, not a study; write a study for the recordings in it with {advice}")
    kinds = "a file or one of the built-in studies"
    if data_folder.studies.is_dir():
        kinds = f"a file, one of the built-in studies or a study that was run in {data_folder.root}"
    is_file_name = study.endswith((".yaml", ".yml"))
    options = [path.name for path in Path.cwd().glob("*.y*ml")] if is_file_name else []
    return BadStudy(f"a study must be {kinds}, got '{study}'; {suggestion(study, options or names)}")


def open_graph(
    study: str | Path, data_folder: DataFolder, limit: int | None = None, engine: Engine = LOCAL_ENGINE
) -> Graph:
    """Read a study, check that the paths of its dataset exist, and build its graph.

    Args:
        study: see `find_study`.
        data_folder: the data folder.
        limit: maximum number of clips per fold; None: all.
        engine: executes expensive works.

    Raises:
        BadStudy: if there is no such study, its file has mistakes, or a path of its dataset does not exist.
    """
    opened = find_study(study, data_folder)
    check_dataset_paths(opened)
    try:
        return Graph(limit_study(opened, limit) if limit else opened, data_folder, engine)
    except BadStudy as error:
        raise BadStudy(locate_mistake(opened, str(error))) from error


def find_result_name(results: str | Path, data_folder: DataFolder, limit: int | None = None) -> str:
    """Return the name of results that a user gives, as `reports.page.comparison` reads it: NAME or NAME@TIME.

    Args:
        results: the name of a study, or a study file; "@" and a time after it mean earlier results.
        data_folder: the data folder.
        limit: maximum number of clips per fold; None: all.

    Raises:
        BadStudy: if a study file has mistakes.
    """
    is_file = expand_home(results).is_file()  # its path may contain "@"
    study, at, time = (str(results), "", "") if is_file else str(results).partition("@")
    name = find_study(study, data_folder).name if expand_home(study).is_file() else study
    return f"{name}{'' if limit is None else f'_limit{limit}'}{at}{time}"
