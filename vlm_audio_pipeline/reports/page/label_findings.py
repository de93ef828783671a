"""The findings at the top of the page of a multi-label study, as sentences.

They repeat results of tables: the leaderboard, and the tests of declared contrasts. A difference that no contrast tests is called that.
A classifier that is not finished is not named as best, and its controls are not compared.

Belongs here: sentences. Does not belong here: tests (`tasks.multi_label.contrast_results`) and the page (`label_report`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation.references import CHANCE
from vlm_audio_pipeline.evaluation.result_names import result_name
from vlm_audio_pipeline.reports.page.controls import CONTROL_WORDS

Row = dict[str, Any]
_WITHOUT_RESULT = "not compared"


@dataclass(frozen=True)
class LabelFinding:
    """A question, its answer, and sentences with numbers."""

    question: str
    answer: str
    details: tuple[str, ...] = ()


def label_findings(board: Sequence[Row], contrasts: Sequence[Row]) -> list[LabelFinding]:
    """Return the findings of a study.

    Args:
        board: rows of `multi_label_leaderboard`, ranked rows first.
        contrasts: rows of `multi_label_contrasts`, in the order declared.
    """
    findings = [_best(board, contrasts), _chance(contrasts)]
    if (controls := tuple(_control_sentences(board, contrasts))) or any(_is_control(row) for row in board):
        answer = "Controls change the image and nothing else. A classifier that uses the image loses by it."
        controls += (_ABOUT_LISTS,) if any("macro F1" in sentence for sentence in controls) else ()
        findings.append(LabelFinding("Do the classifiers use the image?", answer, controls or (_NO_CONTROL,)))
    if contrasts:
        findings.append(LabelFinding("What do the declared contrasts say?", _count_verdicts(contrasts)))
    return findings


_ABOUT_LISTS = "Lists of classes can also have another F1 because they are longer or shorter. A contrast with chance shows whether they fit the clips."
_NO_CONTROL = "No control is finished together with its original images, so none is compared."


def _best(board: Sequence[Row], contrasts: Sequence[Row]) -> LabelFinding:
    question = "Which classifier finds the sounds best?"
    ranked = [row for row in board if row["rank"] is not None]
    unfinished = [row["classifier"] for row in board if row["partial"] and row["control"] == "none"]
    missing = (
        (f"Not finished, so without a rank: {', '.join(dict.fromkeys(unfinished))}. The notes say why.",)
        if unfinished
        else ()
    )
    if not ranked:
        return LabelFinding(question, "This cannot be said: no classifier has scores for every clip.", missing)
    first = [row for row in ranked if row["rank"] == 1]
    names = " and ".join(_name(row) for row in first)
    answer = f"{names} {'have' if len(first) > 1 else 'has'} the highest mean average precision (cmAP)."
    details = [_value_sentence(row) for row in first]
    if constant := next((row for row in board if row["kind"] == "reference" and row["cmap"] is not None), None):
        details.append(f"Equal scores for all clips have {rounded_text(constant['cmap'], 3)}.")
    others = [row for row in ranked if row["rank"] > 1]
    if len(first) == 1 and others:
        details.append(_test_sentence(first[0], others[0], contrasts))
    return LabelFinding(question, answer, (*details, *missing))


def _chance(contrasts: Sequence[Row]) -> LabelFinding:
    """Return what the contrasts with chance say; each classifier's chance level is that of its own scores."""
    question = "Which classifiers are better than chance?"
    tested = [row for row in contrasts if row["against"] == CHANCE and row["control"] == "none"]
    made = [row for row in tested if row["verdict"] != _WITHOUT_RESULT]
    if not made:
        why = "was made, because they are not finished" if tested else "is declared"
        return LabelFinding(question, f"This was not tested: no contrast with chance {why}.")
    better = list(dict.fromkeys(_name(row) for row in made if row["verdict"] == "better"))
    answer = f"Shown to be better: {', '.join(better)}." if better else "None is shown to be better."
    return LabelFinding(question, answer, tuple(row["statement"] for row in tested))


def _value_sentence(row: Row) -> str:
    interval = (
        "no interval"
        if row["cmap_low"] is None
        else f"95 % interval {rounded_text(row['cmap_low'], 3)} to {rounded_text(row['cmap_high'], 3)}"
    )
    return (
        f"{_name(row)}: {rounded_text(row['cmap'], 3)} ({interval}), from {row['positives']:,} labels of {row['classes']} "
        f"classes in {row['clips']:,} clips."
    )


def _test_sentence(best: Row, second: Row, contrasts: Sequence[Row]) -> str:
    if (contrast := _find_contrast(best, second, contrasts)) is not None:
        return _contrast_text(contrast, best, second)
    return (
        f"No contrast compares {_name(best)} with the next one, {_name(second)}, so it is not tested whether the difference could "
        "be chance."
    )


def _control_sentences(board: Sequence[Row], contrasts: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each finished control beside its finished original; in F1 if there are no scores."""
    originals = {(r["classifier"], r["scoring"]): r for r in board if r["control"] == "none" and not r["partial"]}
    for row in board:
        original = originals.get((row["classifier"], row["scoring"]))
        if not _is_control(row) or row["partial"] or original is None:
            continue
        measure, title = ("cmap", "cmAP") if original["cmap"] is not None else ("f1_macro", "macro F1")
        if original[measure] is None or row[measure] is None:
            continue
        contrast = _find_contrast(original, row, contrasts)
        tested = (
            "This difference was not tested."
            if contrast is None
            else f"Tested: {_contrast_text(contrast, original, row)}"
        )
        yield (
            f"{_name(original)} with {CONTROL_WORDS[row['control']]}: {title} {rounded_text(row[measure], 3)}, with the original "
            f"images {rounded_text(original[measure], 3)}. {tested}"
        )


def _contrast_text(contrast: Row, *sides: Row) -> str:
    """Return the statement of a contrast, and why it has another cmAP than the leaderboard; see `tasks.multi_label.comparison`."""
    sentences = [contrast["statement"]]
    for row in sides if contrast["measure"] == "cmap" else ():
        if row["cmap"] is None or contrast["clips"] != row["clips"]:
            continue
        is_first = (contrast["classifier"], contrast["scoring"], contrast["control"]) == _key(row)
        value, compared = (
            rounded_text(v, 3) for v in (row["cmap"], contrast["value" if is_first else "against_value"])
        )
        if value != compared:
            sentences.append(
                f"{value} and {compared} are the same result: {_name(row)} has equal scores for several clips, and comparisons put equal "
                "scores in random order."
            )
    return " ".join(sentences)


def _find_contrast(first: Row, second: Row, contrasts: Sequence[Row]) -> Row | None:
    """Return the declared contrast of two rows over all clips that has a result, in either order; in cmAP if there are several."""
    pair = {_key(first), _key(second)}
    found = [
        c
        for c in contrasts
        if c["subset"] == "all"
        and c["verdict"] != _WITHOUT_RESULT
        and {
            (c["classifier"], c["scoring"], c["control"]),
            (c["against"], c["against_scoring"], c["against_control"]),
        }
        == pair
    ]
    return min(found, key=lambda c: c["measure"] != "cmap", default=None)


def _count_verdicts(contrasts: Sequence[Row]) -> str:
    order = ("better", "worse", "equivalent", "cannot tell apart", _WITHOUT_RESULT)
    words = {
        "better": "the first side is better in {}",
        "worse": "the second side is better in {}",
        "equivalent": "the sides are equivalent in {}",
        "cannot tell apart": "no difference is shown in {}",
        _WITHOUT_RESULT: "{} could not be computed",
    }
    verdicts = [row["verdict"] for row in contrasts]
    counts = [words[name].format(verdicts.count(name)) for name in order if name in verdicts]
    return f"Of {len(contrasts)}: {'; '.join(counts)}."


def _is_control(row: Row) -> bool:
    """Return whether a row is of a control of the image; a perturbation of the audio is none."""
    return row["control"] in CONTROL_WORDS


def _key(row: Row) -> tuple[str, str, str]:
    return row["classifier"], row["scoring"], row["control"]


def _name(row: Row) -> str:
    name = result_name(row["classifier"], row["scoring"], row["control"])
    return name if row["scoring"] == "score" else f"{name} ({row['scoring']})"
