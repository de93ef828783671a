"""The parts of a study's graph: steps, the input assets they read, and nodes (one step for one fold)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.storage.result_store import ResultStore


class Node(NamedTuple):
    """One step for one fold, or for all folds together (None): the unit that is executed, and that is fresh or stale."""

    step: str
    fold: int | None = None

    def __str__(self) -> str:
        return self.step if self.fold is None else f"{self.step}|{self.fold}"


@dataclass(frozen=True)
class InputAsset:
    """Files that are observed, not made: a dataset, an annotation file, the weights of a model.

    Attributes:
        name: the input key of the steps that read it: "dataset", "annotations/<classifier>".
        key: its asset key.
        folds: folds with a version of their own, or None.
        description: shown in the UI.
        versions: returns the data version of each fold; raises NotAvailable when the files do not exist.
    """

    name: str
    key: tuple[str, ...]
    folds: tuple[int, ...] | None
    description: str
    versions: Callable[[ResultStore], Mapping[Any, str]]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its nodes."""
        return tuple(Node(self.name, f) for f in self.folds or (None,))


@dataclass(frozen=True)
class Step:
    """A stage in a study.

    Attributes:
        name: "clips", "embeddings/clap"; unique within the study.
        component: name of the encoder, rendering or classifier it belongs to, "" for the study's own.
        key: its asset key.
        stage: its stage.
        folds: the folds it is made for, or None for one partition over all folds.
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
        """Its nodes."""
        return tuple(Node(self.name, f) for f in self.folds or (None,))
