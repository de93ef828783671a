"""A scripted language model in a whole study: what is asked, what a change costs, and that every clip is accounted for."""

import copy

import pytest

from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart
from vlm_audio_pipeline.classifiers.language_models.scripted import ScriptedBackend
from vlm_audio_pipeline.contracts.errors import BadStudy, MissingInput, VlmAudioError
from vlm_audio_pipeline.planning.single_response import ask_about_recording
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench

MODEL = {"kind": "language_model", "backend": "scripted", "model": "scripted", "rendering": "small"}
ZERO = {**MODEL, "controls": ["blank", "no_image"]}
FEW = {**MODEL, "shots": 1, "select": "medoid", "encoder": "bands"}


@pytest.fixture(scope="session")
def asked_once(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("asked") / "bench")
    bench.study |= {
        "renderings": {"small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256}},
        "classifiers": {"zero": ZERO, "few": FEW},
    }
    assert not bench.run().report.failed
    return bench


@pytest.fixture
def bench(asked_once, tmp_path):
    return asked_once.copied_to(tmp_path / "bench")


@pytest.fixture
def calls(monkeypatch):
    """Count the requests that reach a model, whichever way they come."""
    sent: list = []
    ask = ScriptedBackend.ask

    def counting(self, requests, on_reply):
        sent.extend(requests)
        return ask(self, requests, on_reply)

    monkeypatch.setattr(ScriptedBackend, "ask", counting)
    return sent


def changed(bench: Bench, classifier: str, **words) -> dict:
    study = copy.deepcopy(bench.study)
    study["classifiers"][classifier].update(words)
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


def test_examples_are_of_other_folds_and_their_images_are_those_of_the_rendering(bench):
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


def test_likelihood_and_generation_agree_as_the_script_has_it(bench):
    differ = """
        SELECT count(*) FROM predictions a JOIN predictions b USING (classifier, control, trial, clip)
        WHERE a.scoring = 'likelihood' AND b.scoring = 'generation' AND a.predicted IS DISTINCT FROM b.predicted
    """
    assert rows(bench, differ) == [(0,)]


def test_a_second_run_does_nothing(bench, calls):
    assert list(bench.run()) == [] and calls == []


@pytest.mark.parametrize(
    "words",
    [
        {"normalise": "length"},
        {"calibrate": ["contextual"]},
        {"calibrate": ["temperature"]},
        {"synonyms": {"low": ["deep"]}},
    ],
    ids=str,
)
def test_reading_answers_otherwise_costs_no_call(bench, calls, words):
    ran = bench.run(changed(bench, "zero", **words), only=("predictions/*",))
    assert not ran.report.failed and calls == []
    assert [n for n in ran if n.startswith(("responses", "spectrograms", "clips"))] == []
    assert {n.split("|")[0] for n in ran if n.startswith("predictions")} == {"predictions/zero"}


def test_another_prompt_asks_anew_and_only_that_classifier(bench, calls):
    ran = bench.run(changed(bench, "zero", prompt="notebook"), only=("responses/*",))
    assert not ran.report.failed
    assert {n.split("|")[0] for n in ran if n.startswith("responses")} == {"responses/zero"}
    # 12 clips; the blank image and the words without one are the same for all clips of a fold and of every fold
    assert len(calls) == 12 + 1 + 1


def test_a_renamed_classifier_asks_nothing_for_its_answers_are_known(bench, calls):
    study = copy.deepcopy(bench.study)
    study["classifiers"]["other"] = {**ZERO, "script": {}}
    assert not bench.run(study, only=("responses/*",)).report.failed
    assert calls == []


def test_a_changed_image_of_an_example_asks_again_where_it_is_shown(bench, calls):
    example_rows = set(rows(bench, "SELECT fold, clip FROM examples WHERE classifier = 'few'"))
    fold, clip = sorted(example_rows)[0]
    bench.record(clip, "low" if "low" in clip else "high", seed=999)
    assert not bench.run(only=("responses/*",)).report.failed
    folds = {f for f, c in rows(bench, "SELECT fold, clip FROM examples WHERE classifier = 'few'") if c == clip}
    few = [r for r in calls if len(r.messages) > 1]
    assert len(few) <= 4 * 3 and (fold not in folds or len(few) >= 4)


def test_refusals_prose_and_errors_are_rows_and_errors_are_tried_again(bench, calls):
    study = changed(bench, "zero", script={"refuses": 0.3, "rambles": 0.3, "fails": 0.3, "seed": 3}, controls=[])
    ran = bench.run(study)
    assert not ran.report.failed
    outcomes = dict(
        rows(
            bench,
            "SELECT outcome, count(*) FROM predictions WHERE classifier='zero' AND scoring='generation' GROUP BY 1",
        )
    )
    assert sum(outcomes.values()) == 12 and {"refused", "unparseable", "error"} <= set(outcomes)
    assert rows(bench, "SELECT predictions FROM leaderboard WHERE classifier='zero' AND scoring='generation'") == [
        (12,)
    ]
    wrong = "SELECT count(*) FROM predictions WHERE outcome != 'answered' AND (correct OR predicted IS NOT NULL)"
    assert rows(bench, wrong) == [(0,)]
    failed = len({str(r.messages) for r in calls}) - 12 + outcomes["error"]
    calls.clear()
    assert not bench.run(study, only=("responses/*",)).report.failed
    assert len(calls) == failed, "only what failed is asked again"


def test_permuted_labels_are_shown_and_noted(bench):
    bench.run(changed(bench, "few", permuted_labels=True), only=("examples/*",))
    assert rows(bench, "SELECT count(*) FROM examples WHERE classifier='few' AND label = example_label") == [(0,)]


def test_trials_are_rows_of_their_own(bench):
    ran = bench.run(changed(bench, "few", select="random", draws=2, orders=2))
    assert not ran.report.failed
    which = "SELECT DISTINCT trial, draw, class_order FROM responses WHERE classifier = 'few' ORDER BY 1"
    assert rows(bench, which) == [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    assert rows(bench, "SELECT trials FROM leaderboard WHERE classifier='few' AND scoring='generation'") == [(4,)]


def test_sounds_are_asked_about_without_any_image(bench):
    words = {k: v for k, v in FEW.items() if k != "rendering"}
    study = copy.deepcopy(bench.study)
    study["classifiers"] = {"ears": {**words, "input": "audio", "controls": ["blank", "other_clip", "no_image"]}}
    study.pop("renderings")
    assert not bench.run(study, only=("ears",)).report.failed
    assert rows(bench, "SELECT count(*) FROM predictions WHERE classifier = 'ears'") == [(12 * 4 * 2 + 12,)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"rendering": None}, "rendering must be given for `input: image`"),
        ({"input": "audio"}, "rendering must be left out for `input: audio`, got 'small'"),
        ({"backend": "openai", "scoring": ["likelihood"]}, "scoring must be generation for backend openai"),
        ({"calibrate": ["contextual"], "controls": []}, "controls must contain blank"),
        ({"shots": 1}, "encoder must be given with shots"),
        ({"repeats": 3}, "repeats must be 1 at temperature 0"),
        ({"draws": 2}, "draws must be 1 without random or selected examples"),
        ({"calibrate": ["temperature"], "folds": [1]}, "fitted on other folds and needs two or more"),
        ({"scoring": "likelihood"}, r"must be a list, got 'likelihood'; write \[likelihood\]"),
        ({"permuted_labels": True}, "permuted_labels needs shots"),
        ({"prompt": "papre"}, "did you mean 'paper'"),
        ({"prompt": {"text": "What is it?"}}, "which stands for the list of classes"),
        ({"paraphrases": 9}, "paraphrases must be at most 3"),
        ({"controls": ["blank", "blank"]}, "must be named once each"),
        ({"encoder": "band"}, "did you mean 'bands'"),
        ({"examples": ["1-low-0"]}, "shots must be 1 or more with `examples`"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_refused_before_anything_runs(bench, words, message):
    with pytest.raises(BadStudy, match=message):
        bench.graph(changed(bench, "zero", **words))


def test_classifiers_of_some_folds_and_of_all_run_in_one_study(bench):
    study = changed(bench, "zero", folds=[1], prompt="notebook")
    ran = bench.run(study)
    assert not ran.report.failed
    assert {n for n in ran if n.startswith("predictions/zero")} == {"predictions/zero|1"}
    counted = "SELECT classifier, count(DISTINCT fold) FROM predictions GROUP BY 1 ORDER BY 1"
    assert rows(bench, counted) == [("few", 3), ("zero", 1)]


def test_a_sampled_likelihood_is_asked_once_however_often_answers_are_drawn(bench, calls):
    bench.run(changed(bench, "zero", temperature=0.7, repeats=3, controls=[], scoring=[]), only=("responses/zero",))
    # the likelihoods are known from before, the three answers of each clip are not
    assert len(calls) == 12 * 3 and all(r.scorings == {"generation"} for r in calls)


def test_synonyms_nobody_can_read_are_refused_before_anything_is_asked(bench, calls):
    ran = bench.run(changed(bench, "zero", synonyms={"lwo": ["deep"]}, prompt="paper"), only=("responses/zero",))
    assert calls == [] and "lwo" in str(ran.report.failed)


def test_a_clip_is_tried_with_examples_of_other_folds(bench):
    graph = bench.graph()
    clip = sorted(bench.audio.glob("3-low-*.wav"))[0]
    tried = ask_about_recording(graph, "few", clip)
    example_rows = [p.sha256 for m in tried.messages for p in m.parts if not isinstance(p, str)]
    assert len(set(example_rows)) == len(example_rows) == 3, "two examples, and the query is neither"
    own = dict(rows(bench, "SELECT image_sha256, fold FROM spectrograms"))
    assert own[example_rows[-1]] == 3 and {own[sha] for sha in example_rows[:-1]} <= {1, 2}
    assert tried.text in ("low", "high") and tried.parsed.label == tried.text and len(tried.log_probabilities) == 2


def test_a_copy_of_an_example_cannot_be_tried_with_itself_as_an_example(bench, tmp_path):
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
    assert refused, "one of them at least is an example of the fold that is asked about"


def test_examples_of_another_day_are_not_shown(bench):
    """A study that was changed and not run: its examples, or their images, are not those that stand in the tables."""
    clip = sorted(bench.audio.glob("3-low-*.wav"))[0]
    other = copy.deepcopy(bench.study)
    other["classifiers"]["few"]["shots"] = 2
    with pytest.raises(MissingInput, match=r"examples/few\|3, which is missing or stale.*--only 'examples/few'"):
        ask_about_recording(bench.graph(other), "few", clip)
    other = copy.deepcopy(bench.study)
    other["renderings"]["small"]["colormap"] = "gray"
    with pytest.raises(MissingInput, match=r"is missing or stale.*--only 'examples/few'"):
        ask_about_recording(bench.graph(other), "few", clip)


def test_a_model_that_hears_is_tried_with_sounds(bench):
    study = copy.deepcopy(bench.study)
    study["classifiers"]["ears"] = {**{k: v for k, v in FEW.items() if k != "rendering"}, "input": "audio"}
    bench.run(study, only=("examples/ears",))
    clip = sorted(bench.audio.glob("3-low-*.wav"))[0]
    tried = ask_about_recording(bench.graph(study), "ears", clip)
    audio_parts = [p for m in tried.messages for p in m.parts if isinstance(p, AudioPart)]
    assert len({p.sha256 for p in audio_parts}) == 3, "two examples, and the query is neither"
