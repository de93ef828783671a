"""Read the contrasts of a study file. The name of several classifiers stands for each of them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vlm_audio_pipeline.contracts.errors import suggestion
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand
from vlm_audio_pipeline.evaluation.references import REFERENCES
from vlm_audio_pipeline.studies.entries import Entries
from vlm_audio_pipeline.studies.mistakes import Mistakes
from vlm_audio_pipeline.studies.yaml_text import KeyPath


def read_contrasts(values: Any, entries: Entries, mistakes: Mistakes) -> Iterator[Contrast]:
    """Yield each contrast, one for each classifier that its `classifier` stands for."""
    if not isinstance(values, list):
        mistakes.add(("contrasts",), f"must be a list of `{{classifier: ..., against: [...]}}`, got {values!r}")
        return
    options = {*entries.specs["classifiers"], *entries.names["classifiers"], *REFERENCES}
    for i, item in enumerate(values):
        at = ("contrasts", str(i))
        if isinstance(item, Mapping) and isinstance(against := item.get("against"), str):
            item = {**item, "against": [against]}
        contrast = mistakes.validate(Contrast, item, at)
        if contrast is None:
            continue
        check_classifiers((*at, "against"), contrast.classifier_names(), options, mistakes)
        for classifier in expand_operand(contrast.classifier, entries):
            against_each = tuple(
                operand
                for text in contrast.against
                for operand in _expand_beside(text, contrast.classifier, classifier, entries)
            )
            _check_controls(at, (classifier, *against_each), entries, mistakes)
            yield contrast.model_copy(update={"classifier": classifier, "against": against_each})


def expand_operand(operand: str, entries: Entries) -> list[str]:
    """Return an operand for each of the classifiers that its name stands for."""
    name = _name(operand)
    return [each + operand[len(name) :] for each in entries.names["classifiers"].get(name, [name])]


def check_classifiers(at: KeyPath, names: Iterable[str], options: Iterable[str], mistakes: Mistakes) -> None:
    """Add a mistake for each name that is not one of the options."""
    for name in names:
        if name not in options:
            mistakes.add(at, f"must name classifiers of the study, got '{name}'; {suggestion(name, options)}")


def _expand_beside(operand: str, group: str, classifier: str, entries: Entries) -> list[str]:
    """Expand an operand of `against`; the group of the contrast's own classifier stands for that classifier alone.

    So `{classifier: a, against: [a@blank]}` compares each entry of `a` with its own control.
    """
    name = _name(operand)
    return [_name(classifier) + operand[len(name) :]] if name == _name(group) else expand_operand(operand, entries)


def _check_controls(at: KeyPath, operands: Iterable[str], entries: Entries, mistakes: Mistakes) -> None:
    for text in operands:
        operand = Operand.parse(text)
        spec = entries.specs["classifiers"].get(operand.name)
        if spec is not None and operand.control not in ("none", *spec.needs().controls):
            mistakes.add(
                at, f"'{text}' must use a control of its classifier; add it to `{operand.name}: {{controls: ...}}`"
            )


def _name(operand: str) -> str:
    """Return the name in an operand: `janus` of `janus:likelihood@blank`."""
    return re.split("[:@]", operand)[0]
