"""Facts about a model that are shown beside its results and used by the leakage checks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelCard:
    """Facts about a model.

    Attributes:
        title: full name.
        licence: licence of the weights.
        url: publication or model page.
        citation: BibTeX, or empty.
        dimensions: length of its vectors, if all models of the family have the same.
        training_data: what it was trained on, in one sentence.
        overlaps: datasets whose recordings are known to be in its training data ("FreeSound" is the origin of ESC-50).
        is_demonstration: whether its results say nothing about real models.
    """

    title: str
    licence: str = ""
    url: str = ""
    citation: str = ""
    dimensions: int | None = None
    training_data: str = ""
    overlaps: tuple[str, ...] = ()
    is_demonstration: bool = False
