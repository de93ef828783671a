import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.predicting import fit_temperature, predict_from_responses
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.language_models.first_trial import FIRST_TRIAL
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table

CLASSES = ("dog", "rain", "sea_waves")
LN = math.log


def clips(*labels, fold=1):
    return clips_table([Clip(f"{fold}-{i:03}", label, fold, f"s{fold}-{i}", f"{i}") for i, label in enumerate(labels)])


def answer(clip="1-000", scoring="likelihood", **given):
    row = {**FIRST_TRIAL, "clip": clip, "scoring": scoring, "outcome": "answered", "model": "m"}
    row |= {"result_key": f"{clip}{scoring}{sorted(given)}"}
    for name in ("log_probabilities", "label_tokens"):
        if name in given:
            given[name] = list(zip(CLASSES, given[name], strict=True))
    return row | given


def answers(*rows, fold=1):
    schema = TABLES["responses"].arrow
    return TABLES["responses"].conform(
        pa.Table.from_pylist(
            [
                {name: row.get(name) for name in schema.names if name not in ("study", "classifier", "fold")}
                for row in rows
            ],
            pa.schema([f for f in schema if f.name not in ("study", "classifier", "fold")]),
        ),
        study="s",
        classifier="c",
        fold=fold,
    )


def predict(table, clips_, **given):
    prediction_rows = predict_from_responses(table, clips_, CLASSES, kind="language_model", prompt="plain", **given)
    assert (
        prediction_rows["clip"].to_pylist() == table["clip"].to_pylist()
    )  # a row for every response, in the same order
    return TABLES["predictions"].conform(prediction_rows, study="s", classifier="c", fold=1).to_pylist()


def scores(row):
    return [dict(row["scores"])[label] for label in CLASSES]


def test_likelihoods_become_probabilities():
    when = datetime(2026, 1, 1, tzinfo=UTC)
    row = answer(
        log_probabilities=[LN(0.2), LN(0.1), LN(0.1)], input_tokens=600, seconds=0.5, usd=0.01, answered_at=when
    )
    [row] = predict(answers(row), clips("rain"))
    assert scores(row) == pytest.approx([0.5, 0.25, 0.25])  # 0.2, 0.1, 0.1 over their sum 0.4
    assert (row["predicted"], row["outcome"], row["correct"]) == ("dog", "answered", False)
    assert row["label_before_calibration"] is None
    assert row["confidence"] == pytest.approx(0.5)
    assert (row["source"], row["label"], row["kind"], row["prompt"]) == ("s1-0", "rain", "language_model", "plain")
    assert (row["tokens"], row["seconds"], row["usd"], row["answered_at"]) == (600, 0.5, 0.01, when)


def test_a_tie_goes_to_the_first_class():
    [row] = predict(answers(answer(log_probabilities=[-5.0, -2.0, -2.0])), clips("rain"))
    assert (row["predicted"], row["correct"]) == ("rain", True)


def test_normalisation_by_length_does_not_penalise_long_names():
    # sea_waves: -4 over 4 tokens is -1 per token; dog: -3 over 2 is -1.5; rain: -6 over 2 is -3
    row = answer(log_probabilities=[-3.0, -6.0, -4.0], label_tokens=[2, 2, 4])
    assert predict(answers(row), clips("dog"))[0]["predicted"] == "dog"
    [row] = predict(answers(row), clips("dog"), normalise="length")
    assert row["predicted"] == "sea_waves"
    powers = np.exp([-1.5, -3.0, -1.0])
    assert scores(row) == pytest.approx((powers / powers.sum()).tolist())


def test_contextual_calibration_divides_by_the_probabilities_of_the_blank_image():
    # the clip: 0.6, 0.3, 0.1; its blank: 0.8, 0.1, 0.1; quotients 0.75, 3, 1 with sum 4.75 (Zhao et al. 2021, W = diag(p_cf)^-1)
    rows = answers(
        answer(log_probabilities=[LN(0.6), LN(0.3), LN(0.1)]),
        answer(
            log_probabilities=[LN(0.08), LN(0.01), LN(0.01)], control="blank"
        ),  # less than 1 in total: other texts are possible
        answer(log_probabilities=[LN(0.2), LN(0.4), LN(0.4)], control="time_shuffled"),
    )
    by_control = {row["control"]: row for row in predict(rows, clips("rain"), calibrate=("contextual",))}
    assert scores(by_control["none"]) == pytest.approx([0.75 / 4.75, 3 / 4.75, 1 / 4.75])
    assert (by_control["none"]["predicted"], by_control["none"]["label_before_calibration"]) == ("rain", "dog")
    assert scores(by_control["blank"]) == pytest.approx([1 / 3] * 3)
    assert scores(by_control["time_shuffled"]) == pytest.approx([0.25 / 8.25, 4 / 8.25, 4 / 8.25])


def test_calibration_uses_the_blank_image_of_the_same_clip_and_trial():
    def pair(clip, trial, blank):
        return (
            answer(clip, trial=trial, log_probabilities=[LN(0.5), LN(0.3), LN(0.2)]),
            answer(clip, trial=trial, control="blank", log_probabilities=[LN(p) for p in blank]),
        )

    rows = answers(
        *pair("1-000", 0, [0.8, 0.1, 0.1]), *pair("1-001", 0, [0.1, 0.1, 0.8]), *pair("1-000", 1, [0.4, 0.5, 0.1])
    )
    prediction_rows = predict(rows, clips("dog", "rain"), calibrate=("contextual",))
    outcomes = {(row["clip"], row["trial"]): row["predicted"] for row in prediction_rows if row["control"] == "none"}
    # quotients: (.625, 3, 2), (5, 3, .25), (1.25, .6, 2)
    assert outcomes == {("1-000", 0): "rain", ("1-001", 0): "dog", ("1-000", 1): "sea_waves"}


def test_a_prediction_that_cannot_be_calibrated_is_an_error():
    rows = answers(
        answer("1-000", log_probabilities=[-1.0, -2.0, -3.0]),
        answer("1-001", log_probabilities=[-1.0, -2.0, -3.0]),
        answer("1-000", log_probabilities=[-1.0, -1.0, -3.0], control="blank"),
        answer("1-001", outcome="error", error="timed out", control="blank"),
    )
    prediction_rows = predict(rows, clips("dog", "dog"), calibrate=("contextual",))
    outcomes = {
        (row["clip"], row["control"]): (row["outcome"], row["scores"] is None, row["correct"])
        for row in prediction_rows
    }
    assert outcomes[("1-000", "none")] == ("answered", False, True)
    assert outcomes[("1-001", "none")] == ("error", True, False)
    with pytest.raises(VlmAudioError, match="responses to the blank image, got none; add `controls: \\[blank\\]`"):
        predict(answers(answer(log_probabilities=[-1.0, -2.0, -3.0])), clips("dog"), calibrate=("contextual",))


def confident_responses(p, truth, fold):
    """Return clips with the labels `truth`, and responses that give "dog" the probability `p` for every clip."""
    listed = clips(*truth, fold=fold)
    rest = LN((1 - p) / 2)
    return listed, answers(
        *(answer(clip, log_probabilities=[LN(p), rest, rest]) for clip in listed["clip"].to_pylist()), fold=fold
    )


def test_a_temperature_is_fitted_on_the_other_folds():
    # confidence 96 %, 6 of 10 correct, errors equally distributed: the best constant score is 0.6 for dog, so odds of 48 = .96/.02
    # must become 3 = .6/.2: T = log 48 / log 3
    other_clips, other = confident_responses(0.96, ["dog"] * 6 + ["rain"] * 2 + ["sea_waves"] * 2, fold=2)
    own_clips, own = confident_responses(0.96, ["rain"] * 4, fold=1)
    both = pa.concat_tables([own_clips, other_clips])
    for row in predict(own, both, calibrate=("temperature",), other_responses=other):
        assert scores(row) == pytest.approx([0.6, 0.2, 0.2], abs=1e-4)
        assert row["predicted"] == "dog"
    with pytest.raises(VlmAudioError, match="responses of other folds, but there are none"):
        predict(own, both, calibrate=("temperature",))
    with pytest.raises(VlmAudioError, match="responses of other folds, but there are none"):
        predict(own, both, calibrate=("temperature",), other_responses=other.slice(0, 0))


def test_a_temperature_is_not_fitted_on_controls():
    other_clips, other = confident_responses(0.96, ["dog"] * 6 + ["rain"] * 2 + ["sea_waves"] * 2, fold=2)
    control_rows = [
        answer(clip, control=control, log_probabilities=[-90.0, -1.0, -90.0])
        for clip in other["clip"].to_pylist()
        for control in ("blank", "time_shuffled")
    ]
    own_clips, own = confident_responses(0.96, ["rain"], fold=1)
    both = pa.concat_tables([own_clips, other_clips])
    with_controls = pa.concat_tables([other, answers(*control_rows, fold=2)])
    [row] = predict(own, both, calibrate=("temperature",), other_responses=with_controls)
    assert scores(row) == pytest.approx([0.6, 0.2, 0.2], abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 5))
def test_the_temperature_has_the_lowest_loss_of_a_grid(seed, temperature):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((200, 4)) * 2 * temperature
    truth = np.array([rng.choice(4, p=np.exp(z / temperature) / np.exp(z / temperature).sum()) for z in logits])

    def loss(t):
        z = logits / t
        return np.mean(np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(200), truth])

    fitted = fit_temperature(logits, truth)
    assert loss(fitted) <= min(loss(t) for t in np.geomspace(0.05, 50, 400)) + 1e-9


def test_generated_responses_are_parsed_and_have_no_scores():
    texts = ["Dog.", "rain or dog", "I'm sorry, I can't help with that.", None]
    rows = answers(
        *(
            answer(f"1-{i:03}", "generation", text=text, input_tokens=10, output_tokens=2)
            for i, text in enumerate(texts)
        )
    )
    prediction_rows = predict(rows, clips("dog", "dog", "rain", "rain"))
    assert [(r["predicted"], r["outcome"], r["correct"], r["text"]) for r in prediction_rows] == [
        ("dog", "answered", True, "Dog."),
        (None, "unparseable", False, "rain or dog"),
        (None, "refused", False, "I'm sorry, I can't help with that."),
        (None, "unparseable", False, None),
    ]
    assert all(r["scores"] is None and r["confidence"] is None and r["tokens"] == 12 for r in prediction_rows)


def test_synonyms_of_a_study_change_only_predictions():
    rows = answers(answer(scoring="generation", text="surf's up"))
    listed = clips("sea_waves")
    assert predict(rows, listed)[0]["outcome"] == "answered"  # surf is a synonym in ESC-50
    assert predict(answers(answer(scoring="generation", text="drizzle")), listed)[0]["outcome"] == "unparseable"
    [row] = predict(answers(answer(scoring="generation", text="drizzle")), listed, synonyms={"rain": ["drizzle"]})
    assert row["predicted"] == "rain"


@pytest.mark.parametrize("scoring", ["likelihood", "generation"])
@pytest.mark.parametrize("outcome", ["refused", "error"])
def test_outcomes_of_the_backend_are_kept(scoring, outcome):
    rows = answers(answer(scoring=scoring, outcome=outcome, error="it broke", text="dog"))
    [row] = predict(rows, clips("dog"))
    assert (row["outcome"], row["predicted"], row["correct"], row["scores"]) == (outcome, None, False, None)


def test_scores_that_are_not_finite_are_an_error():
    rows = answers(
        answer("1-000", log_probabilities=[math.nan, -1.0, -2.0]),
        answer("1-001", log_probabilities=[-math.inf] * 3),
        answer("1-002", log_probabilities=[-math.inf, -1.0, -1.0]),
    )
    prediction_rows = predict(rows, clips("dog", "dog", "rain"))
    assert [r["outcome"] for r in prediction_rows] == ["error", "error", "answered"]
    assert scores(prediction_rows[2]) == [0.0, 0.5, 0.5]


def test_responses_that_do_not_match_the_study_are_refused():
    with pytest.raises(VlmAudioError, match="clips that are not in the study: \\['elsewhere'\\]"):
        predict(answers(answer("elsewhere", log_probabilities=[-1.0, -2.0, -3.0])), clips("dog"))
    short = answers(answer() | {"log_probabilities": [("dog", -1.0)]})
    with pytest.raises(VlmAudioError, match="has no log_probabilities of the classes \\['rain', 'sea_waves'\\]"):
        predict(short, clips("dog"))
    with pytest.raises(VlmAudioError, match="has no label_tokens of the classes"):
        predict(answers(answer(log_probabilities=[-1.0, -2.0, -3.0])), clips("dog"), normalise="length")


@pytest.mark.parametrize("calibrate", [(), ("contextual", "temperature")])
def test_no_responses_give_no_predictions(calibrate):
    assert predict(answers(), clips("dog"), calibrate=calibrate) == []


def test_calibration_does_not_change_generated_responses():
    rows = answers(answer(scoring="generation", text="dog"))
    [row] = predict(rows, clips("dog"), normalise="length", calibrate=("contextual", "temperature"))
    assert row["predicted"] == "dog"
