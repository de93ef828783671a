"""Responses in the words of models, with the class that a careful person reads: one table of reported cases, one of variants.

The columns of both tables are: about, classes (separated by " | "), answer, outcome, label.
"""

import csv
from collections import Counter
from pathlib import Path

import pytest

from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response


def cases(name):
    with Path(__file__).with_name(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


REPORTED = cases("answers.csv")
VARIANTS = cases("answer_variants.csv")
WITHOUT_REPORT = "plain names"
"""Kind of the variants that were never misread: they guard what a new rule may break."""


@pytest.mark.parametrize("case", REPORTED, ids=lambda case: f"{case['about']}: {case['answer'][:40]!r}")
def test_a_reported_answer_is_read_correctly(case):
    parsed = parse_response(case["answer"], case["classes"].split(" | "))
    assert (parsed.outcome, parsed.label or "") == (case["outcome"], case["label"]), parsed


@pytest.mark.parametrize("kind", sorted({case["about"] for case in VARIANTS}))
def test_variants_of_each_kind_are_read_correctly(kind):
    wrong = []
    for case in VARIANTS:
        if case["about"] == kind:
            parsed = parse_response(case["answer"], case["classes"].split(" | "))
            if (parsed.outcome, parsed.label or "") != (case["outcome"], case["label"]):
                wrong.append((case["answer"], case["label"] or case["outcome"], parsed))
    assert wrong == []


def test_the_tables_have_enough_cases():
    assert len(REPORTED) == 68
    counts = Counter(case["about"] for case in VARIANTS)
    assert counts.keys() == {case["about"] for case in REPORTED} | {WITHOUT_REPORT}
    assert {about: count for about, count in counts.items() if count < 30} == {WITHOUT_REPORT: 20}
