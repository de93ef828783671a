"""`classify`: the predictions of a study."""

import pytest

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.contracts.errors import BadStudy, NotAvailable
from vlm_audio_pipeline_tests.api.conftest import CLASSES
from vlm_audio_pipeline_tests.api.test_embedding import DEMO

COLUMNS = ("scoring", "predicted", "outcome", "text")


def study_predictions(sounds, classifier):
    return sounds.rows(
        f"SELECT * FROM predictions WHERE classifier = '{classifier}' AND control = 'none' AND trial = 0 ORDER BY clip, scoring"
    )


def assert_same(rows, expected, with_scores=True):
    assert [[row[c] for c in COLUMNS] for row in rows] == [[row[c] for c in COLUMNS] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        if with_scores:
            assert row["confidence"] == pytest.approx(other["confidence"], abs=1e-5)
            scores = None if other["scores"] is None else dict(other["scores"])
            assert row["scores"] == (None if scores is None else pytest.approx(scores, abs=1e-5))


@pytest.mark.parametrize("classifier", ["zero_shot", "janus"])
def test_the_predictions_are_those_of_the_study(sounds, classifier, tmp_path):
    """In another data folder, so that they are computed; `janus` is calibrated with blank images."""
    table = vap.classify(sounds.files, classifier, study=sounds.study, data=tmp_path)
    expected = study_predictions(sounds, classifier)
    assert len(expected) == len(sounds.files) * (2 if classifier == "janus" else 1)
    assert_same(table.to_pylist(), expected)
    assert list(dict.fromkeys(table["recording"])) == [str(file) for file in sounds.files]


@pytest.mark.parametrize(("model", "classifier"), [("demo-clap", "zero_shot"), ("demo-janus", "janus")])
def test_a_model_is_classified_by_its_type(sounds, model, classifier, tmp_path):
    table = vap.classify(sounds.files[:4], model, CLASSES, rendering=DEMO, data=tmp_path)
    expected = study_predictions(sounds, classifier)[: len(table)]
    assert_same(
        table.to_pylist(), expected, with_scores=classifier == "zero_shot"
    )  # `janus` is calibrated in the study


def test_the_demo_models_recognise_example_sounds(tmp_path):
    """They were trained on such sounds."""
    labels = ["dog", "rain", "chainsaw"]
    recordings = [vap.example_sound(label) for label in labels]
    table = vap.classify(recordings, "demo-clap", labels, template="This is a sound of {label}.", data=tmp_path)
    assert table["predicted"] == labels and table["recording"] == ["array 0", "array 1", "array 2"]


def test_other_classes_than_those_of_the_study(sounds):
    table = vap.classify(sounds.files[0], "zero_shot", ["rooster", "helicopter"], study=sounds.study, data=sounds.data)
    assert set(table.to_pylist()[0]["scores"]) == {"rooster", "helicopter"}


def test_nothing_is_written_into_the_tables_of_the_study(sounds):
    files = {p: p.stat().st_mtime_ns for p in (sounds.data / "tables").rglob("*.parquet")}
    vap.classify(sounds.files[0], "janus", study=sounds.study, data=sounds.data)
    assert {p: p.stat().st_mtime_ns for p in (sounds.data / "tables").rglob("*.parquet")} == files


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        ("demo-clap", {}, BadStudy, "`classes` is required without `study`"),
        ("demo-clap", {"classes": ["dog"]}, BadStudy, "classes: "),
        ("demo-clap", {"classes": ["dog", "dog"]}, BadStudy, "classes: each value must occur only once"),
        ("demo-clap", {"classes": "dog"}, BadStudy, "classes: must be a list"),
        ("demo-clap", {"classes": ["a", "b"], "promt": "x"}, BadStudy, "classifiers.model.promt: unknown key"),
        ("demo-janus", {"classes": ["a", "b"], "promt": "x"}, BadStudy, "promt: unknown key; did you mean 'prompt'"),
        ("demo-clop", {"classes": ["a", "b"]}, NotAvailable, "weights of demo-clop missing"),
        ("zero", {"study": True}, vap.VlmAudioError, "'zero' must be one of the classifiers of sounds"),
        ("knn", {"study": True}, vap.VlmAudioError, "without training clips .* got 'knn' of kind knn"),
        (
            "janus_one_shot",
            {"study": True},
            vap.VlmAudioError,
            "without examples, got 'janus_one_shot' with 1 per class",
        ),
        ("zero_shot", {"study": True, "template": "{label}"}, BadStudy, "template must be set in the study"),
    ],
)
def test_mistakes(sounds, tmp_path, model, arguments, error, message):
    if "study" in arguments:
        arguments = {**arguments, "study": sounds.study}
    with pytest.raises(error, match=message):
        vap.classify(sounds.files[:1], model, data=tmp_path, rendering=DEMO, **{"classes": None, **arguments})


def test_an_endpoint_that_costs_money_needs_a_study_with_a_budget(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "x")
    with pytest.raises(NotAvailable, match="model cannot run: it may cost money, so the study needs a `budget"):
        vap.classify(
            vap.example_sound(),
            "gpt",
            ["dog", "rain"],
            backend="openai",
            endpoint={"url": "http://127.0.0.1:9/v1", "prices": {"input": 1, "output": 1}},
            data=tmp_path,
        )
