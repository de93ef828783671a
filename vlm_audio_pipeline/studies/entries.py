"""Read the sections of a study file that map names to specs.

An entry of the file can stand for several entries: a list where one value is expected makes one entry per value, and a
reference to an entry that stands for several makes one entry for each of them. `like: <name>` takes over the values of
another entry.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.studies.fields import refers_to_section, takes_list
from vlm_audio_pipeline.studies.mistakes import Mistakes
from vlm_audio_pipeline.studies.study import NAME, SECTIONS, section_spec_classes
from vlm_audio_pipeline.studies.yaml_text import KeyPath
from vlm_audio_pipeline.tasks.registry import DEFAULT_TASK, TASKS

NAME_RULE = "must be lower-case letters, digits and single _, starting with a letter"
MAX_ENTRIES = 1000
"""Largest number of entries of a section, with lists and groups replaced by what they stand for."""
MAX_LIKE = 50
"""Longest chain of `like`."""


class Entries:
    """The entries of a study file.

    Args:
        raw: values of the file.
        mistakes: collects the mistakes of the file.
        task: name of the study's task.

    Attributes:
        specs: section -> name -> spec.
        names: section -> name in the file -> names of the entries that it stands for.
    """

    def __init__(self, raw: Mapping[str, Any], mistakes: Mistakes, task: str = DEFAULT_TASK):
        self._mistakes = mistakes
        self._task = task
        self.specs: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        self.names: dict[str, dict[str, list[str]]] = {section: {} for section in SECTIONS}
        for section in SECTIONS:
            entries = raw.get(section) or {}
            if not isinstance(entries, Mapping):
                mistakes.add((section,), f"must be a mapping of names to entries, got {entries!r}")
                continue
            if len(entries) > MAX_ENTRIES:
                mistakes.add(
                    (section,), f"must have at most {MAX_ENTRIES} entries, got {len(entries)}; split the study"
                )
                continue
            for name, key_path, values in self._expand(section, entries):
                if (spec := read_spec(section_spec_classes(section, task), values, key_path, mistakes)) is not None:
                    self.specs[section][name] = spec
        self._check_references({s: set(raw[s]) for s in SECTIONS if isinstance(raw.get(s), Mapping)})

    def _expand(self, section: str, entries: Mapping[str, Any]) -> Iterator[tuple[str, KeyPath, dict[str, Any]]]:
        """Yield each entry as (name, key in the file, values), with `like`, lists and groups resolved."""
        family, classes = SECTIONS[section], section_spec_classes(section, self._task)
        default = {} if isinstance(family, Registry) else {"kind": family.kind}
        used_names: set[str] = set()
        expanded = 0
        for name in entries:
            key_path = (section, str(name))
            references = TASKS[self._task].contrast.references
            if section == "classifiers" and name in references:
                self._mistakes.add(
                    key_path,
                    f"names must not be {' or '.join(references)}, which {'are references' if len(references) > 1 else 'is a reference'} "
                    f"of contrasts, got '{name}'",
                )
                continue
            if not isinstance(name, str) or not re.fullmatch(NAME, name):
                self._mistakes.add(key_path, f"names {NAME_RULE}, got {name!r}")
                continue
            merged = self._merge_like(entries, name, key_path)
            if merged is None:
                continue
            for suffix, variant in self._variants(classes, default | merged, key_path):
                expanded += 1
                if expanded > MAX_ENTRIES:
                    self._mistakes.add(
                        key_path,
                        f"stands for too many entries: at most {MAX_ENTRIES} {section} are allowed; shorten its lists",
                    )
                    return
                if name + suffix in used_names:
                    self._mistakes.add(key_path, f"gives the name '{name + suffix}' twice; rename one")
                    continue
                used_names.add(name + suffix)
                self.names[section].setdefault(name, []).append(name + suffix)
                yield name + suffix, key_path, variant

    def _variants(
        self, classes: Mapping[str, type[Spec]], values: dict[str, Any], key_path: KeyPath
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (suffix of the name, values) of each entry that one entry of the file stands for."""
        cls = classes.get(str(values.get("kind")))
        if cls is None:
            yield "", values
            return
        with suppress(VlmAudioError):  # `read_spec` reports it
            cls = cls.spec_class(values)
        lists = self._listed_values(cls, values)
        if (count := math.prod(map(len, lists.values()))) > MAX_ENTRIES:
            self._mistakes.add(
                key_path, f"stands for {count:,} entries, at most {MAX_ENTRIES} are allowed; shorten its lists"
            )
            return
        for combined_values in itertools.product(*lists.values()):
            combination = {**values, **dict(zip(lists, combined_values, strict=True))}
            suffix = "".join(f"_{_slug(value)}" for value in combined_values)
            for variant_name, variant in cls.variants(combination).items():
                yield suffix + (f"_{variant_name}" if variant_name else ""), variant

    def _merge_like(self, entries: Mapping[str, Any], name: str, key_path: KeyPath) -> dict[str, Any] | None:
        """Merge the values of an entry over those of the entry that its `like` names, and so on along the chain."""
        other_names = [str(entry) for entry in entries if entry != name]
        chain, values = [name], entries[name]
        layers = []
        while True:
            if not isinstance(values, Mapping):
                self._mistakes.add(key_path, f"must be a mapping with the key `kind` (or `like`), got {values!r}")
                return None
            layers.append(values)
            like = values.get("like")
            if like is None:
                break
            if len(chain) > MAX_LIKE:
                self._mistakes.add(
                    (*key_path, "like"),
                    f"must lead to its values over at most {MAX_LIKE} entries, got more; write the values",
                )
                return None
            if like in chain:
                self._mistakes.add(
                    (*key_path, "like"), f"must not form a circle, got {' -> '.join([*chain, str(like)])}"
                )
                return None
            if not isinstance(like, str) or like not in entries:
                self._mistakes.add(
                    (*key_path, "like"), f"must name another entry, got '{like}'; {suggestion(like, other_names)}"
                )
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
            all_items = (
                v
                for item in (value if is_list else [value])
                for v in (names.get(item, [item]) if isinstance(item, str) else [item])
            )
            items = list(itertools.islice(all_items, MAX_ENTRIES + 1))
            if is_list or items != [value]:
                listed[key] = items
        return listed

    def _check_references(self, names_in_file: Mapping[str, set[str]]) -> None:
        """Add a mistake for each field that names an entry that does not exist.

        Args:
            names_in_file: section -> names in the file. A reference to an entry with mistakes of its own is not reported.
        """
        for section, specs in self.specs.items():
            for name, spec in specs.items():
                for key, field in type(spec).model_fields.items():
                    target, value = refers_to_section(field), getattr(spec, key)
                    if target is None or value is None:
                        continue
                    options = self.specs.get(target, {})
                    if value not in options and value not in names_in_file.get(target, set()):
                        self._mistakes.add(
                            (section, name, key),
                            f"must name one of the {target}, got '{value}'; {suggestion(value, options)}",
                        )


def read_spec(classes: Mapping[str, type[Spec]], values: Any, key_path: KeyPath, mistakes: Mistakes) -> Spec | None:
    """Return the spec of one entry; None if it has mistakes, which are added to `mistakes`.

    Args:
        classes: kind -> spec class.
        values: the entry.
        key_path: key of the entry: ("dataset",) or (section, name).
        mistakes: collects the mistakes of the file.
    """
    if not isinstance(values, Mapping):
        example = f"; write {{kind: {values}}}" if isinstance(values, str) and values in classes else ""
        mistakes.add(key_path, f"must be a mapping with the key `kind`, got {values!r}{example}")
        return None
    kind = values.get("kind")
    if kind is None:
        mistakes.add(key_path, f"must have the key `kind`; options: {', '.join(classes)}")
        return None
    if str(kind) not in classes:
        family = key_path[0].removesuffix("s")
        mistakes.add((*key_path, "kind"), f"unknown {family} kind '{kind}'; {suggestion(str(kind), classes)}")
        return None
    try:
        cls = classes[str(kind)].spec_class(values)
    except VlmAudioError as error:
        mistakes.add(key_path, str(error))
        return None
    return mistakes.validate(cls, {k: v for k, v in values.items() if k != "kind"}, key_path)


def _slug(value: Any) -> str:
    """Convert a value to a part of a name; a long value is shortened and ends with a hash."""
    if isinstance(value, Mapping):
        value = "_".join(str(v) for v in value.values())
    slug = re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_")
    return slug if 0 < len(slug) <= 40 else f"{slug[:31].rstrip('_')}_{fingerprint(str(value), length=8)}".lstrip("_")
