"""Read study files. A single error lists every mistake in a file, before anything runs.

Each line of the error gives the file, the line, the key, what is wrong and what is allowed.
"""

import re
from pathlib import Path
from typing import Any, get_args

from vlm_audio_pipeline.classifiers.perturbed import PerturbedInput
from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.contracts.paths import expand_home
from vlm_audio_pipeline.datasets.base import DATASETS, DatasetSpec
from vlm_audio_pipeline.datasets.perturbation import Perturb
from vlm_audio_pipeline.evaluation.optional_analysis_stages import ANALYSES
from vlm_audio_pipeline.evaluation.projections import DEFAULT_PROJECTION, Projection
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.studies.declared_contrasts import check_classifiers, expand_operand, read_contrasts
from vlm_audio_pipeline.studies.entries import NAME_RULE, Entries, read_spec
from vlm_audio_pipeline.studies.mistakes import Mistakes
from vlm_audio_pipeline.studies.rerun import Rerun
from vlm_audio_pipeline.studies.study import BUILT_IN, KEYS, NAME, OWNER, Study
from vlm_audio_pipeline.studies.yaml_text import read_text, read_yaml
from vlm_audio_pipeline.tasks.multi_label.pooling import Pooling
from vlm_audio_pipeline.tasks.registry import DEFAULT_TASK, TASKS

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def built_in_studies() -> dict[str, Path]:
    """Return the study files of the package, by name."""
    return {p.stem: p for p in sorted(BUILT_IN.glob("*.yaml"))}


def load_study(name_or_path: str | Path) -> Study:
    """Read a built-in study by name, or a study file by path.

    Raises:
        BadStudy: if the name is neither a built-in study nor a file, or if the file has mistakes; lists all of them.
    """
    path = expand_home(name_or_path)
    built_in = built_in_studies()
    if str(name_or_path) in built_in and path.suffix == "":
        path = built_in[str(name_or_path)]
    if not path.is_file():
        raise BadStudy(
            f"a study must be a file or one of the built-in studies, got '{name_or_path}'; "
            f"{suggestion(str(name_or_path), built_in)}"
        )
    return parse_study(read_text(path), path.resolve())


def parse_study(text: str, path: Path) -> Study:
    """Read a study from the text of its file.

    Args:
        text: YAML.
        path: the study file; paths in the text are relative to its folder.

    Raises:
        BadStudy: if the text has mistakes; lists all of them.
    """
    raw, lines = read_yaml(text, path)
    mistakes = Mistakes(path, lines)
    for key in raw:
        if key not in KEYS:
            mistakes.add((str(key),), f"unknown key; {suggestion(str(key), KEYS)}")
    name, owner = raw.get("name", path.stem), str(raw.get("owner", ""))
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        mistakes.add(("name",), f"{NAME_RULE}, got {name!r}")
    for key in ("description", "owner"):
        if not isinstance(raw.get(key, ""), str):
            mistakes.add((key,), f"must be text, got {raw[key]!r}")
    if owner and not re.fullmatch(OWNER, owner):
        mistakes.add(("owner",), f"must be an e-mail address or team:name, got '{owner}'")
    if "dataset" in raw:
        dataset = read_spec(DATASETS.all(), raw["dataset"], ("dataset",), mistakes)
    else:
        dataset = None
        mistakes.add(("dataset",), f"is required; its `kind` is one of {', '.join(DATASETS.all())}")
    task = _read_task(raw, mistakes)
    entries = Entries(raw, mistakes, task)
    perturb = mistakes.validate(Perturb, raw.get("perturb"), ("perturb",))
    _add_perturbations(perturb, entries)
    if not raw.get("classifiers"):
        mistakes.add(("classifiers",), "must name at least one classifier")
    contrasts = tuple(read_contrasts(raw.get("contrasts") or [], TASKS[task].contrast, entries, mistakes))
    if dataset is not None and not getattr(dataset, "tuning_folds", ()):
        for i, contrast in enumerate(contrasts):
            if contrast.folds == "without_tuning":
                key_path = ("contrasts", str(i), "folds")
                mistakes.add(
                    key_path, "must be all if the dataset has no tuning_folds, got without_tuning; add tuning_folds"
                )
    analyses = _read_analyses(raw, mistakes)
    pooling = _read_pooling(raw, mistakes)
    projection = mistakes.validate(Projection, raw.get("projection", {}), ("projection",))
    budget = _read_budget(raw, entries, mistakes)
    rerun = mistakes.validate(Rerun, raw.get("rerun"), ("rerun",))
    if rerun is not None and rerun.paid and budget is None:
        mistakes.add(("rerun", "paid"), "needs a budget; add `budget: {usd: ...}`")
    mistakes.raise_all()
    assert isinstance(dataset, DatasetSpec)
    return Study(
        name=name,
        dataset=dataset,
        renderings=entries.specs["renderings"],
        encoders=entries.specs["encoders"],
        classifiers=entries.specs["classifiers"],
        perturb=perturb,
        contrasts=contrasts,
        pooling=pooling,
        analyses=analyses,
        projection=projection or DEFAULT_PROJECTION,
        budget=budget,
        rerun=rerun,
        description=str(raw.get("description", "")).strip(),
        owner=owner,
        path=path,
        task=task,
    )


def _read_task(raw: dict[str, Any], mistakes: Mistakes) -> str:
    task = raw.get("task", DEFAULT_TASK)
    if not isinstance(task, str) or task not in TASKS:
        mistakes.add(("task",), f"must be a task, got {task!r}; {suggestion(str(task), TASKS)}")
        return DEFAULT_TASK
    if raw.get("analyses") and not TASKS[task].has_analyses:
        mistakes.add(("analyses",), f"are not available in the task {task}; remove them")
    if raw.get("pooling") and not TASKS[task].has_pooling:
        mistakes.add(("pooling",), f"is not available in the task {task}; remove it")
    return task


def _add_perturbations(perturb: Perturb | None, entries: Entries) -> None:
    """Set `perturb` of every classifier that receives audio or images and does not declare its own changes."""
    classifiers = entries.specs["classifiers"]
    for name, spec in classifiers.items() if perturb else ():
        if isinstance(spec, PerturbedInput) and "perturb" not in spec.model_fields_set:
            classifiers[name] = spec.model_copy(update={"perturb": perturb})


def _read_pooling(raw: dict[str, Any], mistakes: Mistakes) -> tuple[Pooling, ...]:
    value = raw.get("pooling") or []
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name not in POOLINGS:
            mistakes.add(("pooling",), f"must be one or several of {', '.join(POOLINGS)}, got {name!r}")
    return tuple(name for name in POOLINGS if name in names)


def _read_analyses(raw: dict[str, Any], mistakes: Mistakes) -> tuple[str, ...]:
    names = raw.get("analyses") or []
    if not isinstance(names, list):
        mistakes.add(
            ("analyses",), f"must be a list of analyses, got {names!r}; the analyses are {', '.join(ANALYSES)}"
        )
        return ()
    analyses: list[str] = []
    for i, name in enumerate(names):
        if isinstance(name, str) and name in ANALYSES:
            analyses.append(name)
        else:
            mistakes.add(("analyses", str(i)), f"must be an analysis, got {name!r}; {suggestion(str(name), ANALYSES)}")
    return tuple(dict.fromkeys(analyses))


def _read_budget(raw: dict[str, Any], entries: Entries, mistakes: Mistakes) -> Budget | None:
    budget = mistakes.validate(Budget, raw.get("budget"), ("budget",))
    if budget is None:
        return None
    first = tuple(operand for name in budget.first for operand in expand_operand(name, entries))
    check_classifiers(("budget", "first"), first, entries.specs["classifiers"], mistakes)
    return budget.model_copy(update={"first": first})
