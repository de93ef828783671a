"""Read the sections of a study file that map names to specs.

An entry can stand for several: a list where one value is expected makes one entry of each value, and a reference to an
entry that became several makes as many. `like: <name>` takes over the values of another entry.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.evaluation.references import REFERENCES
from vlm_audio_pipeline.studies.fields import refers_to_section, takes_list
from vlm_audio_pipeline.studies.mistakes import Mistakes
from vlm_audio_pipeline.studies.study import NAME, SECTIONS, spec_classes
from vlm_audio_pipeline.studies.yaml_text import KeyPath

NAME_RULE = "must be lower-case letters, digits and single _, starting with a letter"


class Entries:
    """The entries of a study file.

    Args:
        raw: values of the file.
        mistakes: collects what is wrong.

    Attributes:
        specs: section -> name -> spec.
        names: section -> name in the file -> names of the entries that were made of it.
    """

    def __init__(self, raw: Mapping[str, Any], mistakes: Mistakes):
        self._mistakes = mistakes
        self.specs: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        self.names: dict[str, dict[str, list[str]]] = {section: {} for section in SECTIONS}
        for section in SECTIONS:
            entries = raw.get(section) or {}
            if not isinstance(entries, Mapping):
                mistakes.add((section,), f"must map names to specs, got {entries!r}")
                continue
            for name, at, values in self._expand(section, entries):
                if (spec := read_spec(spec_classes(section), values, at, mistakes)) is not None:
                    self.specs[section][name] = spec
        self._check_references({s: set(raw[s]) for s in SECTIONS if isinstance(raw.get(s), Mapping)})

    def _expand(self, section: str, entries: Mapping[str, Any]) -> Iterator[tuple[str, KeyPath, dict[str, Any]]]:
        """Yield each entry as (name, key in the file, values), with `like`, lists and groups resolved."""
        family, classes = SECTIONS[section], spec_classes(section)
        default = {} if isinstance(family, Registry) else {"kind": family.kind}
        taken: set[str] = set()
        for name in entries:
            at = (section, str(name))
            if section == "classifiers" and name in REFERENCES:
                self._mistakes.add(
                    at, f"names must not be {' or '.join(REFERENCES)}, which are references of contrasts, got '{name}'"
                )
                continue
            if not isinstance(name, str) or not re.fullmatch(NAME, name):
                self._mistakes.add(at, f"names {NAME_RULE}, got {name!r}")
                continue
            merged = self._merge_like(entries, name, at)
            if merged is None:
                continue
            for suffix, variant in self._variants(classes, default | merged):
                if name + suffix in taken:
                    self._mistakes.add(at, f"gives the name '{name + suffix}' twice; rename one")
                    continue
                taken.add(name + suffix)
                self.names[section].setdefault(name, []).append(name + suffix)
                yield name + suffix, at, variant

    def _variants(
        self, classes: Mapping[str, type[Spec]], values: dict[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (suffix of the name, values) of each entry that one entry of the file stands for."""
        cls = classes.get(str(values.get("kind")))
        if cls is None:
            yield "", values
            return
        with suppress(VlmAudioError):  # `read_spec` reports it
            cls = cls.spec_class(values)
        lists = self._listed_values(cls, values)
        for chosen in itertools.product(*lists.values()):
            combination = {**values, **dict(zip(lists, chosen, strict=True))}
            suffix = "".join(f"_{_slug(value)}" for value in chosen)
            for more, variant in cls.variants(combination).items():
                yield suffix + (f"_{more}" if more else ""), variant

    def _merge_like(self, entries: Mapping[str, Any], name: str, at: KeyPath) -> dict[str, Any] | None:
        """Return the values of an entry on top of those of the entry that `like` names, and so on."""
        others = [str(entry) for entry in entries if entry != name]
        chain, values = [name], entries[name]
        layers = []
        while True:
            if not isinstance(values, Mapping):
                self._mistakes.add(at, f"must be a mapping with the key `kind` (or `like`), got {values!r}")
                return None
            layers.append(values)
            like = values.get("like")
            if like is None:
                break
            if like in chain:
                self._mistakes.add((*at, "like"), f"must not form a circle, got {' -> '.join([*chain, str(like)])}")
                return None
            if not isinstance(like, str) or like not in entries:
                self._mistakes.add((*at, "like"), f"must name another entry, got '{like}'; {suggestion(like, others)}")
                return None
            chain.append(like)
            values = entries[like]
        return {k: v for layer in reversed(layers) for k, v in layer.items() if k != "like"}

    def _listed_values(self, cls: type[Spec], values: dict[str, Any]) -> dict[str, list[Any]]:
        """Return the fields with several values where one is expected: a list, or the name of several entries."""
        listed: dict[str, list[Any]] = {}
        for key, value in values.items():
            field = cls.model_fields.get(key)
            if field is None or takes_list(field.annotation):
                continue
            is_list = isinstance(value, list) and bool(value)
            names = self.names.get(refers_to_section(field) or "", {})
            items = [
                v
                for item in (value if is_list else [value])
                for v in (names.get(item, [item]) if isinstance(item, str) else [item])
            ]
            if is_list or items != [value]:
                listed[key] = items
        return listed

    def _check_references(self, in_file: Mapping[str, set[str]]) -> None:
        """Add a mistake for each field that names an entry that does not exist.

        Args:
            in_file: section -> names in the file. A reference to an entry with mistakes of its own is not reported.
        """
        for section, specs in self.specs.items():
            for name, spec in specs.items():
                for key, field in type(spec).model_fields.items():
                    target, value = refers_to_section(field), getattr(spec, key)
                    if target is None or value is None:
                        continue
                    options = self.specs.get(target, {})
                    if value not in options and value not in in_file.get(target, set()):
                        self._mistakes.add(
                            (section, name, key),
                            f"must name one of the {target}, got '{value}'; {suggestion(value, options)}",
                        )


def read_spec(classes: Mapping[str, type[Spec]], values: Any, at: KeyPath, mistakes: Mistakes) -> Spec | None:
    """Return the spec of one entry; None if it is wrong, which is added to the mistakes.

    Args:
        classes: kind -> spec class.
        values: the entry.
        at: key of the entry: ("dataset",) or (section, name).
        mistakes: collects what is wrong.
    """
    if not isinstance(values, Mapping):
        mistakes.add(at, f"must be a mapping with the key `kind`, got {values!r}")
        return None
    kind = values.get("kind")
    if kind is None:
        mistakes.add(at, f"must have the key `kind`; options: {', '.join(classes)}")
        return None
    if str(kind) not in classes:
        family = at[0].removesuffix("s")
        mistakes.add((*at, "kind"), f"unknown {family} kind '{kind}'; {suggestion(str(kind), classes)}")
        return None
    try:
        cls = classes[str(kind)].spec_class(values)
    except VlmAudioError as error:
        mistakes.add(at, str(error))
        return None
    return mistakes.validate(cls, {k: v for k, v in values.items() if k != "kind"}, at)


def _slug(value: Any) -> str:
    """Return a value as part of a name; a long one is cut and gets a hash."""
    if isinstance(value, Mapping):
        value = "_".join(str(v) for v in value.values())
    slug = re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_")
    return slug if 0 < len(slug) <= 40 else f"{slug[:31].rstrip('_')}_{fingerprint(str(value), length=8)}".lstrip("_")
