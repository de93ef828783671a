"""The parts of a study's graph: steps, the input assets they read, and nodes (one step for one fold)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.storage.result_store import ResultStore


class Node(NamedTuple):
    """One step for one fold, or for all folds together (`fold` is None). A node is executed as a whole, and is fresh or stale."""

    step: str
    fold: int | None = None

    def __str__(self) -> str:
        return self.step if self.fold is None else f"{self.step}|{self.fold}"


@dataclass(frozen=True)
class InputAsset:
    """Files that the pipeline reads but does not write: a dataset, an annotation file, the weights of a model.

    Attributes:
        name: its key among the inputs of a step: "dataset", "annotations/<classifier>".
        key: its asset key.
        folds: the folds, if each has its own data version; None for one version of all files.
        description: shown in the UI.
        versions: returns the data version of each fold; raises NotAvailable when the files do not exist.
        facts: returns facts for the UI, by name: path, counts, licence, link; it downloads nothing.
    """

    name: str
    key: tuple[str, ...]
    folds: tuple[int, ...] | None
    description: str
    versions: Callable[[ResultStore], Mapping[Any, str]]
    facts: Callable[[], Mapping[str, str | int]] = dict

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, one for each fold."""
        return tuple(Node(self.name, f) for f in self.folds or (None,))


@dataclass(frozen=True)
class Step:
    """A stage in a study.

    Attributes:
        name: "clips", "embeddings/clap"; unique within the study.
        component: name of the encoder, rendering or classifier it belongs to; "" for a step of the whole study.
        key: its asset key, ("demo", "clap_embeddings"); the last part differs from those of all other steps of the study.
        stage: its stage.
        folds: its folds; None for one partition over all folds.
    """

    name: str
    component: str
    key: tuple[str, ...]
    stage: Stage
    folds: tuple[int, ...] | None

    @cached_property
    def version(self) -> str:
        """Code version and fingerprint of the parameters, "1:0a1b2c3d4e5f6071"."""
        return f"{self.stage.version}:{fingerprint(dict(self.stage.parameters))}"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, one for each fold."""
        return tuple(Node(self.name, f) for f in self.folds or (None,))
