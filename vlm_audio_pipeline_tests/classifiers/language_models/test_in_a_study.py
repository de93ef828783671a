"""A scripted language model in a whole study: requests, the effect of changes, and a row for every clip."""

import copy
from dataclasses import replace

import pytest

from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart
from vlm_audio_pipeline.classifiers.language_models.scripted import ScriptedBackend
from vlm_audio_pipeline.classifiers.language_models.stored_requests import Example, Query
from vlm_audio_pipeline.contracts.errors import BadStudy, MissingInput, VlmAudioError
from vlm_audio_pipeline.planning.single_response import ask_about_recording
from vlm_audio_pipeline.reports.page.requests import RequestReader
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench

MODEL = {"kind": "language_model", "backend": "scripted", "model": "scripted", "rendering": "small"}
ZERO = {**MODEL, "controls": ["blank", "no_image"]}
FEW = {**MODEL, "shots": 1, "select": "medoid", "encoder": "bands"}


@pytest.fixture(scope="session")
def executed_bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("asked") / "bench")
    bench.study |= {
        "renderings": {"small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256}},
        "classifiers": {"zero": ZERO, "few": FEW},
    }
    assert not bench.run().report.failed
    return bench


@pytest.fixture
def bench(executed_bench, tmp_path):
    return executed_bench.copy_to(tmp_path / "bench")


@pytest.fixture
def calls(monkeypatch):
    """Return a list of all requests that reach a model."""
    sent: list = []
    ask = ScriptedBackend.ask

    def counting(self, requests, on_reply):
        sent.extend(requests)
        return ask(self, requests, on_reply)

    monkeypatch.setattr(ScriptedBackend, "ask", counting)
    return sent


def changed_study(bench: Bench, classifier: str, **changes) -> dict:
    study = copy.deepcopy(bench.study)
    study["classifiers"][classifier].update(changes)
    return study


def rows(bench: Bench, sql: str) -> list[tuple]:
    return [tuple(r.values()) for r in query(bench.data_folder, sql).to_pylist()]


def test_every_clip_has_a_row_for_each_scoring_and_control(bench):
    count = (
        "SELECT classifier, scoring, control, count(*), count(DISTINCT clip) FROM predictions GROUP BY ALL ORDER BY ALL"
    )
    assert rows(bench, count) == [
        ("few", "examples_knn", "none", 12, 12),
        ("few", "generation", "none", 12, 12),
        ("few", "likelihood", "none", 12, 12),
        ("zero", "generation", "blank", 12, 12),
        ("zero", "generation", "no_image", 12, 12),
        ("zero", "generation", "none", 12, 12),
        ("zero", "likelihood", "blank", 12, 12),
        ("zero", "likelihood", "no_image", 12, 12),
        ("zero", "likelihood", "none", 12, 12),
    ]


def test_examples_come_from_other_folds_and_have_the_images_of_the_rendering(bench):
    wrong = """
        SELECT count(*) FROM examples e JOIN clips c USING (study, clip)
        WHERE c.fold = e.fold OR c.label != e.label
        OR c.source IN (SELECT source FROM clips q WHERE q.study = e.study AND q.fold = e.fold)
    """
    assert rows(bench, wrong) == [(0,)]
    hashes = """
        SELECT count(*), count(s.clip) FROM examples e
        LEFT JOIN spectrograms s ON s.study = e.study AND s.clip = e.clip AND s.image_sha256 = e.content_sha256
    """
    assert rows(bench, hashes) == [(6, 6)]  # 3 folds x 2 classes x 1 shot


def test_predictions_with_examples_name_their_draw_and_how_the_examples_were_selected(bench):
    select = "SELECT DISTINCT classifier, selection, draw FROM predictions ORDER BY ALL"
    assert rows(bench, select) == [("few", "medoid", 0), ("zero", None, None)]
    changed = changed_study(bench, "few", select="random", draws=2, orders=2)
    assert not bench.run(changed, only=("predictions/few", "leaderboard")).report.failed
    trials = "SELECT DISTINCT trial, draw, selection FROM predictions WHERE classifier = 'few' ORDER BY ALL"
    assert rows(bench, trials) == [(0, 0, "random"), (1, 0, "random"), (2, 1, "random"), (3, 1, "random")]
    scopes = "SELECT DISTINCT classifier, interval_scope FROM leaderboard WHERE kind != 'reference' ORDER BY ALL"
    assert rows(bench, scopes) == [("few", "clips, for these examples"), ("zero", "clips")]


def test_both_scorings_of_the_scripted_model_predict_the_same_class(bench):
    differ = """
        SELECT count(*) FROM predictions a JOIN predictions b USING (classifier, control, trial, clip)
        WHERE a.scoring = 'likelihood' AND b.scoring = 'generation' AND a.predicted IS DISTINCT FROM b.predicted
    """
    assert rows(bench, differ) == [(0,)]


def test_a_second_run_executes_no_step_and_sends_no_request(bench, calls):
    assert list(bench.run()) == [] and calls == []


@pytest.mark.parametrize(
    "changes",
    [
        {"normalise": "length"},
        {"calibrate": ["contextual"]},
        {"calibrate": ["temperature"]},
        {"synonyms": {"low": ["deep"]}},
    ],
    ids=str,
)
def test_a_changed_interpretation_of_responses_sends_no_request(bench, calls, changes):
    executed = bench.run(changed_study(bench, "zero", **changes), only=("predictions/*",))
    assert not executed.report.failed and calls == []
    assert [n for n in executed if n.startswith(("responses", "spectrograms", "clips"))] == []
    assert {n.split("|")[0] for n in executed if n.startswith("predictions")} == {"predictions/zero"}


def test_a_changed_prompt_sends_new_requests_for_that_classifier_only(bench, calls):
    executed = bench.run(changed_study(bench, "zero", prompt="one_word"), only=("responses/*",))
    assert not executed.report.failed
    assert {n.split("|")[0] for n in executed if n.startswith("responses")} == {"responses/zero"}
    # 12 clips; the blank image and the prompt without an image are the same for all clips
    assert len(calls) == 12 + 1 + 1


def test_a_renamed_classifier_uses_the_stored_responses(bench, calls):
    study = copy.deepcopy(bench.study)
    study["classifiers"]["other"] = {**ZERO, "script": {}}
    assert not bench.run(study, only=("responses/*",)).report.failed
    assert calls == []


def test_a_changed_image_of_an_example_repeats_only_the_requests_that_contain_it(bench, calls):
    example_rows = set(rows(bench, "SELECT fold, clip FROM examples WHERE classifier = 'few'"))
    fold, clip = sorted(example_rows)[0]
    bench.record(clip, "low" if "low" in clip else "high", seed=999)
    assert not bench.run(only=("responses/*",)).report.failed
    folds = {f for f, c in rows(bench, "SELECT fold, clip FROM examples WHERE classifier = 'few'") if c == clip}
    few = [r for r in calls if len(r.messages) > 1]
    assert len(few) <= 4 * 3 and (fold not in folds or len(few) >= 4)


def test_refusals_prose_and_errors_have_rows_and_only_errors_are_requested_again(bench, calls):
    study = changed_study(
        bench, "zero", script={"refuses": 0.3, "unparseable": 0.3, "fails": 0.3, "seed": 3}, controls=[]
    )
    executed = bench.run(study)
    assert not executed.report.failed
    outcomes = dict(
        rows(
            bench,
            "SELECT outcome, count(*) FROM predictions WHERE classifier='zero' AND scoring='generation' GROUP BY 1",
        )
    )
    assert sum(outcomes.values()) == 12 and {"refused", "unparseable", "error"} <= set(outcomes)
    assert rows(bench, "SELECT predictions FROM leaderboard WHERE classifier='zero' AND scoring='generation'") == [
        (12 - outcomes["error"],)
    ], "a failed request is no prediction of the model"
    wrong = "SELECT count(*) FROM predictions WHERE outcome != 'answered' AND (correct OR predicted IS NOT NULL)"
    assert rows(bench, wrong) == [(0,)]
    failed = len({str(r.messages) for r in calls}) - 12 + outcomes["error"]
    calls.clear()
    assert not bench.run(study, only=("responses/*",)).report.failed
    assert len(calls) == failed, "only failed requests are sent again"


def test_permuted_labels_are_stored_as_example_labels(bench):
    bench.run(changed_study(bench, "few", permuted_labels=True), only=("examples/*",))
    assert rows(bench, "SELECT count(*) FROM examples WHERE classifier='few' AND label = example_label") == [(0,)]


def test_predictions_name_the_class_that_a_changed_input_shows(bench):
    study = changed_study(bench, "few", permuted_labels=True, controls=["other_clip"])
    study["classifiers"]["zero"]["controls"] = ["blank", "other_clip"]
    assert not bench.run(study).report.failed
    # two classes: another clip has the other class, and permuted labels exchange the two
    counted = "SELECT control, count(*), count(shown_label), count(*) FILTER (shown_label = label) FROM predictions "
    by_control = counted + "WHERE classifier = '{}' AND scoring = 'generation' GROUP BY 1 ORDER BY 1"
    assert rows(bench, by_control.format("zero")) == [
        ("blank", 12, 0, 0),
        ("none", 12, 0, 0),
        ("other_clip", 12, 12, 0),
    ]
    assert rows(bench, by_control.format("few")) == [("none", 12, 12, 0), ("other_clip", 12, 12, 12)]
    baseline = "SELECT count(shown_label) FROM predictions WHERE classifier = 'few' AND scoring = 'examples_knn'"
    assert rows(bench, baseline) == [(12,)]
    rates = "SELECT count(value) FROM metrics WHERE metric = 'follow_rate' AND subset = 'all' AND classifier = 'zero'"
    assert rows(bench, rates + " AND control = 'other_clip'") == [(2,)]
    assert rows(bench, rates + " AND control = 'blank'") == [(0,)]


def test_each_trial_has_its_own_rows(bench):
    executed = bench.run(changed_study(bench, "few", select="random", draws=2, orders=2))
    assert not executed.report.failed
    columns = "SELECT DISTINCT trial, draw, class_order FROM responses WHERE classifier = 'few' ORDER BY 1"
    assert rows(bench, columns) == [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    assert rows(bench, "SELECT trials FROM leaderboard WHERE classifier='few' AND scoring='generation'") == [(4,)]


def test_an_audio_model_needs_no_rendering(bench):
    values = {k: v for k, v in FEW.items() if k != "rendering"}
    study = copy.deepcopy(bench.study)
    study["classifiers"] = {
        "audio_model": {**values, "input": "audio", "controls": ["blank", "other_clip", "no_image"]}
    }
    study.pop("renderings")
    assert not bench.run(study, only=("audio_model",)).report.failed
    assert rows(bench, "SELECT count(*) FROM predictions WHERE classifier = 'audio_model'") == [(12 * 4 * 2 + 12,)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rendering": None}, "rendering is required for `input: image`"),
        ({"input": "audio"}, "rendering must be left out for `input: audio`, got 'small'"),
        (
            {"backend": "openai", "scoring": ["likelihood"]},
            "scoring must not contain likelihood for an endpoint without `likelihood`",
        ),
        ({"calibrate": ["contextual"], "controls": []}, "so controls must contain blank"),
        ({"shots": 1}, "encoder is required with shots"),
        ({"repeats": 3}, "repeats must be 1 at temperature 0"),
        ({"draws": 2}, "draws must be 1 without shots"),
        ({"calibrate": ["temperature"], "folds": [1]}, "fitted on other folds and needs two or more"),
        ({"scoring": "likelihood"}, r"must be a list, got 'likelihood'; write \[likelihood\]"),
        ({"permuted_labels": True}, "permuted_labels needs shots"),
        ({"prompt": "papre"}, "did you mean 'paper'"),
        ({"prompt": {"text": "What is it?"}}, "which stands for the list of classes"),
        ({"paraphrases": 9}, "paraphrases must be at most 3"),
        ({"controls": ["blank", "blank"]}, "each value must occur only once"),
        ({"encoder": "band"}, "did you mean 'bands'"),
        ({"examples": ["1-low-0"]}, "shots must be 1 or more with `examples`"),
    ],
    ids=str,
)
def test_invalid_combinations_of_keys_are_refused_before_a_run(bench, changes, message):
    with pytest.raises(BadStudy, match=message):
        bench.graph(changed_study(bench, "zero", **changes))


def test_classifiers_of_one_fold_and_of_all_folds_run_in_one_study(bench):
    study = changed_study(bench, "zero", folds=[1], prompt="one_word")
    executed = bench.run(study)
    assert not executed.report.failed
    assert {n for n in executed if n.startswith("predictions/zero")} == {"predictions/zero|1"}
    counted = "SELECT classifier, count(DISTINCT fold) FROM predictions GROUP BY 1 ORDER BY 1"
    assert rows(bench, counted) == [("few", 3), ("zero", 1)]


def test_the_likelihood_is_requested_once_for_any_number_of_repeats(bench, calls):
    bench.run(
        changed_study(bench, "zero", temperature=0.7, repeats=3, controls=[], scoring=[]), only=("responses/zero",)
    )
    # the likelihoods are stored, the three generated responses of each clip are not
    assert len(calls) == 12 * 3 and all(r.scorings == {"generation"} for r in calls)


def test_synonyms_of_an_unknown_class_are_refused_before_any_request(bench, calls):
    executed = bench.run(
        changed_study(bench, "zero", synonyms={"lwo": ["deep"]}, prompt="paper"), only=("responses/zero",)
    )
    assert calls == [] and "lwo" in str(executed.report.failed)


def test_a_single_clip_is_classified_with_examples_of_other_folds(bench):
    graph = bench.graph()
    clip = sorted(bench.audio.glob("3-low-*.wav"))[0]
    result = ask_about_recording(graph, "few", clip)
    example_rows = [p.sha256 for m in result.messages for p in m.parts if not isinstance(p, str)]
    assert len(set(example_rows)) == len(example_rows) == 3, "two examples and another query"
    own = dict(rows(bench, "SELECT image_sha256, fold FROM spectrograms"))
    assert own[example_rows[-1]] == 3 and {own[sha] for sha in example_rows[:-1]} <= {1, 2}
    assert result.text in ("low", "high") and result.parsed.label == result.text and len(result.log_probabilities) == 2


def test_a_copy_of_an_example_is_refused_as_a_query(bench, tmp_path):
    example_rows = rows(
        bench, "SELECT file FROM examples JOIN clips USING (study, clip) WHERE examples.classifier = 'few'"
    )
    graph = bench.graph()
    refused = 0
    for (file,) in {*example_rows}:
        copy_ = tmp_path / "copy.wav"
        copy_.write_bytes((graph.dataset().root / file).read_bytes())
        try:
            ask_about_recording(graph, "few", copy_)
        except VlmAudioError as error:
            assert "has the same content as the example" in str(error)
            refused += 1
    assert refused, "at least one of them is an example of the queried fold"


def test_stale_examples_are_refused_for_a_single_clip(bench):
    """The study was changed and not run: its examples or their images differ from those in the tables."""
    clip = sorted(bench.audio.glob("3-low-*.wav"))[0]
    other = copy.deepcopy(bench.study)
    other["classifiers"]["few"]["shots"] = 2
    with pytest.raises(MissingInput, match=r"examples/few\|3, which is missing or stale.*--only 'examples/few'"):
        ask_about_recording(bench.graph(other), "few", clip)
    other = copy.deepcopy(bench.study)
    other["renderings"]["small"]["colormap"] = "gray"
    with pytest.raises(MissingInput, match=r"is missing or stale.*--only 'examples/few'"):
        ask_about_recording(bench.graph(other), "few", clip)


def test_an_audio_model_receives_audio_for_a_single_clip(bench):
    study = copy.deepcopy(bench.study)
    study["classifiers"]["audio_model"] = {**{k: v for k, v in FEW.items() if k != "rendering"}, "input": "audio"}
    bench.run(study, only=("examples/audio_model",))
    clip = sorted(bench.audio.glob("3-low-*.wav"))[0]
    result = ask_about_recording(bench.graph(study), "audio_model", clip)
    audio_parts = [p for m in result.messages for p in m.parts if isinstance(p, AudioPart)]
    assert len({p.sha256 for p in audio_parts}) == 3, "two examples and another query"


def text_turns(turns) -> tuple:
    return tuple((turn.role, *(part for part in turn.parts if isinstance(part, str))) for turn in turns)


def read_requests(results: StudyResults, classifier: str):
    reader = RequestReader(results)
    details = {key: value for fold in (1, 2, 3) for key, value in reader.read(classifier, fold).items()}
    return reader.classifiers[classifier], details


def test_rebuilt_requests_are_those_that_were_sent(bench, calls):
    bench.study = changed_study(bench, "few", prompt="one_word")
    assert not bench.run().report.failed
    few, details = read_requests(StudyResults.load(bench.data_folder, "bench"), "few")
    assert (few.responses, few.exact, few.reason) == (24, 24, "")  # 12 clips, by likelihood and by generation
    assert {text_turns(turns) for turns in few.turns} == {text_turns(request.messages) for request in calls}
    assert {len(turns) for turns in few.turns} == {5}  # two examples with their labels, and the query
    examples = rows(bench, "SELECT fold, clip FROM examples WHERE classifier = 'few' ORDER BY fold, position")
    fold_of = {row["id"]: row["fold"] for row in bench.rows}
    for (_, _, _, clip), response in details.items():
        turns = list(few.turns)[response.request]
        shown = [part.clip for turn in turns for part in turn.parts if isinstance(part, Example)]
        assert [(fold_of[clip], name) for name in shown] == [row for row in examples if row[0] == fold_of[clip]]


def test_requests_under_controls_are_rebuilt_and_other_prompts_have_other_keys(bench):
    results = StudyResults.load(bench.data_folder, "bench")
    zero, _ = read_requests(results, "zero")
    assert (zero.responses, zero.exact) == (72, 72)  # 12 clips, two scorings, three controls
    assert sorted(len([p for t in turns for p in t.parts if isinstance(p, Query)]) for turns in zero.turns) == [0, 1]
    record = copy.deepcopy(results.record)
    record["study"]["classifiers"]["zero"]["prompt"] = "one_word"
    changed, _ = read_requests(replace(results, record=record), "zero")
    assert (changed.responses, changed.exact) == (72, 0)
