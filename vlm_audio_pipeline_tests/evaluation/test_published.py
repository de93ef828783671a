import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.evaluation.published import published_results, published_table, results_version
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, esc10_dataset, needs_esc10, predict_all_folds


def predictions(hits_by_fold: dict[int, list[int]], **constants):
    """Build predictions from fold -> hits (1 for correct), a clip each; two clips share a source."""
    rows = [(fold, i, bool(hit)) for fold, hits in hits_by_fold.items() for i, hit in enumerate(hits)]
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


def published(repeated, dataset="ESC-10"):
    return TABLES["published"].conform(published_table(repeated, dataset), study="s").to_pylist()


def repeated_results(repeated, dataset="ESC-10"):
    return [r for r in published(repeated, dataset) if r["classifier"]]


def half_correct(folds, clips):
    """Return hits with one of two clips correct in every source, `clips` clips a fold."""
    return {fold: [1, 0] * (clips // 2) for fold in folds}


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
    for wrong, in_interval, relation in (
        (3, True, "holds"),
        (40, False, "lies below"),
    ):  # published: 0.9925, 3 wrong of 400
        hits = [1] * 400
        for i in range(wrong):
            hits[i * 10] = 0
        hits_by_fold = {fold: hits[(fold - 1) * 80 : fold * 80] for fold in range(1, 6)}
        name = "can-vlms-hear/laion/clap-htsat-unfused"
        [row] = repeated_results({"clap": (name, "zero_shot", predictions(hits_by_fold, **model))})
        assert (row["measured"], row["measured_over"], row["measured_clips"]) == (1 - wrong / 400, "all", 400)
        assert row["measured_low"] < row["measured"] < row["measured_high"]
        assert (row["published_in_interval"], row["reason"], row["differences"]) == (in_interval, None, "")
        assert f"{relation} the published 0.993" in row["verdict"], row["verdict"]


def test_a_result_over_one_fold_is_compared_with_that_fold():
    hits_by_fold = {1: [1] * 60 + [0] * 20, **{fold: [0] * 80 for fold in (2, 3, 4, 5)}}
    table = predictions(hits_by_fold, model="gpt-4o-2024-11-20", shots=1, rendering="paper", scoring="generation")
    rows = {r["split"]: r for r in repeated_results({"g": ("dixit2024/GPT-4o", "language_model", table)})}
    assert set(rows) == {"5-fold", "fold 1"}, "zero-shot ablations are another setting"
    assert (rows["fold 1"]["measured"], rows["fold 1"]["measured_over"]) == (0.75, "fold 1")
    assert (rows["fold 1"]["measured_clips"], rows["fold 1"]["published_in_interval"]) == (80, True)  # published 0.7375
    assert (rows["5-fold"]["measured"], rows["5-fold"]["published_in_interval"]) == (60 / 400, False)  # published 0.59
    assert {r["differences"] for r in rows.values()} == {""}


def test_every_difference_in_protocol_is_listed():
    table = predictions(half_correct([2], 8), model="deepseek-community/Janus-Pro-1B", shots=0, rendering="mel")
    rows = repeated_results({"janus": ("dixit2024/GPT-4o", "language_model", table)})
    assert {r["setting"].split()[0] for r in rows} == {"zero-shot"} and len(rows) == 9
    # all zero-shot numbers are of fold 1, which was not predicted
    assert {(r["measured"], r["published_in_interval"], r["reason"]) for r in rows} == {
        (None, None, "fold 1 was not predicted")
    }
    assert rows[0]["verdict"] == "not measured: fold 1 was not predicted"
    table = predictions(
        half_correct([1], 8), model="deepseek-community/Janus-Pro-1B", shots=0, rendering="mel", trial=1
    )
    table = pa.concat_tables([table, predictions(half_correct([1], 8), shots=0, rendering="mel", trial=0)])
    rows = {
        r["setting"]: r["differences"] for r in repeated_results({"j": ("dixit2024/GPT-4o", "language_model", table)})
    }
    assert rows["zero-shot linear frequency"].split("; ") == [
        "published over 80 clips (fold 1), here over 8 (folds 1)",
        "published with linear frequency, here with the rendering mel",
        "published for GPT-4o, here deepseek-community/Janus-Pro-1B",
        "here 2 trials are pooled",
    ]
    [row] = repeated_results(
        {"p": ("dixit2024/Gemini-1.5", "probe", predictions(half_correct([1, 2], 8), rendering="mel"))}
    )
    assert "published few-shot, here linear probe" in row["differences"]
    assert "published on audio, here on spectrogram image" in row["differences"]


def test_a_result_on_another_dataset_gets_no_verdict():
    table = predictions(half_correct([1], 8), shots=1, rendering="paper", model="gpt-4o")
    [row, _] = repeated_results({"g": ("dixit2024/GPT-4o", "language_model", table)}, "synthetic")
    assert (row["dataset"], row["published_in_interval"], row["reason"]) == ("ESC-10", None, "another dataset")
    assert row["differences"].startswith("published on ESC-10, here on synthetic; published over 400 clips")
    assert row["verdict"].startswith("0.500 (95 % interval")
    assert row["verdict"].endswith("on synthetic; 0.590 is of ESC-10")
    [row] = repeated_results(
        {"p": ("piczak2015/human listeners", "annotations", predictions(half_correct([1], 8)))}, "ESC-50"
    )
    assert (row["dataset"], row["published"], row["published_in_interval"]) == ("ESC-50", 0.813, True)


def test_controls_are_left_out_and_scorings_are_separate():
    name = "can-vlms-hear/deepseek-ai/Janus-Pro-7B"
    tables = [
        predictions(
            half_correct([1], 8), scoring=s, control=c, shots=0, rendering="notebook", model="deepseek-ai/Janus-Pro-7B"
        )
        for s in ("generation", "likelihood")
        for c in ("none", "blank")
    ]
    rows = repeated_results({"janus": (name, "language_model", pa.concat_tables(tables))})
    assert [(r["scoring"], r["measured_clips"]) for r in rows] == [("generation", 8), ("likelihood", 8)]


def test_classifiers_that_were_not_run_and_results_that_are_not_repeated():
    rows = published({"g": ("dixit2024/GPT-4o", "language_model", None)})
    repeated_rows = [r for r in rows if r["classifier"] == "g"]
    assert len(repeated_rows) == 11 and {r["verdict"] for r in repeated_rows} == {
        "not measured: no predictions with today's settings yet"
    }
    other_rows = [r for r in rows if not r["classifier"]]
    assert {r["dataset"] for r in other_rows} == {"ESC-10"} and {r["measured"] for r in other_rows} == {None}
    assert {r["verdict"] for r in other_rows} == {"not repeated in this study"}
    assert {(r.system, r.split) for r in published_results() if r.dataset == "ESC-10"} == {
        (r["system"], r["split"]) for r in rows
    }
    assert published({}, "synthetic") == []


def test_an_unknown_name_in_reproduces_is_refused():
    with pytest.raises(
        BadStudy, match=r"classifiers.g.reproduces: .* got 'dixit2024/GPT4o'; did you mean 'dixit2024/GPT-4o'"
    ):
        published_table({"g": ("dixit2024/GPT4o", "language_model", None)}, "ESC-10")


@needs_esc10
def test_the_annotations_of_esc10_equal_the_published_result():
    from vlm_audio_pipeline.classifiers.annotations import AnnotationsClassifier

    data = esc10_dataset()
    annotations = predict_all_folds(
        AnnotationsClassifier(source="esc10_annotators"), "annotators", data, {"clips": clips_table(data.clips)}
    )
    rows = published({"annotators": ("piczak2015/human listeners", "annotations", annotations)})
    [row] = [r for r in rows if r["classifier"]]
    assert (row["measured"], row["published"]) == (pytest.approx(4487 / 4687), 0.9573)
    assert (row["measured_clips"], row["published_in_interval"], row["differences"]) == (321, True, "")
