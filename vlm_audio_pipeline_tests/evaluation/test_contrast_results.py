import time

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.contrast_results import Evidence, contrasts_table
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.leaderboard import Entry, leaderboard_table
from vlm_audio_pipeline.evaluation.metrics import metrics_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.evaluation.test_metrics import CLASSES, predictions

N = 60
LISTED = [Clip(f"clip {i}", CLASSES[i % 4], 1 + i % 2, f"s{i}", "f") for i in range(N)]


def said(right, **constants) -> pa.Table:
    """Give predictions of the listed clips, right on the first so many."""
    rows = [(c.fold, c.label, c.label if i < right else CLASSES[(i + 1) % 4], None) for i, c in enumerate(LISTED)]
    table = predictions(rows, **constants)
    sources = pa.array([f"s{name.split()[1]}" for name in table["clip"].to_pylist()])
    at = table.schema.get_field_index("source")
    return table.set_column(at, table.schema.field(at), sources)


EVIDENCE = Evidence(
    predictions={
        "janus": pa.concat_tables(
            [
                said(40, scoring="likelihood"),
                said(15, scoring="likelihood", control="blank"),
                said(38, scoring="generation"),
                said(10, scoring="examples_knn"),
            ]
        ),
        "clap": said(42),
        "human": pa.concat_tables([said(60, scoring="judgement"), said(50, scoring="judgement", trial=1)]),
    },
    not_run=lambda name: f"weights of {name} missing",
    clips=LISTED,
    classes=4,
    tuning_folds=(1,),
)


def made(*contrasts):
    table = contrasts_table([Contrast(**c) for c in contrasts], EVIDENCE)
    rows = TABLES["contrasts"].conform(table, study="s").to_pylist()
    assert [r["position"] for r in rows] == list(range(len(rows)))
    return rows


def test_what_a_study_declares():
    against = ("chance", "janus@blank", "clap", "majority", "human")
    chance, blank, clap, majority, human = made({"classifier": "janus", "against": against})
    assert {r["scoring"] for r in (chance, blank, clap)} == {"likelihood"}, "the default where there are several"
    assert (clap["against_scoring"], chance["against_scoring"], blank["against_control"]) == ("score", None, "blank")
    assert [r["verdict"] for r in (chance, blank, clap)] == ["better", "better", "cannot tell apart"]
    # 15 clips a class: in one fold 15 of two classes, in the other of the other two: majority is never right
    assert (majority["against_accuracy"], majority["verdict"]) == (0.0, "better")
    assert (human["against_accuracy"], human["against_scoring"]) == (pytest.approx(55 / 60), "judgement")
    assert (blank["only_classifier"], blank["only_against"], blank["p_mcnemar"]) == (25, 0, pytest.approx(2 / 2**25))
    assert (
        chance["p_mcnemar"] is None and chance["reason"] == "McNemar's test needs one prediction a clip on both sides"
    )
    assert (clap["clips"], clap["sources"], clap["holm_over"]) == (60, 60, 5)
    # right on 40 and on 42, the 40 among them: two clips of 60 differ, so signs fall alike 2 times of 4
    assert (clap["p"], clap["p_mcnemar"], clap["difference"]) == (0.5, 0.5, pytest.approx(-2 / 60))


def test_holm_corrects_over_all_that_could_be_made():
    rows = made(
        {"classifier": "janus", "against": ("clap", "absent", "chance")},
        {"classifier": "janus", "against": ("clap",)},
        {"classifier": "clap", "against": ("janus@blank",)},
    )
    assert [(r["classifier"], r["against"]) for r in rows] == [
        ("janus", "clap"),
        ("janus", "absent"),
        ("janus", "chance"),
        ("clap", "janus"),
    ], "declared twice, made once"
    clap, absent, chance, blank = rows
    assert {r["holm_over"] for r in rows} == {3} and absent["p_holm"] is None
    small, middle = sorted((chance["p"], blank["p"]))
    assert sorted((chance["p_holm"], blank["p_holm"])) == pytest.approx([3 * small, max(3 * small, 2 * middle)])
    assert clap["p_holm"] == clap["p"] == 0.5


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        ("absent", "absent was not run: weights of absent missing"),
        ("clap@blank", "clap has no predictions under control blank, only under none"),
        ("clap:generation", "clap has no scoring generation, only score"),
        ("janus:generation@blank", "janus has no scoring generation, only likelihood"),
    ],
)
def test_a_missing_side_is_a_row_with_a_reason(side, reason):
    for given in ({"classifier": "janus", "against": (side,)}, {"classifier": side, "against": ("janus",)}):
        [row] = made(given)
        assert (row["verdict"], row["reason"], row["clips"], row["difference"]) == ("not compared", reason, 0, None)
        assert row["statement"] == f"{given['classifier']} was not compared with {given['against'][0]}: {reason}."


def test_scorings_by_name():
    [row] = made({"classifier": "janus:generation", "against": ("janus:examples_knn",)})
    assert (row["scoring"], row["against_scoring"], row["difference"]) == (
        "generation",
        "examples_knn",
        pytest.approx(28 / 60),
    )
    wanted = made({"classifier": "janus", "against": ("clap", "janus:likelihood"), "scoring": "generation"})
    assert [(r["scoring"], r["against_scoring"]) for r in wanted] == [
        ("generation", "score"),
        ("generation", "likelihood"),
    ]


def test_without_the_folds_choices_were_tuned_on():
    [row] = made({"classifier": "janus", "against": ("clap",), "folds": "without_tuning"})
    assert (row["subset"], row["clips"], row["classifier_clips"]) == ("without tuning folds", 30, 30)
    assert row["accuracy"] == pytest.approx(20 / 30)  # every second clip is of fold 2


def test_sentences():
    better, apart = made({"classifier": "janus", "against": ("janus@blank", "clap")})
    low, high = 100 * better["low"], 100 * better["high"]
    assert better["statement"] == (
        "janus is right more often than janus@blank: 66.7% against 25.0% of 60 clips, +41.7 points "
        f"(95 % interval {low:+.1f} to {high:+.1f}, p < 0.001)."
    )
    assert 28 < low < 32 and 51 < high < 56  # 41.7 -+ 1.96 sqrt(0.417 * 0.583 / 60) = 29.2 to 54.1
    assert apart["statement"].startswith(
        "janus and clap cannot be told apart: 66.7% against 70.0% of 60 clips, -3.3 points"
    )
    # differences -1 twice and 0: 2.80 * sqrt((2/60 - (2/60)^2) / 60) = 6.5 points
    assert apart["statement"].endswith("so many clips would show 6.5 points, 8 times of 10.")
    [worse] = made({"classifier": "janus@blank", "against": ("janus",)})
    assert worse["statement"].startswith("janus@blank is right less often than janus") and worse["verdict"] == "worse"


def test_answers_that_never_differ():
    evidence = Evidence({"a": said(30), "b": said(30)}, str, LISTED, 4, ())
    [row] = contrasts_table([Contrast(classifier="a", against=("b",))], evidence).to_pylist()
    assert (row["difference"], row["p"], row["detectable"], row["verdict"]) == (0, 1, None, "cannot tell apart")
    assert row["low"] < 0 < row["high"] and "the same on every recording" in row["reason"]


def test_nothing_declared_is_an_empty_table():
    assert made() == []


def test_nobody_is_compared_with_himself():
    """As the loader makes them of a name that stands for several entries."""
    group = Contrast(classifier="janus", against=("clap",)).model_copy(update={"against": ("clap", "janus")})
    rows = contrasts_table([group], EVIDENCE).to_pylist()
    assert [(r["against"], r["holm_over"]) for r in rows] == [("clap", 1)]


def test_nor_under_another_spelling():
    """`janus` means janus:likelihood@none; Holm must not count what is nothing to compare."""
    for one, same in (("janus", "janus:likelihood"), ("janus:likelihood", "janus@none")):
        rows = made({"classifier": one, "against": ("clap", same)})
        assert [(r["against"], r["holm_over"]) for r in rows] == [("clap", 1)]
    twice = made({"classifier": "janus", "against": ("clap", "clap:score")})
    assert [r["holm_over"] for r in twice] == [1]
    with pytest.raises(ValidationError, match="each side must be named once"):
        Contrast(classifier="janus", against=("janus@none",))


def test_summaries_of_many_classifiers_take_seconds():
    """22 classifiers of 400 clips of 304 recordings, in two scorings each."""
    rng = np.random.default_rng(0)
    sources = np.concatenate([np.arange(304), rng.integers(0, 304, 96)])
    listed = [Clip(f"clip {i}", CLASSES[i % 4], 1 + i % 5, f"s{sources[i]}", "f") for i in range(400)]
    names = {c.id: c.source for c in listed}
    different = []
    for _ in range(4):
        p = rng.dirichlet(np.full(4, 0.5), 400)
        rows = [(c.fold, c.label, CLASSES[s.argmax()], s.tolist()) for c, s in zip(listed, p, strict=True)]
        ways = [predictions(rows, scoring=scoring) for scoring in ("likelihood", "generation")]
        table = pa.concat_tables(ways)
        at = table.schema.get_field_index("source")
        own = pa.array([names[name] for name in table["clip"].to_pylist()])
        different.append(table.set_column(at, table.schema.field(at), own))
    tables = {f"c{k}": different[k % 4] for k in range(22)}
    contrasts = [Contrast(classifier=f"c{k}", against=("chance", "c0:generation")) for k in range(22)]
    took = []
    for work in (
        lambda: leaderboard_table(
            [Entry(n, "language_model", t, (1, 2, 3, 4, 5)) for n, t in tables.items()],
            clips=listed,
            rejected_clips=0,
            classes=CLASSES,
            tuning_folds=(1,),
            limited=False,
        ),
        lambda: contrasts_table(contrasts, Evidence(tables, str, listed, 4, (1,))),
        lambda: [metrics_table(t, CLASSES, (1,)) for t in different],
    ):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    print("leaderboard of 44 rows {:.2f} s, 44 contrasts {:.2f} s, metrics of 4 classifiers {:.2f} s".format(*took))  # noqa: T201
    assert sum(took) < 30  # a machine ten times slower passes
