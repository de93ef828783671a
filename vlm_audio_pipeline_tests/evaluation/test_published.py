import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.evaluation.published import published_results, published_table, results_version
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.running import clips_table, esc10, needs_esc10, run


def predictions(right: dict[int, list[int]], **constants):
    """Give rows of clips, 1 for right, by fold; two clips a source."""
    rows = [(fold, i, bool(hit)) for fold, hits in right.items() for i, hit in enumerate(hits)]
    columns = {
        "fold": [f for f, _, _ in rows],
        "clip": [f"{f}-{i}" for f, i, _ in rows],
        "source": [f"{f}-{i // 2}" for f, i, _ in rows],
        "label": ["dog"] * len(rows),
        "predicted": ["dog" if hit else "rain" for *_, hit in rows],
        "correct": [hit for *_, hit in rows],
        "outcome": ["answered"] * len(rows),
    }
    for name, value in {"kind": "k", "scoring": "score", "control": "none", "trial": 0, **constants}.items():
        columns[name] = [value] * len(rows)
    return TABLES["predictions"].conform(pa.table(columns), study="s", classifier="c")


def published(repeated, dataset="esc10"):
    return TABLES["published"].conform(published_table(repeated, dataset), study="s").to_pylist()


def repeating(repeated, dataset="esc10"):
    return [r for r in published(repeated, dataset) if r["classifier"]]


def half(folds, each):
    """Half of `each` clips of every fold right, in every source one of two."""
    return {fold: [1, 0] * (each // 2) for fold in folds}


def test_the_published_numbers():
    assert len({(r.name, r.setting, r.dataset, r.split) for r in published_results()}) == len(published_results()) == 31
    results = {(r.name, r.setting, r.split): r for r in published_results()}
    # the abstract of arXiv 2411.12058
    assert results["dixit2024/GPT-4o", "few-shot", "5-fold"].value == 0.59
    assert results["dixit2024/human experts", "reading", "fold 1"].value == 0.725
    assert all(0 < r.value < 1 and r.clips > 0 and r.metric == "accuracy" for r in results.values())
    assert len(results_version()) == 64


def test_the_same_protocol_has_no_differences_and_the_interval_decides():
    model = {"model": "laion/clap-htsat-unfused"}
    for wrong, covered, how in ((3, True, "holds"), (40, False, "lies below")):  # published: 0.9925, 3 wrong of 400
        hits = [1] * 400
        for i in range(wrong):
            hits[i * 10] = 0
        right = {fold: hits[(fold - 1) * 80 : fold * 80] for fold in range(1, 6)}
        name = "can-vlms-hear/laion/clap-htsat-unfused"
        [row] = repeating({"clap": (name, "zero_shot", predictions(right, **model))})
        assert (row["measured"], row["measured_over"], row["measured_clips"]) == (1 - wrong / 400, "all", 400)
        assert row["measured_low"] < row["measured"] < row["measured_high"]
        assert (row["covered"], row["reason"], row["differs"]) == (covered, None, "")
        assert f"{how} the published 0.993" in row["verdict"], row["verdict"]


def test_a_result_over_one_fold_is_compared_with_that_fold():
    right = {1: [1] * 60 + [0] * 20, **{fold: [0] * 80 for fold in (2, 3, 4, 5)}}
    shown = predictions(right, model="gpt-4o-2024-11-20", shots=1, rendering="paper", scoring="generation")
    rows = {r["split"]: r for r in repeating({"g": ("dixit2024/GPT-4o", "language_model", shown)})}
    assert set(rows) == {"5-fold", "fold 1"}, "zero-shot ablations are another setting"
    assert (rows["fold 1"]["measured"], rows["fold 1"]["measured_over"]) == (0.75, "fold 1")
    assert (rows["fold 1"]["measured_clips"], rows["fold 1"]["covered"]) == (80, True)  # published 0.7375
    assert (rows["5-fold"]["measured"], rows["5-fold"]["covered"]) == (60 / 400, False)  # published 0.59
    assert {r["differs"] for r in rows.values()} == {""}


def test_every_difference_is_said():
    shown = predictions(half([2], 8), model="deepseek-community/Janus-Pro-1B", shots=0, rendering="mel")
    rows = repeating({"janus": ("dixit2024/GPT-4o", "language_model", shown)})
    assert {r["setting"].split()[0] for r in rows} == {"zero-shot"} and len(rows) == 9
    # all zero-shot numbers are of fold 1, which was not predicted
    assert {(r["measured"], r["covered"], r["reason"]) for r in rows} == {(None, None, "fold 1 was not predicted")}
    assert rows[0]["verdict"] == "not measured: fold 1 was not predicted"
    shown = predictions(half([1], 8), model="deepseek-community/Janus-Pro-1B", shots=0, rendering="mel", trial=1)
    shown = pa.concat_tables([shown, predictions(half([1], 8), shots=0, rendering="mel", trial=0)])
    rows = {r["setting"]: r["differs"] for r in repeating({"j": ("dixit2024/GPT-4o", "language_model", shown)})}
    assert rows["zero-shot linear frequency"].split("; ") == [
        "published over 80 clips (fold 1), here over 8 (folds 1)",
        "published with linear frequency, here with the rendering mel",
        "published for GPT-4o, here deepseek-community/Janus-Pro-1B",
        "here 2 trials are pooled",
    ]
    [row] = repeating({"p": ("dixit2024/Gemini-1.5", "probe", predictions(half([1, 2], 8), rendering="mel"))})
    assert "published few-shot, here linear probe" in row["differs"]
    assert "published on audio, here on spectrogram image" in row["differs"]


def test_another_dataset_is_not_judged():
    shown = predictions(half([1], 8), shots=1, rendering="paper", model="gpt-4o")
    [row, _] = repeating({"g": ("dixit2024/GPT-4o", "language_model", shown)}, "synthetic")
    assert (row["dataset"], row["covered"], row["reason"]) == ("ESC-10", None, "another dataset")
    assert row["differs"].startswith("published on ESC-10, here on synthetic; published over 400 clips")
    assert row["verdict"].startswith("0.500 (95 % interval")
    assert row["verdict"].endswith("on synthetic; 0.590 is of ESC-10")
    [row] = repeating({"p": ("piczak2015/human listeners", "human", predictions(half([1], 8)))}, "esc50")
    assert (row["dataset"], row["published"], row["covered"]) == ("ESC-50", 0.813, True)


def test_controls_are_not_compared_and_scorings_are_apart():
    name = "can-vlms-hear/deepseek-ai/Janus-Pro-7B"
    tables = [
        predictions(half([1], 8), scoring=s, control=c, shots=0, rendering="notebook", model="deepseek-ai/Janus-Pro-7B")
        for s in ("generation", "likelihood")
        for c in ("none", "blank")
    ]
    rows = repeating({"janus": (name, "language_model", pa.concat_tables(tables))})
    assert [(r["scoring"], r["measured_clips"]) for r in rows] == [("generation", 8), ("likelihood", 8)]


def test_what_was_not_run_and_what_nobody_repeats():
    rows = published({"g": ("dixit2024/GPT-4o", "language_model", None)})
    mine = [r for r in rows if r["classifier"] == "g"]
    assert len(mine) == 11 and {r["verdict"] for r in mine} == {
        "not measured: no predictions with today's settings yet"
    }
    others = [r for r in rows if not r["classifier"]]
    assert {r["dataset"] for r in others} == {"ESC-10"} and {r["measured"] for r in others} == {None}
    assert {r["verdict"] for r in others} == {"not repeated in this study"}
    assert {(r.system, r.split) for r in published_results() if r.dataset == "ESC-10"} == {
        (r["system"], r["split"]) for r in rows
    }
    assert published({}, "synthetic") == []


def test_a_name_nobody_published_under_is_refused():
    with pytest.raises(
        BadStudy, match=r"classifiers.g.reproduces: .* got 'dixit2024/GPT4o'; did you mean 'dixit2024/GPT-4o'"
    ):
        published_table({"g": ("dixit2024/GPT4o", "language_model", None)}, "esc10")


@needs_esc10
def test_the_listeners_of_esc10_are_those_that_were_published():
    from vlm_audio_pipeline.classifiers.human import Human

    data = esc10()
    judged = run(Human(source="esc10_listeners"), "listeners", data, {"clips": clips_table(data.clips)})
    rows = published({"listeners": ("piczak2015/human listeners", "human", judged)})
    [row] = [r for r in rows if r["classifier"]]
    assert (row["measured"], row["published"]) == (pytest.approx(4487 / 4687), 0.9573)
    assert (row["measured_clips"], row["covered"], row["differs"]) == (321, True, "")
