"""What a classifier said before: every result ever counted, each set against the one before it.

What belongs here: remembering results and comparing consecutive ones. What does not: comparing classifiers (`contrasts`).

Parts of tables are replaced whole, so a result is written into the row store when it is first counted, under a hash of
its content, and stays there with the settings of that time: append-only, like all rows. Settings that change and give
the very same predictions are no new result. A result that another one of the same settings holds entirely (fold 1 alone,
before the others were run) is not listed beside it.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.hashing import canonical, fingerprint
from vlm_audio_pipeline.evaluation.significance import mcnemar, sign_flip
from vlm_audio_pipeline.evaluation.tables import rows_of
from vlm_audio_pipeline.evaluation.uncertainty import difference_interval
from vlm_audio_pipeline.storage.partition_files import data_version
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TABLES


@dataclass(frozen=True)
class Made:
    """How predictions are made today.

    Attributes:
        step_version: code version and fingerprint of the step, "1:0a1b2c3d4e5f6071".
        settings: the classifier and what it stands on, as plain values.
    """

    step_version: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """One way in which a classifier was run, with what came of it.

    Attributes:
        classifier: its name in the study.
        scoring: how labels were chosen.
        control: what was done to the picture.
        data_version: hash of the predictions.
        step_version: of the step that made them.
        settings: as JSON.
        package_version: of this program.
        model: model ids, or None.
        revision: revisions, or None.
        answers: "<trial>|<clip>" -> (source, fold, what was said, whether it was right).
    """

    classifier: str
    scoring: str
    control: str
    data_version: str
    step_version: str
    settings: str
    package_version: str
    model: str | None
    revision: str | None
    answers: dict[str, tuple[str, int, str, bool]]

    def key(self, study: str) -> str:
        """Give its key in the row store."""
        of = (study, self.classifier, self.scoring, self.control, self.data_version)
        return fingerprint("history", *of, length=64)

    def payload(self) -> bytes:
        """Pack it."""
        return zlib.compress(json.dumps(asdict(self)).encode())

    @classmethod
    def unpacked(cls, payload: bytes) -> "Result":
        """Unpack what `payload` gave."""
        plain = json.loads(zlib.decompress(payload))
        return cls(**{**plain, "answers": {name: tuple(answer) for name, answer in plain["answers"].items()}})

    def within(self, other: "Result") -> bool:
        """Say whether `other` has the same settings and all of these answers."""
        same = all(
            getattr(self, name) == getattr(other, name) for name in ("step_version", "settings", "model", "revision")
        )
        return same and self.answers.items() <= other.answers.items()

    def by_clip(self) -> dict[str, tuple[str, list[bool]]]:
        """Give for each clip its source, and whether each prediction of it was right."""
        clips: dict[str, tuple[str, list[bool]]] = {}
        for name, (source, _, _, right) in self.answers.items():
            clips.setdefault(name.split("|", 1)[1], (source, []))[1].append(right)
        return clips


def results_of(classifier: str, predictions: pa.Table, made: Made) -> Iterator[Result]:
    """Take the results out of one classifier's `predictions` rows, one for each (scoring, control)."""
    predictions = predictions.sort_by([(name, "ascending") for name in TABLES["predictions"].key])
    rows = predictions.to_pylist()
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row["scoring"], row["control"]), []).append(i)
    for (scoring, control), at in groups.items():
        here = [rows[i] for i in at]
        yield Result(
            classifier,
            scoring,
            control,
            data_version(TABLES["predictions"], predictions.take(pa.array(at))),
            made.step_version,
            canonical(dict(made.settings)),
            __version__,
            _all(here, "model"),
            _all(here, "revision"),
            {
                f"{r['trial']}|{r['clip']}": (
                    r["source"],
                    r["fold"],
                    r["predicted"] or f"({r['outcome']})",
                    r["correct"],
                )
                for r in here
            },
        )


def _all(rows: list[dict[str, Any]], column: str) -> str | None:
    return ", ".join(sorted({row[column] for row in rows if row[column]})) or None


def history_table(
    study: str, predictions: Mapping[str, pa.Table], made: Mapping[str, Made], rows: RowStore
) -> pa.Table:
    """Remember today's results, and list all that were ever counted in this study.

    Args:
        study: name of the study.
        predictions: classifier -> its `predictions` rows of the folds that exist.
        made: classifier -> how they were made.
        rows: the row store, where results are kept.

    Returns:
        `history` rows without `study`; classifiers that the study has no more are among them.
    """
    today = [r for name, table in predictions.items() for r in results_of(name, table, made[name])]
    rows.put(f"history/{study}", [(r.key(study), r.payload()) for r in today])
    series: dict[tuple[str, str, str], list[tuple[datetime, Result]]] = {}
    for _, payload, seen in rows.of_kind(f"history/{study}"):
        result = Result.unpacked(payload)
        series.setdefault((result.classifier, result.scoring, result.control), []).append((seen, result))
    lines: list[dict[str, Any]] = []
    for name, seen_results in series.items():
        now = next((r for r in today if (r.classifier, r.scoring, r.control) == name), None)
        before: Result | None = None
        for entry, (seen, result) in enumerate(_whole(seen_results), 1):
            current = now is not None and (now.data_version == result.data_version or now.within(result))
            lines.append({"entry": entry, "first_seen": seen, "current": current, **_line(result, before)})
            before = result
    return rows_of("history", lines)


def _whole(results: list[tuple[datetime, Result]]) -> list[tuple[datetime, Result]]:
    """Leave out results that are part of another; of two equal ones the first stays."""
    return [
        (seen, result)
        for i, (seen, result) in enumerate(results)
        if not any(
            result.within(other) and (len(result.answers) < len(other.answers) or j < i)
            for j, (_, other) in enumerate(results)
            if j != i
        )
    ]


def _line(result: Result, before: Result | None) -> dict[str, Any]:
    answers = list(result.answers.values())
    correct = sum(right for *_, right in answers)
    plain = {name: value for name, value in vars(result).items() if name != "answers"}
    return {
        **plain,
        "accuracy": correct / len(answers),
        "correct": correct,
        "predictions": len(answers),
        "clips": len(result.by_clip()),
        "folds": ",".join(str(f) for f in sorted({fold for _, fold, _, _ in answers})),
        "changed": "" if before is None else "; ".join(_changes(before, result)),
        **_contrast(before, result),
    }


def _changes(before: Result, after: Result) -> list[str]:
    changes = [
        f"{name} {was or 'none'} -> {now or 'none'}"
        for name in ("model", "revision")
        if (was := getattr(before, name)) != (now := getattr(after, name))
    ]
    if (was := before.step_version.split(":")[0]) != (now := after.step_version.split(":")[0]):
        changes.append(f"code version {was} -> {now}")
    old, new = (dict(_flat(json.loads(r.settings))) for r in (before, after))
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            changes.append(f"{name}: {old.get(name, 'default')} -> {new.get(name, 'default')}")
    return changes or ["what it reads: its own settings are the same"]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _contrast(before: Result | None, after: Result) -> dict[str, Any]:
    """Compare on the clips both have, each clip counting once with the share of its predictions that was right."""
    if before is None:
        return {"reason": "the first result"}
    was, now = before.by_clip(), after.by_clip()
    common = sorted(was.keys() & now.keys())
    if not common:
        return {"common_clips": 0, "reason": "no clip in common"}
    old, new = (np.array([np.mean(side[clip][1]) for clip in common]) for side in (was, now))
    sources = np.array([now[clip][0] for clip in common])
    interval = difference_interval(new - old, sources)
    compared: dict[str, Any] = {
        "common_clips": len(common),
        "before": float(old.mean()),
        "after": float(new.mean()),
        "difference": float((new - old).mean()),
        "low": interval.low,
        "high": interval.high,
        "p": sign_flip(new - old, sources)[0],
    }
    if any(len(side[clip][1]) > 1 for side in (was, now) for clip in common):
        return {**compared, "reason": "gained, lost and McNemar's test: clips were predicted several times"}
    gained, lost = int((new > old).sum()), int((new < old).sum())
    return {**compared, "gained": gained, "lost": lost, "p_mcnemar": mcnemar(gained, lost)}
