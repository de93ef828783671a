"""What a family gives the pipeline: stages, each turning tables into tables.

A stage says what it reads (and from which folds), what it makes, the parameters that can change the result and an
explicit version of its code. It knows nothing of Dagster, of file names or of what is stale: the graph composes stages
of a study into steps, and the planner decides which of them run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vlm_audio_pipeline.contracts.progress import Progress, no_progress

if TYPE_CHECKING:
    import pyarrow as pa

    from vlm_audio_pipeline.datasets.base import Dataset
    from vlm_audio_pipeline.storage.ledger import Ledger
    from vlm_audio_pipeline.storage.result_store import ResultStore
    from vlm_audio_pipeline.storage.scratch import Scratch

Folds = Literal["same", "others", "all"]
"""Which folds of an input a stage reads, seen from its own fold."""


@dataclass(frozen=True)
class Cost:
    """What running a stage takes from outside, estimated from above.

    Attributes:
        requests: to an endpoint, or to a local language model.
        tokens: read and written by them.
        usd: their price, USD, as far as prices are known.
    """

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


def no_cost(clips: int) -> Cost:
    """Cost nothing, however many the clips."""
    return Cost()


@dataclass(frozen=True)
class Input:
    """A table that a stage reads.

    Attributes:
        asset: "clips", "embeddings", "probes", ...
        name: which one ("clap"), or None where a study has only one ("clips").
        folds: the folds read. An asset may be read once only by a stage; ask for "all" where both sides are needed.
        optional: True where the stage takes what exists (summaries).
    """

    asset: str
    name: str | None = None
    folds: Folds = "same"
    optional: bool = False

    @property
    def key(self) -> str:
        """The name under which the stage finds the table: `clips`, `embeddings/clap`."""
        return self.asset if self.name is None else f"{self.asset}/{self.name}"


@dataclass
class StageContext:
    """What a stage is handed when it runs.

    Attributes:
        study: name of the study.
        name: name of the encoder or classifier the stage belongs to ("" for the study's own stages).
        fold: the fold to make, or None for a stage over all folds.
        classes: every label of the study, in the dataset's order.
        inputs: the tables read, by `Input.key`, rows of all folds read in one table each, sorted by their key.
        dataset: the opened dataset; `dataset.samples(clip, rate)` reads samples.
        result_store: the result store, for results too costly to compute twice.
        progress: to be told how far the work is.
        ledger: what the study may still spend; None where it has no budget, and then nothing that charges is called.
        unfinished: the stage appends why it stopped early or left rows out that a later run can have (a budget reached,
            an endpoint that failed): its part is written and used, and the next run tries again.
        scratch: for results too large to keep and too slow to make twice: kept until the part is written. None: keep none.
        counts: the stage may say how much it did ("tokens_computed"); kept with its part and summed up for people.
    """

    study: str
    name: str
    fold: int | None
    classes: tuple[str, ...]
    inputs: Mapping[str, "pa.Table"]
    dataset: "Dataset"
    result_store: "ResultStore"
    progress: Progress = no_progress
    ledger: "Ledger | None" = None
    unfinished: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    scratch: "Scratch | None" = None


@dataclass(frozen=True)
class Stage:
    """One kind of table a family makes.

    Attributes:
        asset: first part of the asset's name: "embeddings", "probes", "predictions", ...
        tables: the tables written, by schema name; `run` returns exactly these.
        version: of the code; raise it when the code would give other results for the same inputs.
        parameters: plain values that can change the result; hashed into the step's fingerprint.
        inputs: what is read.
        run: makes the tables. Columns `study`, the owner's name and `fold` are filled in by the pipeline.
        description: one sentence with units, shown in the UI.
        per_fold: one part a fold (True), or one over all folds.
        folds: the folds made, None for all of the dataset's.
        accelerator: whether a GPU is wanted.
        unavailable: says why the stage cannot run on this machine now (missing weights or keys), or None.
        cost: what it takes from outside for so many clips; shown by `vlm-audio plan` before anything is sent.
        on_demand: made when asked for by name, and by unattended reruns, but not by a plain run.
        asks_model: whether it sends requests to a language model; its cost is then shown with the plan.
        stops_study: no other step may run in the same call once this one has failed.
        content_versions: what readers of the tables depend on beside their rows, by name; part of the data version.
        reads_catalogue: whether it reads the catalogue, which is then rebuilt before the stage runs.
        paid: whether it calls an endpoint that may charge: never without a budget, never unattended unless told so.
    """

    asset: str
    tables: tuple[str, ...]
    version: int
    parameters: Mapping[str, Any]
    inputs: tuple[Input, ...]
    run: Callable[[StageContext], "dict[str, pa.Table]"]
    description: str
    per_fold: bool = True
    folds: tuple[int, ...] | None = None
    accelerator: bool = False
    unavailable: Callable[[], str | None] = field(default=lambda: None)
    cost: Callable[[int], Cost] = no_cost
    on_demand: bool = False
    paid: bool = False
    asks_model: bool = False
    stops_study: bool = False
    reads_catalogue: bool = False
    content_versions: Callable[[StageContext], Mapping[str, str]] = lambda context: {}
