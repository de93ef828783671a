"""Functions about all studies of a data folder, and about this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError

if TYPE_CHECKING:
    from vlm_audio_pipeline.api.tables import ResultTable
    from vlm_audio_pipeline.storage.data_folder import DataFolder


def sql(
    query: str, parameters: Sequence[Any] = (), *, allow_files: bool = False, data: str | Path | None = None
) -> "ResultTable":
    """Query the results of all studies in SQL (DuckDB). `SHOW TABLES` lists the tables, `DESCRIBE predictions` the columns of one.

    Args:
        query: the query.
        parameters: values of `?` in the query.
        allow_files: the query may read and write other files, and load extensions; only for a query that you trust.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.

    Raises:
        VlmAudioError: for wrong SQL, with DuckDB's message, and if no study was run in the data folder.
    """
    from vlm_audio_pipeline.api.tables import ResultTable
    from vlm_audio_pipeline.storage.catalogue import query as query_catalogue

    return ResultTable(query_catalogue(_data_folder(data), query, parameters, is_trusted=allow_files))


def leaderboard(study: str | None = None, *, data: str | Path | None = None) -> "ResultTable":
    """Return the leaderboard of one study that was run, or of all studies of one task.

    Leaderboards of two tasks have other columns. Without `study`, it is that of the studies with one class per clip if there are any.

    Raises:
        VlmAudioError: if there is none.
    """
    from vlm_audio_pipeline.api.tables import ResultTable
    from vlm_audio_pipeline.planning.opening import find_run_study
    from vlm_audio_pipeline.reports.lookup import find_leaderboard

    data_folder = _data_folder(data)
    return ResultTable(find_leaderboard(data_folder, study and find_run_study(study, data_folder)))


def show(
    clip: str, classifier: str | None = None, study: str | None = None, *, data: str | Path | None = None
) -> "ResultTable":
    """Return one clip with all its predictions, and the score of every class.

    Args:
        clip: clip id, such as 1-100032-A.
        classifier: only this classifier; None: all.
        study: only this study; None: all.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.

    Raises:
        VlmAudioError: if there is no such prediction; suggests similar names.
    """
    from vlm_audio_pipeline.api.clip_predictions import show_predictions
    from vlm_audio_pipeline.planning.opening import find_run_study

    data_folder = _data_folder(data)
    return show_predictions(data_folder, clip, classifier, study and find_run_study(study, data_folder))


def open_report(
    study: str | Path, *others: str | Path, data: str | Path | None = None, limit: int | None = None
) -> Path:
    """Write the report page of a study, open it in the browser, and return its path; see `vap.study`.

    Args:
        study: the study.
        others: the page compares these results with the study: names of studies, or "NAME@2026-11-20" for earlier results.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.
        limit: use the limited run of the study with this maximum number of clips per fold; None: the full run.
    """
    from vlm_audio_pipeline.api.study import study as open_study

    return open_study(study, data=data, limit=limit).open_report(*others)


def list_studies() -> "ResultTable":
    """Return the built-in studies: name, description and file."""
    from vlm_audio_pipeline.api.tables import table_of
    from vlm_audio_pipeline.studies.loading import built_in_studies, load_study

    files = built_in_studies()
    return table_of(
        {
            "name": list(files),
            "description": [load_study(name).description for name in files],
            "file": [str(path) for path in files.values()],
        }
    )


def init(listing: str | Path | None = None, out: str | Path | None = None, *, built_in: str | None = None) -> Path:
    """Write a first study file for recordings, or a copy of a built-in study, and return its path.

    Args:
        listing: CSV file with one line per recording: path and label, optionally fold and source. A folder with one folder
            per class. A folder of recordings with annotation files, or one of these files. Or the folder of a known dataset.
        out: the study file; by default next to the listing, or my_NAME.yaml in the working directory.
        built_in: the built-in study to copy, instead of a listing.

    Raises:
        BadDataset: for a CSV file or a folder that cannot be used.
        BadStudy: if the study file exists, and for an unknown built-in study.
        VlmAudioError: if neither or both of `listing` and `built_in` are given.
    """
    from vlm_audio_pipeline.studies.first_study import copy_built_in_study, write_first_study

    if (listing is None) == (built_in is None):
        raise VlmAudioError(
            "init needs a CSV file or a folder, or `built_in`, the name of a built-in study; give one of them"
        )
    file = None if out is None else Path(out)
    return copy_built_in_study(str(built_in), file) if listing is None else write_first_study(Path(listing), file)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of study files."""
    from vlm_audio_pipeline.studies.schema import study_schema

    return study_schema()


def doctor(*, data: str | Path | None = None, engine: str | None = None) -> "ResultTable":
    """Check this machine and a data folder: packages, processor, GPU, disk, and every stored file. Nothing is changed.

    Args:
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.
        engine: `ray`, `ray://auto` or `ray://HOST:PORT` also compares the nodes of that cluster with this machine; by default
            VLM_AUDIO_ENGINE, else `engine.yaml` in the data folder, else no cluster.

    Returns:
        One row per check: state (ok, warn or bad) and text.
    """
    from vlm_audio_pipeline.api.tables import table_of
    from vlm_audio_pipeline.planning.doctor_checks import run_all_checks
    from vlm_audio_pipeline.storage.data_folder import DataFolder

    checks = run_all_checks(DataFolder.locate(data), engine)
    return table_of({"state": [c.state for c in checks], "text": [c.text for c in checks]})


def prune(
    days: float = 30.0, *, responses: bool = False, delete: bool = False, data: str | Path | None = None
) -> "ResultTable":
    """List old run logs, temporary files, and partition files and results that no study needs; with `delete`, delete them.

    Args:
        days: keep everything that is newer than this many days.
        responses: include model responses that no study uses; they may have cost money.
        delete: delete what is listed.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.

    Returns:
        One row per kind: description, count, size_bytes.
    """
    from vlm_audio_pipeline.api.tables import table_of
    from vlm_audio_pipeline.dagster_app.run_history import find_old_runs
    from vlm_audio_pipeline.planning.pruning import find_unused_items
    from vlm_audio_pipeline.planning.pruning import prune as delete_items

    data_folder = _data_folder(data)
    unused = [*find_unused_items(data_folder, days, responses), *find_old_runs(data_folder, days)]
    table = table_of(
        {
            "description": [items.description for items in unused],
            "count": [items.count for items in unused],
            "size_bytes": [items.size for items in unused],
        }
    )
    if delete and unused:
        delete_items(data_folder, unused)
    return table


def ui(studies: Sequence[str] = (), *, port: int = 3000, data: str | Path | None = None) -> int:
    """Start the Dagster UI on this machine, and wait until it is stopped.

    Args:
        studies: the studies to show; by default the built-in ones and those in the data folder.
        port: port on this machine; 0 for any free port.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.

    Returns:
        Exit code of the UI.
    """
    from vlm_audio_pipeline.dagster_app.serving import serve

    return serve(_data_folder(data).create(), list(studies), port)


def _data_folder(data: str | Path | None) -> "DataFolder":
    from vlm_audio_pipeline.storage.data_folder import DataFolder

    data_folder = DataFolder.locate(data)
    data_folder.check_format()
    return data_folder
