"""Language models that list classes: strict parsing, outcomes, and a whole study with scripted responses."""

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline.tasks.multi_label.classifiers.list_parsing import parse_list
from vlm_audio_pipeline.tasks.multi_label.classifiers.response_stages import predict_from_lists
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import labelled_clips

NAMES = {name: name for name in ("dog", "rain", "sea_waves", "church_bells")}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("dog", {"dog"}),
        ("dog, rain", {"dog", "rain"}),
        ("Dog; RAIN\nsea_waves", {"dog", "rain", "sea_waves"}),
        ("sea waves and dog.", {"sea_waves", "dog"}),
        ("dog, rain, and church bells", {"dog", "rain", "church_bells"}),
        ("- dog\n- rain\n", {"dog", "rain"}),
        ("* dog\n* dog", {"dog"}),
        ('["dog", "sea_waves"]', {"dog", "sea_waves"}),
        ('```json\n["dog"]\n```', {"dog"}),
        ("[]", set()),
        ("none", set()),
        ("None.", set()),
        ("none,\t,", set()),
        (" `dog` ", {"dog"}),
    ],
)
def test_lists_of_classes_are_read(text, labels):
    parsed = parse_list(text, NAMES)
    assert (parsed.outcome, parsed.labels) == ("answered", labels)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " , ",
        "I hear a dog",
        "dog, rain and maybe wind",
        "no dog",
        "not dog, rain",
        "none, dog",
        'none\n"',
        "dogs",
        "dog (barking)",
        '{"dog": true}',
        '["dog", 1]',
        '["dog"',
        "dog | rain",
        "dog, " * 5000,
        "[" * 5000,
    ],
)
def test_anything_else_has_no_answer(text):
    assert parse_list(text, NAMES) == parse_list("nonsense", NAMES)
    assert parse_list(text, NAMES).outcome == "unparseable"


ICBHI = {label: label for label in ("normal_breathing", "crackle", "wheeze", "crackle_and_wheeze")}
AUDIOSET = {label: label for label in ("Waves and surf", "Rain", "Male speech, man speaking", "Wind", "Rain and Wind")}


@pytest.mark.parametrize(
    ("text", "names", "labels"),
    [
        ("crackle and wheeze", ICBHI, {"crackle_and_wheeze"}),
        ("crackle, wheeze", ICBHI, {"crackle", "wheeze"}),
        ("crackle, and wheeze", ICBHI, {"crackle", "wheeze"}),
        ('"crackle" and "wheeze"', ICBHI, {"crackle", "wheeze"}),
        ("- crackle\n- wheeze", ICBHI, {"crackle", "wheeze"}),
        ("crackle and wheeze and normal breathing", ICBHI, {"crackle_and_wheeze", "normal_breathing"}),
        ("wheeze and crackle", ICBHI, {"crackle", "wheeze"}),
        ("Waves and surf, Rain", AUDIOSET, {"Waves and surf", "Rain"}),
        ("rain and waves and surf.", AUDIOSET, {"Waves and surf", "Rain"}),
        ("Rain, male speech,man speaking and wind", AUDIOSET, {"Rain", "Male speech, man speaking", "Wind"}),
        ("Male speech, man speaking", AUDIOSET, {"Male speech, man speaking"}),
        ('["Male speech, man speaking", "Rain and Wind"]', AUDIOSET, {"Male speech, man speaking", "Rain and Wind"}),
        ("rain and wind and waves and surf", AUDIOSET, {"Rain and Wind", "Waves and surf"}),
        # The whole name "a and b" first would leave "c", which is no class.
        ("a and b and c", dict.fromkeys(("a", "a and b", "b and c"), ""), {"a", "b and c"}),
    ],
)
def test_a_class_name_may_contain_what_separates_names(text, names, labels):
    parsed = parse_list(text, names)
    assert (parsed.outcome, parsed.labels) == ("answered", labels)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("male speech", AUDIOSET),
        ("Male speech\nman speaking", AUDIOSET),
        ("Waves, and surf", AUDIOSET),
        ("a and b and c", dict.fromkeys(("a", "c", "a and b", "b and c"), "")),  # "a", "b and c" or "a and b", "c"?
    ],
)
def test_a_part_of_a_name_or_two_equal_readings_have_no_answer(text, names):
    assert parse_list(text, names).outcome == "unparseable"


def test_a_class_called_none_is_a_class():
    assert parse_list("none", {"none": "none", "dog": "dog"}).labels == {"none"}


def test_outcomes_without_a_list_have_no_decision():
    data, truth, _ = labelled_clips(n_folds=2, per_fold=6)
    clips = clips_table(data.clips).slice(0, 6)
    texts = ["a, b", "none", "something", "a, b", "c", None]
    outcomes = ["answered", "answered", "answered", "truncated", "refused", "error"]
    responses = pa.table(
        {
            "scoring": ["generation"] * 6,
            "control": ["none"] * 6,
            "trial": [0] * 6,
            "clip": clips["clip"],
            "model": ["m"] * 6,
            "revision": pa.nulls(6, pa.string()),
            "text": texts,
            "outcome": outcomes,
        }
    )
    rows = predict_from_lists(responses, clips, truth[:6], {name: name for name in data.classes})
    rows = rows.append_column("kind", pa.array(["language_model"] * rows.num_rows))
    rows = TABLES["multi_label_predictions"].conform(rows, study="s", classifier="p", fold=1).to_pylist()
    by_clip = {
        clip: {r["label"]: (r["outcome"], r["predicted"]) for r in rows if r["clip"] == clip}
        for clip in clips["clip"].to_pylist()
    }
    found = list(by_clip.values())
    assert found[0] == {"a": ("answered", True), "b": ("answered", True), "c": ("answered", False)}
    assert set(found[1].values()) == {("answered", False)}
    assert [set(values.values()) for values in found[2:]] == [
        {("unparseable", None)},
        {("truncated", None)},
        {("refused", None)},
        {("error", None)},
    ]
    assert np.array([[r["truth"] for r in rows]]).sum() == truth[:6].sum()


STUDY = """
name: listing
task: multi_label
dataset: {kind: soundscape, recordings: 12, duration_s: 5, events_per_minute: 60, n_folds: 2}
renderings: {plain: {preset: plain, width: 64, height: 64}}
classifiers:
  listing: {kind: language_model, model: script, backend: scripted, rendering: plain, controls: [blank], script: {unparseable: 0.3}}
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shots: 1, encoder: e", "encoder is not available in the task multi_label; remove it"),
        ("shots: 1, select: medoid", "select"),
        ("scoring: [likelihood]", "scoring must be generation for `question: list`, got likelihood"),
        (
            "question: yes_no, scoring: [generation]",
            "scoring must be likelihood for `question: yes_no`, got generation",
        ),
        ("threshold: 0.5", "threshold needs `question: yes_no`, got 0.5 without it"),
        ("prompt: plain", "prompt must ask for several classes in the task multi_label, got 'plain'"),
    ],
)
def test_keys_of_one_class_are_refused(tmp_path, change, message):
    with pytest.raises(BadStudy, match=message):
        parse_study(
            STUDY.replace("rendering: plain, controls", f"rendering: plain, {change}, controls"), tmp_path / "l.yaml"
        )


def test_a_response_about_one_recording_is_read_as_a_list(tmp_path):
    spec = parse_study(STUDY, tmp_path / "l.yaml").classifiers["listing"]
    classes = ("dog", "rain", "sea_waves")
    found = [spec.parse_text(text, classes) for text in ("sea waves and dog", "none", "I hear a dog")]
    assert [(parsed.outcome, parsed.label) for parsed in found] == [
        ("answered", "dog; sea_waves"),
        ("answered", "none"),
        ("unparseable", None),
    ]


@pytest.mark.slow
def test_a_study_with_lists_has_decisions_and_no_order(tmp_path, data_folder):
    study = parse_study(STUDY, tmp_path / "listing.yaml")
    assert not run_study(Graph(study, data_folder)).failed
    rows = query(
        data_folder, "SELECT * FROM multi_label_leaderboard WHERE classifier = 'listing' ORDER BY control DESC"
    ).to_pylist()
    assert [row["control"] for row in rows] == ["none", "blank"]
    row = rows[0]
    assert row["cmap"] is None and row["rank"] is None and row["f1_macro"] is not None
    assert "cmap undefined" in row["note"] and "unparseable" in row["note"]
    texts = query(data_folder, "SELECT clip, text FROM responses WHERE control = 'none'").to_pylist()
    predicted = query(
        data_folder,
        "SELECT clip, list(label) FILTER (predicted) AS labels, any_value(outcome) AS outcome FROM multi_label_predictions "
        "WHERE control = 'none' GROUP BY clip",
    ).to_pylist()
    texts = {r["clip"]: r["text"] for r in texts}
    assert len(texts) == 12
    for r in predicted:  # the scripted model names one class, or none
        if r["outcome"] == "answered":
            assert r["labels"] == [texts[r["clip"]]]
        else:
            assert r["outcome"] == "unparseable" and r["labels"] is None
