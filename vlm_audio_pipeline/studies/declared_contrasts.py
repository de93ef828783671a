"""Read the contrasts of a study file. A name that stands for several classifiers makes one contrast per classifier."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vlm_audio_pipeline.contracts.errors import suggestion
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand
from vlm_audio_pipeline.studies.entries import Entries
from vlm_audio_pipeline.studies.mistakes import Mistakes
from vlm_audio_pipeline.studies.yaml_text import KeyPath

MAX_COMPARISONS = 5000
"""Largest number of comparisons of a study, with groups replaced by their classifiers."""


def read_contrasts(
    values: Any, contrast_class: type[Contrast], entries: Entries, mistakes: Mistakes
) -> Iterator[Contrast]:
    """Yield the contrasts: one for each classifier that the name in `classifier` stands for.

    Args:
        values: the value of `contrasts` in the study file.
        contrast_class: what an entry can say, which depends on the task.
        entries: the other sections of the study.
        mistakes: gets the mistakes.
    """
    if not isinstance(values, list):
        mistakes.add(("contrasts",), f"must be a list of `{{classifier: ..., against: [...]}}`, got {values!r}")
        return
    options = {*entries.specs["classifiers"], *entries.names["classifiers"], *contrast_class.references}
    comparisons = 0
    for i, item in enumerate(values):
        key_path = ("contrasts", str(i))
        if isinstance(item, Mapping) and isinstance(against := item.get("against"), str):
            item = {**item, "against": [against]}
        contrast = mistakes.validate(contrast_class, item, key_path)
        if contrast is None:
            continue
        for key, texts in (("classifier", [contrast.classifier]), ("against", contrast.against)):
            names = [Operand.parse(text).name for text in texts]
            check_classifiers((*key_path, key), names, options, mistakes)
        for classifier in expand_operand(contrast.classifier, entries):
            operands_against = tuple(
                operand
                for text in contrast.against[: MAX_COMPARISONS + 1]
                for operand in _expand_against(text, contrast.classifier, classifier, entries)
            )
            comparisons += len(operands_against)
            if comparisons > MAX_COMPARISONS:
                mistakes.add(
                    key_path, f"the contrasts must be at most {MAX_COMPARISONS} comparisons, got more; declare fewer"
                )
                return
            _check_controls(key_path, (classifier, *operands_against), entries, mistakes)
            yield contrast.model_copy(update={"classifier": classifier, "against": operands_against})


def expand_operand(operand: str, entries: Entries) -> list[str]:
    """Return an operand for each of the classifiers that its name stands for."""
    name = _operand_name(operand)
    return [entry + operand[len(name) :] for entry in entries.names["classifiers"].get(name, [name])]


def check_classifiers(key_path: KeyPath, names: Iterable[str], options: Iterable[str], mistakes: Mistakes) -> None:
    """Add a mistake for each name that is not one of the options."""
    for name in names:
        if name not in options:
            mistakes.add(key_path, f"must name classifiers of the study, got '{name}'; {suggestion(name, options)}")


def _expand_against(operand: str, group: str, classifier: str, entries: Entries) -> list[str]:
    """Return the operands that an operand of `against` stands for.

    If it names the same group as the contrast's `classifier`, it stands only for the entry that is compared: with
    `{classifier: a, against: [a@blank]}`, each entry of `a` is compared with its own control.
    """
    name = _operand_name(operand)
    return (
        [_operand_name(classifier) + operand[len(name) :]]
        if name == _operand_name(group)
        else expand_operand(operand, entries)
    )


def _check_controls(key_path: KeyPath, operands: Iterable[str], entries: Entries, mistakes: Mistakes) -> None:
    for text in operands:
        operand = Operand.parse(text)
        spec = entries.specs["classifiers"].get(operand.name)
        if spec is not None and operand.control not in ("none", *spec.needs().conditions):
            mistakes.add(
                key_path,
                f"'{text}' must use a control of its classifier; add it to `{operand.name}: {{controls: ...}}` or to `perturb`",
            )


def _operand_name(operand: str) -> str:
    """Return the name in an operand: `janus` of `janus:likelihood@blank`."""
    return re.split("[:@]", operand)[0]
