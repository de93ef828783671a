"""Stages: functions from tables to tables, which datasets, encoders and classifiers provide.

A stage declares the tables that it reads (and from which folds), the tables that it writes, the parameters that can change
the result, and an explicit version of its code. It does not depend on Dagster, file names or staleness: the graph composes
the stages of a study into steps, and the planner decides which steps run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vlm_audio_pipeline.contracts.progress import Progress, no_progress

if TYPE_CHECKING:
    import pyarrow as pa

    from vlm_audio_pipeline.contracts.work import Engine
    from vlm_audio_pipeline.datasets.base import Dataset
    from vlm_audio_pipeline.storage.ledger import Ledger
    from vlm_audio_pipeline.storage.result_store import ResultStore
    from vlm_audio_pipeline.storage.scratch import Scratch

Folds = Literal["same", "others", "all"]
"""Which folds of an input a stage reads, relative to its own fold."""

WAITING_FOR_BATCH = "waiting for the batch"
"""Beginning of the reason in `StageContext.unfinished` if the responses come later, without another request."""


@dataclass(frozen=True)
class Cost:
    """Upper bounds of the requests, tokens and cost of a stage.

    Attributes:
        requests: requests to an endpoint, or to a local language model.
        tokens: input and output tokens of these requests.
        usd: price of the requests as the study sends them (live or as batches), USD; requests without a known price are left out.
        live_usd: their price as live requests, USD.
        batch_usd: their price as batches, USD; None if the endpoint has no batch API.
        is_batch: whether the study sends them as batches.
    """

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0
    live_usd: float = 0.0
    batch_usd: float | None = None
    is_batch: bool = False


def no_cost(clips: int) -> Cost:
    """Return a cost of 0 for any number of clips."""
    return Cost()


@dataclass(frozen=True)
class Input:
    """A table that a stage reads.

    Attributes:
        asset: "clips", "embeddings", "probes", ...
        name: name of the component, such as "clap"; None if a study has only one such asset ("clips").
        folds: the folds to read. A stage may read an asset only once; use "all" for its own fold and the other folds.
        optional: True if the stage also runs without this table (summaries).
    """

    asset: str
    name: str | None = None
    folds: Folds = "same"
    optional: bool = False

    @property
    def key(self) -> str:
        """Key of the table in `StageContext.inputs`: `clips`, `embeddings/clap`."""
        return self.asset if self.name is None else f"{self.asset}/{self.name}"


@dataclass
class StageContext:
    """The arguments of a stage when it runs.

    Attributes:
        study: name of the study.
        name: name of the component that the stage belongs to ("" for stages of the whole study).
        fold: the fold to compute, or None for a stage over all folds.
        classes: every label of the study, in the dataset's order.
        inputs: the input tables by `Input.key`; each contains the rows of all folds that were read, sorted by its key.
        dataset: the opened dataset; `dataset.samples(clip, rate)` reads samples.
        result_store: the result store, for results that are too costly to compute twice.
        engine: executes expensive works, on this machine or elsewhere.
        progress: callback that reports progress.
        ledger: the ledger of the study; None without a budget, and then no paid endpoint may be called.
        unfinished: the stage appends the reason if it stopped early or left out rows that a later run can compute (a spent
            budget, a failing endpoint). Its partition file is written and used, and the next run tries again.
        scratch: store for intermediate results that are too large to keep and too slow to compute twice; deleted after
            the partition file is written. None: intermediate results are not stored.
        other_folds: returns the tables of this step for the other folds, as far as they were computed with the current settings.
        counts: the stage may add counts of its work ("tokens_computed"); they are stored in the partition file, and the
            command prints their sums.
    """

    study: str
    name: str
    fold: int | None
    classes: tuple[str, ...]
    inputs: Mapping[str, "pa.Table"]
    dataset: "Dataset"
    result_store: "ResultStore"
    engine: "Engine" = field(kw_only=True)
    progress: Progress = no_progress
    ledger: "Ledger | None" = None
    unfinished: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    scratch: "Scratch | None" = None
    other_folds: "Callable[[], Sequence[pa.Table]]" = tuple


@dataclass(frozen=True)
class Stage:
    """The computation of one kind of table, or of several tables together.

    Attributes:
        asset: first part of the asset's name: "embeddings", "probes", "predictions", ...
        tables: schema names of the tables that `run` returns.
        version: version of the code; increase it when the code gives other results for the same inputs.
        parameters: plain values that can change the result; hashed into the step's fingerprint.
        inputs: the tables that it reads.
        run: computes the tables. The pipeline adds the columns `study`, `fold` and the name of the component.
        run_ahead: computes and stores the expensive rows of several folds in one map of the engine, so that `run` finds them; None if
            there are none.
        description: one sentence with units, shown in the UI.
        per_fold: whether it has one partition per fold; otherwise it has one partition over all folds.
        folds: the folds to compute; None for all folds of the dataset.
        accelerator: whether it uses a GPU if there is one.
        unavailable: returns the reason why the stage cannot run on this machine now (missing weights or keys), or None.
        cost: returns the cost bound for a number of clips; `vlm-audio plan` shows it before any request is sent.
        on_demand: whether it runs only if it is requested by name or by a scheduled rerun.
        asks_model: whether it sends requests to a language model; the plan then shows its cost.
        stops_study: whether the run executes no other step after it failed.
        content_versions: returns more values, by name, on which steps that read the tables depend; part of the data version.
        reads_catalogue: whether it reads the catalogue, which is then rebuilt before the stage runs.
        paid: whether it calls an endpoint that may charge. It then needs a budget, and scheduled reruns execute it only if
            the study allows it.
        accepted_models: ids that may answer beside each other, for a stage with responses of an endpoint: all its other rows
            must be of one model. None for any other stage.
    """

    asset: str
    tables: tuple[str, ...]
    version: int
    parameters: Mapping[str, Any]
    inputs: tuple[Input, ...]
    run: Callable[[StageContext], "dict[str, pa.Table]"]
    description: str
    run_ahead: "Callable[[Sequence[StageContext]], None] | None" = None
    per_fold: bool = True
    folds: tuple[int, ...] | None = None
    accelerator: bool = False
    unavailable: Callable[[], str | None] = field(default=lambda: None)
    cost: Callable[[int], Cost] = no_cost
    on_demand: bool = False
    paid: bool = False
    accepted_models: tuple[str, ...] | None = None
    asks_model: bool = False
    stops_study: bool = False
    reads_catalogue: bool = False
    content_versions: Callable[[StageContext], Mapping[str, str]] = lambda context: {}
