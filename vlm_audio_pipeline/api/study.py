"""`vap.study`: a study that is run, and whose results are read, from Python."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.api.study_plan import StudyPlan
from vlm_audio_pipeline.api.tables import ResultTable, table_of
from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion

if TYPE_CHECKING:
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.planning.planner import Plan
    from vlm_audio_pipeline.planning.run import RunSummary
    from vlm_audio_pipeline.storage.data_folder import DataFolder


class OpenStudy:
    """A study in a data folder; `vap.study` opens it.

    The study file is read again by each method that uses it, so changes of the file count at once.

    Attributes:
        name: its name; a limited study has its own.
        data_folder: the data folder.
    """

    def __init__(self, study: str | Path, data_folder: "DataFolder", limit: int | None = None):
        self._argument = study
        self._limit = limit
        self.data_folder = data_folder
        self.name = self._find_name()

    def _find_name(self) -> str:
        from vlm_audio_pipeline.planning.opening import find_study
        from vlm_audio_pipeline.storage.study_records import study_records
        from vlm_audio_pipeline.studies.loading import built_in_studies

        argument = str(self._argument)
        is_recorded = (
            argument in study_records(self.data_folder, leave_out_damaged=True) and argument not in built_in_studies()
        )
        if is_recorded and not Path(argument).is_file():
            name = argument  # its results can be read, even if its file no longer exists
        else:
            name = find_study(self._argument, self.data_folder).name
        return name if self._limit is None else f"{name}_limit{self._limit}"

    def __repr__(self) -> str:
        return f"OpenStudy({self.name!r}, data={str(self.data_folder.root)!r})"

    def _graph(self) -> "Graph":
        from vlm_audio_pipeline.planning.opening import open_graph

        return open_graph(self._argument, self.data_folder, self._limit)

    # ---------------------------------------------------------------------------------------------------- running

    def clips(self) -> ResultTable:
        """Return the clips of the dataset: clip, label, fold, source, file, start_s, end_s. Missing recordings are downloaded or synthesised."""
        graph = self._graph()
        self.data_folder.create()
        dataset = graph.dataset()
        rows = dataset.clips
        return table_of(
            {
                "clip": [c.id for c in rows],
                "label": [c.label for c in rows],
                "fold": [c.fold for c in rows],
                "source": [c.source for c in rows],
                "file": [str(dataset.root / c.file) for c in rows],
                "start_s": [c.start_s for c in rows],
                "end_s": [c.end_s for c in rows],
            }
        )

    def plan(self, only: Iterable[str] = (), fold: int | None = None, difference: float | None = None) -> StudyPlan:
        """Return the steps to do with their reasons, cost and time. Nothing runs, and nothing is downloaded.

        Args:
            only: only these steps and their inputs: encoders, classifiers, or patterns such as "embeddings/*".
            fold: only this fold and its inputs.
            difference: also say what the contrasts need to find this difference of accuracies, a share of 1.

        Raises:
            VlmAudioError: for a pattern that matches no step, or a fold that the dataset does not have.
        """
        from vlm_audio_pipeline.planning.contrast_power import planned_contrasts
        from vlm_audio_pipeline.planning.planner import make_plan, plan_without_dataset, select_nodes
        from vlm_audio_pipeline.planning.staleness import current_input_versions

        graph = self._graph()
        nodes = select_nodes(graph, _names(only), fold)
        if not graph.study.dataset.is_local(self.data_folder):
            return StudyPlan(plan_without_dataset(graph, nodes), [], graph, difference)
        self.data_folder.create()
        plan = make_plan(graph, current_input_versions(graph), nodes)
        return StudyPlan(plan, planned_contrasts(graph), graph, difference)

    def run(
        self, only: Iterable[str] = (), fold: int | None = None, again: Iterable[str] = (), wait: bool = True
    ) -> "RunSummary":
        """Run the steps that are missing or stale, through Dagster, so that its UI shows the run.

        After an interrupt the same call continues where it stopped.

        Args:
            only: only these steps and their inputs: encoders, classifiers, or patterns such as "embeddings/*".
            fold: only this fold and its inputs.
            again: steps whose language model is asked again, although its responses are stored; they may cost money again.
            wait: wait for batches of requests, and run the steps that need them when they have ended.

        Returns:
            The number of steps, and what could not run (`not_run`), with the reasons.

        Raises:
            StepsFailed: if steps or checks failed; everything else was run.
            VlmAudioError: for a pattern that matches no step, or a fold that the dataset does not have.
        """
        from vlm_audio_pipeline.api.recording_study import open_data
        from vlm_audio_pipeline.api.running import run_graph
        from vlm_audio_pipeline.planning.publishing import other_file_warning

        with open_data(self.data_folder.root):
            graph = self._graph()
            if (warning := other_file_warning(graph)) is not None:
                warnings.warn(warning, stacklevel=2)
            return run_graph(graph, _names(only), fold, _names(again), wait)

    def fetch(self) -> dict[str, str]:
        """Download the dataset and the models, so that the study runs without a network later.

        Returns:
            The revision of each model, by encoder or classifier.

        Raises:
            NotAvailable: if models cannot be downloaded; all others are.
        """
        from vlm_audio_pipeline.api.running import fetch_graph

        self.data_folder.create()
        return fetch_graph(self._graph())

    def refresh(self) -> "Plan":
        """Check recordings, annotation files and model revisions for changes, report them to Dagster, and return the new plan."""
        from vlm_audio_pipeline.dagster_app.refreshing import refresh_study

        return refresh_study(self._graph()).plan

    def write_batch(self, file: str | Path, classifier: str | None = None) -> int:
        """Write the requests without a response to a file, in OpenAI's batch format, and return their number.

        Args:
            file: the file; `vllm run-batch` reads it.
            classifier: only this one; required if the study asks several models.

        Raises:
            VlmAudioError: if no classifier has an endpoint, or several models are asked.
        """
        from vlm_audio_pipeline.cli.executor import command_executor
        from vlm_audio_pipeline.planning.offline_batches import select_classifiers, write_requests

        graph = self._graph()
        return write_requests(graph, select_classifiers(graph, classifier), Path(file), command_executor())

    def read_batch(self, file: str | Path, classifier: str | None = None) -> tuple[int, dict[str, int]]:
        """Store the responses in a file, the output of a batch; the next run uses them.

        Args:
            file: the file.
            classifier: as for `write_batch`.

        Returns:
            The number of responses, and error message -> number of requests that failed.

        Raises:
            VlmAudioError: if the file cannot be read.
        """
        from vlm_audio_pipeline.cli.executor import command_executor
        from vlm_audio_pipeline.planning.offline_batches import read_responses, select_classifiers

        graph = self._graph()
        return read_responses(graph, select_classifiers(graph, classifier), Path(file), command_executor())

    def forget_batch(self, batch: str) -> int:
        """Abandon a submitted batch, by its id: its price counts as spent; return the number of requests to send again."""
        from vlm_audio_pipeline.planning.offline_batches import forget_batch

        return forget_batch(self._graph(), batch)

    # ----------------------------------------------------------------------------------------------------- results

    def leaderboard(self) -> ResultTable:
        """Return the leaderboard, best first; all columns are in docs/tables.md.

        Raises:
            VlmAudioError: if the study was not run.
        """
        from vlm_audio_pipeline.cli.label_tables import find_and_show_leaderboard

        return ResultTable(*find_and_show_leaderboard(self.data_folder, self.name))

    def verdicts(self) -> ResultTable:
        """Return the verdicts on vision-language models: whether they can hear what they see."""
        from vlm_audio_pipeline.cli.verdicts_view import verdicts_table

        rows = self.table("verdicts").to_arrow()
        return ResultTable(rows, verdicts_table(rows.to_pylist(), self.name))

    def contrasts(self) -> ResultTable:
        """Return the declared contrasts: difference, interval, p after Holm's correction, verdict."""
        from vlm_audio_pipeline.cli.label_tables import show_contrasts

        names = ("contrasts", "multi_label_contrasts")
        return ResultTable(*show_contrasts({name: self.table(name).to_arrow() for name in names}))

    def predictions(self, classifier: str | None = None) -> ResultTable:
        """Return the predictions: one row per clip, classifier, scoring, control and trial.

        Args:
            classifier: only this classifier; None: all.

        Raises:
            VlmAudioError: for a classifier without predictions.
        """
        rows = self.table("predictions")
        if classifier is None:
            return rows
        import pyarrow.compute as pc

        names = rows.to_arrow()["classifier"]
        if classifier not in (options := names.unique().to_pylist()):
            raise VlmAudioError(f"no prediction has the classifier '{classifier}'; {suggestion(classifier, options)}")
        return ResultTable(rows.to_arrow().filter(pc.equal(names, classifier)))

    def table(self, name: str) -> ResultTable:
        """Return the rows of any table that belong to this study; docs/tables.md lists the tables.

        Raises:
            VlmAudioError: for an unknown table, and if no study was run in the data folder.
        """
        from vlm_audio_pipeline.storage.schemas import TABLES

        if name not in TABLES:
            raise VlmAudioError(f"no table '{name}'; {suggestion(name, TABLES)}")
        return self.sql(f'SELECT * FROM "{name}"')

    def sql(self, query: str, parameters: Sequence[Any] = (), *, allow_files: bool = False) -> ResultTable:
        """Query the results of this study in SQL (DuckDB); `vap.sql` queries those of all studies.

        Args:
            query: the query; its tables contain only the rows of this study.
            parameters: values of `?` in the query.
            allow_files: the query may read and write other files, and load extensions; only for a query that you trust.

        Raises:
            VlmAudioError: for wrong SQL, with DuckDB's message.
        """
        from vlm_audio_pipeline.storage.catalogue import query as query_catalogue

        return ResultTable(
            query_catalogue(self.data_folder, query, parameters, is_trusted=allow_files, study=self.name)
        )

    def show(self, clip: str, classifier: str | None = None) -> ResultTable:
        """Return one clip with all its predictions; see `vap.show`."""
        from vlm_audio_pipeline.api.clip_predictions import show_predictions

        return show_predictions(self.data_folder, clip, classifier, self.name)

    # ------------------------------------------------------------------------------------------------------ files

    def render(self, rendering: str, out: str | Path, clips: int | None = None) -> list[Path]:
        """Write the images of clips into a folder, with a contact sheet that has one row per class.

        Args:
            rendering: a rendering of the study, or a preset.
            out: the folder.
            clips: maximum number of clips, balanced over the classes; None: all.

        Returns:
            The files, the contact sheet first.
        """
        from vlm_audio_pipeline.renderings.recipe import find_recipe
        from vlm_audio_pipeline.reports.images import choose_clips, write_images

        graph = self._graph()
        recipe = find_recipe(rendering, graph.study.renderings)
        self.data_folder.create()
        dataset = graph.dataset()
        return write_images(dataset, choose_clips(dataset, clips), recipe, Path(out))

    def export(self, out: str | Path | None = None, format: str = "tables") -> list[Path]:
        """Write the study into a folder: its tables, or a folder that another tool reads.

        Args:
            out: the folder; by default NAME_export (tables) or NAME_FORMAT in the working directory.
            format: "tables" (CSV, parquet, LaTeX, BibTeX, provenance), "huggingface", "inspect" or "lmms-eval".

        Returns:
            The files.
        """
        from vlm_audio_pipeline.reports.exports.formats import export_as

        return export_as(self.data_folder, self.name, format, None if out is None else Path(out))

    def report(self, single_file: str | Path | None = None) -> Path:
        """Write the report page and return its path; stale results are an error.

        Args:
            single_file: write the page as one self-contained file, at this path; None: into the data folder.
        """
        from vlm_audio_pipeline.cli import executor
        from vlm_audio_pipeline.cli.progress import progress_bars
        from vlm_audio_pipeline.planning.report_page import update_report_page, write_single_file

        if single_file is not None:
            return write_single_file(self._graph(), Path(single_file))
        with progress_bars("report") as display:
            return update_report_page(self._graph(), executor.command_executor(), display.progress)

    def compare(self, *others: str | Path, single_file: str | Path | None = None) -> Path:
        """Write a page that compares other results with those of this study, clip by clip, and return its path.

        Args:
            others: names of studies that were run, study files, or earlier results: "NAME@2026-11-20" (the end of that day, UTC).
            single_file: write the page as one self-contained file, at this path; None: into the data folder.
        """
        from vlm_audio_pipeline.cli.comparison import compare_studies

        file = None if single_file is None else Path(single_file)
        return compare_studies(self.data_folder, [self._argument, *others], self._limit, file)

    def open_report(self, *others: str | Path) -> Path:
        """Write the report page, or with `others` a page that compares them (see `compare`), open it, and return its path."""
        import webbrowser

        page = self.compare(*others) if others else self.report()
        webbrowser.open(page.absolute().as_uri())
        return page

    def annotation_sheet(self, fold: int = 1, rendering: str | None = None, out: str | Path | None = None) -> Path:
        """Write a page that shows an annotator the images of a fold; return its path.

        Args:
            fold: the fold whose images are annotated.
            rendering: name of a rendering; None: the first of the study.
            out: the file; by default NAME_annotation_sheet.html in the working directory.
        """
        from vlm_audio_pipeline.reports.annotation_sheet import write_annotation_sheet

        file = Path(out or f"{self.name}_annotation_sheet.html")
        return write_annotation_sheet(self.data_folder, self.name, fold, rendering, file)

    def fiftyone(self, rendering: str | None = None, export: str | Path | None = None, port: int = 5151) -> Any:
        """Open the study in the FiftyOne App, without waiting until it is closed (needs the extra `fiftyone`).

        Args:
            rendering: rendering of the images; None: the first of the study.
            export: only write the dataset to this folder; works without FiftyOne.
            port: port of the App on this machine.

        Returns:
            FiftyOne's session; with `export` the folder.
        """
        from vlm_audio_pipeline.reports.fiftyone import export_fiftyone, open_fiftyone

        if export is not None:
            return export_fiftyone(self.data_folder, self.name, Path(export), rendering)
        return open_fiftyone(self.data_folder, self.name, rendering=rendering, port=port, wait=False)


def study(study: str | Path, *, data: str | Path | None = None, limit: int | None = None) -> OpenStudy:
    """Open a study.

    Args:
        study: a built-in study (`vap.list_studies()`), a study file, or the name of a study that was run.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.
        limit: at most this many clips per fold. Results of a limited study are stored separately, marked partial and not ranked.

    Raises:
        BadStudy: if there is no such study, or its file has mistakes.
    """
    from vlm_audio_pipeline.storage.data_folder import DataFolder

    if limit is not None and limit < 1:
        raise VlmAudioError(f"limit must be 1 or more, got {limit}; leave it out for all clips")
    data_folder = DataFolder.locate(data)
    data_folder.check_format()
    return OpenStudy(study, data_folder, limit)


def _names(only: Iterable[str]) -> tuple[str, ...]:
    return (only,) if isinstance(only, str) else tuple(only)
