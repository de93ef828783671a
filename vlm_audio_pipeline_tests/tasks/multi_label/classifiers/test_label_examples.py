"""Examples of multi-label prompts: with and without each class, from other folds and recordings, the same in every run."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.messages import Sampling
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import resolve_prompt
from vlm_audio_pipeline.classifiers.language_models.trials import trials
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.tasks.multi_label.classifiers.label_examples import select_label_examples
from vlm_audio_pipeline.tasks.multi_label.classifiers.label_questions import (
    LIST_PROMPT,
    YES_NO_PROMPT,
    ListQuestions,
    YesNoQuestions,
)
from vlm_audio_pipeline_tests.classifiers.language_models import checkpoints
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import labelled_clips

DATASET, TRUTH, _ = labelled_clips()
CLIPS = clips_table(DATASET.clips)
ROW = {clip.id: i for i, clip in enumerate(DATASET.clips)}
CONTENT = {clip.id: f"sha {clip.id}" for clip in DATASET.clips}


def select(clips=CLIPS, truth=TRUTH, **options):
    arguments = {"shots": 2, "seed": 3, "order": ("a", "c", "b"), "question": "yes_no", "content": CONTENT, **options}
    return select_label_examples(clips, truth, DATASET.classes, 1, **arguments).to_pylist()


def test_each_class_has_clips_with_it_and_without_it_of_other_folds_and_recordings():
    rows = select()
    assert [r["position"] for r in rows] == list(range(12))
    # Which answer comes first alternates from class to class, so that its place says nothing.
    expected = ["a: yes", "a: no", "c: no", "c: yes", "b: yes", "b: no"]
    assert [r["example_label"] for r in rows] == expected * 2
    for row in rows:
        label, answer = row["example_label"].split(": ")
        assert (label in DATASET.clips[ROW[row["clip"]]].labels) == (answer == "yes")
        assert DATASET.clips[ROW[row["clip"]]].fold != 1
        assert row["content_sha256"] == CONTENT[row["clip"]]
    for answer in set(expected):  # the two clips of an answer are of two recordings
        assert len({r["source"] for r in rows if r["example_label"] == answer}) == 2


def test_examples_depend_on_the_seed_and_the_draw_alone():
    assert select() == select()
    chosen = [{r["clip"] for r in select(**options)} for options in ({}, {"seed": 4}, {"draw": 1})]
    assert chosen[0] != chosen[1] and chosen[0] != chosen[2]
    without = [i for i, clip in enumerate(DATASET.clips) if clip.id not in chosen[0] or clip.fold == 1][:55]
    kept = sorted({*without, *(ROW[clip] for clip in chosen[0])})
    assert {r["clip"] for r in select(CLIPS.take(kept), TRUTH[kept])} == chosen[0]


def test_a_recording_of_the_fold_gives_no_examples():
    source = CLIPS.schema.get_field_index("source")
    same = CLIPS.set_column(source, "source", CLIPS["source"].take([0] * CLIPS.num_rows))
    with pytest.raises(
        VlmAudioError, match=r"class 'a' needs 2 candidates with it for fold 1 .* but has 0; use fewer shots"
    ):
        select(same)


def test_a_list_shows_all_classes_of_a_clip_once():
    rows = select(question="list")
    assert len({r["clip"] for r in rows}) == len(rows) <= 12
    for row in rows:
        classes = [c for c in DATASET.classes if c in DATASET.clips[ROW[row["clip"]]].labels]
        assert row["example_label"] == ";".join(classes)


def question(builder, prompt, rows):
    image = checkpoints.image(0)
    [built] = builder(
        prompt=resolve_prompt(prompt),
        input="image",
        names={"sea_waves": "sea waves", "dog": "dog"},
        scorings=frozenset({"likelihood"}),
        controls=(),
        trials=trials(1, 1, 1, 1),
        sampling=Sampling(),
        seed=0,
        repeats_differ=False,
    ).build(["q"], [{"trial": 0, "query": "", "clip": "e", "example_label": row} for row in rows], lambda *_: image)
    return [m.parts[0] for m in built.request.messages if m.role == "assistant"]


def test_examples_are_answered_as_the_prompt_asks():
    assert question(YesNoQuestions, YES_NO_PROMPT, ["sea_waves: no", "dog: yes"]) == ["sea waves: no", "dog: yes"]
    assert question(ListQuestions, LIST_PROMPT, ["sea_waves;dog", "", "dog"]) == ["sea waves, dog", "none", "dog"]
