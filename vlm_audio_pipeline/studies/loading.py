"""Study file -> `Study`: every mistake of the file in one error, before anything runs.

Each line of the error names the file and line, the path of the key, what is wrong and what would be right.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from vlm_audio_pipeline.classifiers.base import ClassifierSpec
from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.paths import expanded
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.base import DATASETS, DatasetSpec
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand
from vlm_audio_pipeline.evaluation.references import REFERENCES
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.studies.fields import refers_to_section, takes_list
from vlm_audio_pipeline.studies.rerun import Rerun
from vlm_audio_pipeline.studies.study import BUILT_IN, KEYS, NAME, OWNER, SECTIONS, Study

Option = TypeVar("Option", bound=BaseModel)


def built_in_studies() -> dict[str, Path]:
    """Give the studies that come with the package, by name."""
    return {p.stem: p for p in sorted(BUILT_IN.glob("*.yaml"))}


def load_study(name_or_path: str | Path) -> Study:
    """Read a built-in study by name, or any study file by path.

    Raises:
        BadStudy: with every mistake in the file, or for a name that is neither built in nor a file.
    """
    path = expanded(name_or_path)
    built_in = built_in_studies()
    if str(name_or_path) in built_in and path.suffix == "":
        path = built_in[str(name_or_path)]
    if not path.is_file():
        raise BadStudy(
            f"a study must be a file or one of the built-in studies, got '{name_or_path}'; "
            f"{suggestion(str(name_or_path), built_in)}"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadStudy(f"{path}: must be UTF-8 text, got {error.reason} at byte {error.start}; save it anew") from error
    return parse_study(text, path.resolve())


def parse_study(text: str, path: Path) -> Study:
    """Read a study from its text.

    Args:
        text: YAML.
        path: the file it stands in; relative paths in it start from this file's folder.

    Raises:
        BadStudy: with every mistake in the file.
    """
    raw, lines = _read_yaml(text, path)
    return _Reader(path, lines).study(raw)


def _read_yaml(text: str, path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """Parse safely; refuse duplicate keys; remember the line of every key."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2026-13-45 is read as a date
        raise BadStudy(f"{path}: must be YAML, got {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise BadStudy(f"{path}: must be a mapping with the keys {', '.join(KEYS)}")
    lines: dict[tuple[str, ...], int] = {}

    def visit(node: yaml.Node, at: tuple[str, ...], inside: tuple[yaml.Node, ...] = ()) -> None:
        if node in inside:
            raise BadStudy(
                f"{path}:{lines.get(at, 1)}: {'.'.join(at)} must not contain itself; write out what is meant"
            )
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*at, str(key.value))
                if here in lines:
                    raise BadStudy(
                        f"{path}:{key.start_mark.line + 1}: {'.'.join(here)} must be given once; "
                        f"it also stands in line {lines[here]}"
                    )
                lines[here] = key.start_mark.line + 1
                visit(value, here, (*inside, node))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                visit(value, (*at, str(i)), (*inside, node))

    visit(root, ())
    return values, lines


class _Reader:
    """Collects the mistakes of one file."""

    def __init__(self, path: Path, lines: dict[tuple[str, ...], int]):
        self.path = path
        self.lines = lines
        self.mistakes: list[tuple[int, str]] = []
        self.groups: dict[str, dict[str, list[str]]] = {}  # section -> name in the file -> the entries made of it

    def wrong(self, at: tuple[str, ...], message: str) -> None:
        known = at
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, 1)
        place = ".".join(at) or "the study"
        self.mistakes.append((line, f"{self.path}:{line}: {place}: {message}"))

    def finish(self) -> None:
        if self.mistakes:
            raise BadStudy("\n".join(m for _, m in sorted(self.mistakes, key=lambda pair: pair[0])))

    def study(self, raw: dict[str, Any]) -> Study:
        for key in raw:
            if key not in KEYS:
                self.wrong((str(key),), f"unknown key; {suggestion(str(key), KEYS)}")
        name = raw.get("name", self.path.stem)
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            self.wrong(
                ("name",), f"must be lower-case letters, digits and single _, starting with a letter, got {name!r}"
            )
        for key in ("description", "owner"):
            if not isinstance(raw.get(key, ""), str):
                self.wrong((key,), f"must be text, got {raw[key]!r}")
        owner = str(raw.get("owner", ""))
        if owner and not re.fullmatch(OWNER, owner):
            self.wrong(("owner",), f"must be an e-mail address or team:name, got '{owner}'")
        dataset = None
        if "dataset" not in raw:
            self.wrong(("dataset",), f"must be given; options for its kind: {', '.join(DATASETS.all())}")
        else:
            dataset = self.spec(DATASETS, raw["dataset"], ("dataset",))
        sections: dict[str, dict[str, Any]] = {}
        for section, registry in SECTIONS.items():
            entries = raw.get(section) or {}
            sections[section] = {}
            self.groups[section] = {}
            if not isinstance(entries, Mapping):
                self.wrong((section,), f"must map names to specs, got {entries!r}")
                continue
            for entry, at, mapping in self.expanded(registry, section, entries):
                spec = self.spec(registry, mapping, at)
                if spec is not None:
                    sections[section][entry] = spec
        self.references(sections, {s: set(raw[s]) for s in SECTIONS if isinstance(raw.get(s), Mapping)})
        if not raw.get("classifiers"):
            self.wrong(("classifiers",), "must name at least one classifier")
        contrasts = tuple(self.contrasts(raw.get("contrasts") or [], sections["classifiers"]))
        budget = self.option(Budget, raw.get("budget"), ("budget",))
        if budget is not None:
            first = (entry for name in budget.first for entry in self.each(name))
            budget = budget.model_copy(update={"first": tuple(first)})
        if dataset is not None and not getattr(dataset, "tuning_folds", ()):
            for i, contrast in enumerate(contrasts):
                if contrast.folds == "without_tuning":
                    at = ("contrasts", str(i), "folds")
                    self.wrong(at, "must be all where the dataset names no tuning_folds, got without_tuning; name them")
        rerun = self.option(Rerun, raw.get("rerun"), ("rerun",))
        if rerun is not None and rerun.paid and budget is None:
            self.wrong(("rerun", "paid"), "must go with a budget, got none; add `budget: {usd: ...}`")
        self.named(("budget", "first"), getattr(budget, "first", ()), sections["classifiers"])
        self.finish()
        assert isinstance(dataset, DatasetSpec)
        return Study(
            name=name,
            dataset=dataset,
            renderings=sections["renderings"],
            encoders=sections["encoders"],
            classifiers=sections["classifiers"],
            contrasts=contrasts,
            budget=budget,
            rerun=rerun,
            description=str(raw.get("description", "")).strip(),
            owner=owner,
            path=self.path,
        )

    def expanded(
        self, registry: Registry, section: str, entries: Mapping[str, Any]
    ) -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
        """Resolve `like`, and make one entry of each value of a list where one value is expected.

        Who refers to an entry of which several were made stands for as many himself.
        """
        taken: set[str] = set()
        for name, given in entries.items():
            at = (section, str(name))
            if section == "classifiers" and name in REFERENCES:
                self.wrong(
                    at, f"names must not be {' or '.join(REFERENCES)}, which contrasts know already, got '{name}'"
                )
                continue
            if not isinstance(name, str) or not re.fullmatch(NAME, name):
                self.wrong(
                    at, f"names must be lower-case letters, digits and single _, starting with a letter, got {name!r}"
                )
                continue
            mapping = self.alike(entries, name, given, at)
            if mapping is None:
                continue
            if registry.default_kind:
                mapping = {"kind": registry.default_kind, **mapping}
            for suffix, variant in self.variants(registry, mapping):
                if name + suffix in taken:
                    self.wrong(at, f"gives the name '{name + suffix}' twice; rename one")
                    continue
                taken.add(name + suffix)
                self.groups[section].setdefault(name, []).append(name + suffix)
                yield name + suffix, at, variant

    def variants(self, registry: Registry, mapping: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the entries one entry of the file stands for, each with what is added to its name."""
        cls = registry.all().get(str(mapping.get("kind")))
        if cls is None:
            yield "", mapping
            return
        lists = self.lists(cls, mapping)
        for values in itertools.product(*lists.values()):
            chosen = {**mapping, **dict(zip(lists, values, strict=True))}
            suffix = "".join(f"_{_slug(v)}" for v in values)
            for more, variant in cls.variants(chosen).items():
                yield suffix + (f"_{more}" if more else ""), variant

    def alike(self, entries: Mapping[str, Any], name: str, given: Any, at: tuple[str, ...]) -> dict[str, Any] | None:
        others = [str(entry) for entry in entries if entry != name]
        chain, mapping = [name], given
        layers = []
        while True:
            if not isinstance(mapping, Mapping):
                self.wrong(at, f"must be a mapping with the key `kind` (or `like`), got {mapping!r}")
                return None
            layers.append(mapping)
            like = mapping.get("like")
            if like is None:
                break
            if like in chain:
                self.wrong((*at, "like"), f"must not go round in a circle, got {' -> '.join([*chain, str(like)])}")
                return None
            if not isinstance(like, str) or like not in entries:
                self.wrong((*at, "like"), f"must name another entry, got '{like}'; {suggestion(like, others)}")
                return None
            chain.append(like)
            mapping = entries[like]
        return {k: v for layer in reversed(layers) for k, v in layer.items() if k != "like"}

    def lists(self, cls: type[Spec], mapping: dict[str, Any]) -> dict[str, list[Any]]:
        """Give the fields that hold several values where one is expected: a list, or the name of several entries."""
        found: dict[str, list[Any]] = {}
        for key, value in mapping.items():
            field = cls.model_fields.get(key)
            if field is None or takes_list(field.annotation):
                continue
            values = value if isinstance(value, list) and value else [value]
            groups = self.groups.get(refers_to_section(field) or "", {})
            values = [v for one in values for v in (groups.get(one, [one]) if isinstance(one, str) else [one])]
            if (isinstance(value, list) and value) or values != [value]:
                found[key] = values
        return found

    def spec(self, registry: Registry, mapping: Any, at: tuple[str, ...]) -> Spec | None:
        if not isinstance(mapping, Mapping):
            self.wrong(at, f"must be a mapping with the key `kind`, got {mapping!r}")
            return None
        kind = mapping.get("kind")
        if kind is None:
            self.wrong(at, f"must have the key `kind`; options: {', '.join(registry.all())}")
            return None
        try:
            cls = registry.get(str(kind))
        except VlmAudioError as error:
            self.wrong((*at, "kind"), str(error))
            return None
        return self.option(cls, {k: v for k, v in mapping.items() if k != "kind"}, at)

    def option(self, cls: type[Option], values: Any, at: tuple[str, ...]) -> Option | None:
        """Read what is not there as None, and what is wrong too."""
        if values is None:
            return None
        try:
            return cls.model_validate(values, context={"folder": self.path.parent})
        except ValidationError as error:
            for mistake in error.errors():
                self.wrong((*at, *(str(p) for p in mistake["loc"])), _in_words(dict(mistake), cls))
            return None

    def contrasts(self, given: Any, classifiers: Mapping[str, ClassifierSpec]) -> Iterator[Contrast]:
        """Read the contrasts; the name of several entries stands for each of them."""
        if not isinstance(given, list):
            self.wrong(("contrasts",), f"must be a list of `{{classifier: ..., against: [...]}}`, got {given!r}")
            return
        for i, values in enumerate(given):
            at = ("contrasts", str(i))
            if isinstance(values, Mapping) and isinstance(against := values.get("against"), str):
                values = {**values, "against": [against]}
            contrast = self.option(Contrast, values, at)
            if contrast is None:
                continue
            known = {**classifiers, **self.groups.get("classifiers", {}), **dict.fromkeys(REFERENCES)}
            self.named((*at, "against"), contrast.mentioned(), known)
            for mine in self.each(contrast.classifier):
                against = tuple(
                    other for text in contrast.against for other in self.each(text, contrast.classifier, mine)
                )
                self.possible(at, (mine, *against), classifiers)
                yield contrast.model_copy(update={"classifier": mine, "against": against})

    def possible(self, at: tuple[str, ...], sides: Iterable[str], classifiers: Mapping[str, ClassifierSpec]) -> None:
        for text in sides:
            side = Operand.parse(text)
            there = ("none", *getattr(classifiers.get(side.name), "controls", ()))
            if side.name in classifiers and side.control not in there:
                self.wrong(
                    at, f"'{text}' must be of a control that is asked for; add it to `{side.name}: {{controls: ...}}`"
                )

    def each(self, operand: str, beside: str = "", entry: str = "") -> list[str]:
        """Give a side of a contrast for each of the entries its name stands for.

        Of the name that stands `beside`, the one `entry` is meant: `{classifier: a, against: [a@blank]}` sets every entry
        against its own control.
        """
        name = _name(operand)
        mine = [_name(entry)] if name == _name(beside) else self.groups.get("classifiers", {}).get(name, [name])
        return [one + operand[len(name) :] for one in mine]

    def named(self, at: tuple[str, ...], names: Iterable[str], there: Iterable[str]) -> None:
        for name in names:
            if name not in there:
                self.wrong(at, f"must name classifiers of the study, got '{name}'; {suggestion(name, there)}")

    def references(self, sections: dict[str, dict[str, Any]], given: dict[str, set[str]]) -> None:
        for section, specs in sections.items():
            for name, spec in specs.items():
                for key, field in type(spec).model_fields.items():
                    target, value = refers_to_section(field), getattr(spec, key)
                    if target is None or value is None:
                        continue
                    there = sections.get(target, {})
                    if value not in there and value not in given.get(target, set()):
                        self.wrong(
                            (section, name, key),
                            f"must name one of the {target}, got '{value}'; {suggestion(value, there)}",
                        )


def _name(operand: str) -> str:
    """Give the name in a side of a contrast: `janus` of `janus:likelihood@blank`."""
    return re.split("[:@]", operand)[0]


def _slug(value: Any) -> str:
    if isinstance(value, Mapping):
        value = "_".join(str(v) for v in value.values())
    slug = re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_")
    return slug if 0 < len(slug) <= 40 else f"{slug[:31].rstrip('_')}_{fingerprint(str(value), length=8)}".lstrip("_")


def _in_words(mistake: dict[str, Any], cls: type[BaseModel]) -> str:
    got = mistake.get("input")
    key = str(mistake["loc"][-1]) if mistake["loc"] else ""
    match mistake["type"]:
        case "extra_forbidden":
            options = cls.model_fields if len(mistake["loc"]) == 1 else ()
            return f"unknown key; {suggestion(key, options)}" if options else "unknown key; remove it"
        case "missing":
            return "must be given"
        case "literal_error":
            expected = str(mistake["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            return f"must be one of them, got {got!r}; {suggestion(str(got), expected)}"
        case "value_error":
            return str(mistake["ctx"]["error"])
        case "tuple_type":
            return f"must be a list, got {got!r}; write [{got}]"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be keys and values, such as {{key: value}}, got {got!r}"
        case "too_short":
            return f"must name at least one, got {got!r}"
    return f"{re.sub('^[A-Z][a-z]+ should ', 'must ', mistake['msg'])}, got {got!r}"
