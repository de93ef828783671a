"""Citations of an export as BibTeX: the dataset, the models, this program, and the publications that a study repeats."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.evaluation.published_results import publications

_PACKAGE_CITATION = f"""\
@software{{vlm_audio_pipeline,
  title = {{{{VLM Audio Pipeline}}}},
  version = {{{__version__}}}
}}
"""


def dataset_and_model_citations(
    card: DatasetCard | None, card_missing_reason: str | None, models: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return BibTeX of the dataset, of the models and of this program, with titles, licences and addresses as comments.

    Args:
        card: card of the dataset, or None.
        card_missing_reason: why there is no card.
        models: encoder or classifier -> its card, as plain values.
    """
    if card is None:
        references = f"% {' '.join(str(card_missing_reason).split())}"
    else:
        comments = (card.title, card.licence and f"licence: {card.licence}", card.url)
        references = "\n".join(f"% {' '.join(comment.split())}" for comment in comments if comment)
        references += f"\n{card.citation.strip()}" if card.citation else "\n% the dataset has no citation"
    for name, model in models.items():
        comments = (f"{name}: {model['title']}", f"licence: {model['licence'] or 'unknown'}", model["url"])
        references += "\n\n" + "\n".join(f"% {comment}" for comment in comments if comment)
        references += f"\n{model['citation'].strip()}" if model["citation"] else ""
    return f"{references}\n\n{_PACKAGE_CITATION}"


def publication_citations(published: pa.Table | None) -> str:
    """Return title, address and BibTeX of each publication in the table `published`; empty without this table."""
    keys = set() if published is None else set(published["publication"].to_pylist())
    entries = (publications()[key] for key in sorted(keys))
    return "".join(f"\n% published result: {entry.title}\n% {entry.url}\n{entry.bibtex}" for entry in entries)
