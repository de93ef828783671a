"""Which summary stages a study has."""

import pytest

from vlm_audio_pipeline.evaluation.published import StudyDataset, published_table
from vlm_audio_pipeline.planning.summaries import published_reproductions, summaries
from vlm_audio_pipeline.studies.loading import built_in_studies, load_study


def stage_names(study):
    versions = dict.fromkeys(study.classifiers, "1")
    return {stage.asset for _, stage in summaries(study, (1, 2, 3, 4, 5), lambda _: None, versions)}


def test_the_history_has_the_rendering_of_a_few_shot_model():
    """The study demo: `janus_one_shot` has the rendering of `janus`, and an encoder that chooses its examples."""
    study = load_study("demo")
    [stage] = [stage for _, stage in summaries(study, (1,), lambda _: None, dict.fromkeys(study.classifiers, "1")) if stage.asset == "history"]  # fmt: skip
    settings = stage.parameters["janus_one_shot"]["settings"]
    assert (settings["rendering"]["colormap"], settings["encoder"]["kind"]) == ("magma", "features")


def rows_of(study):
    reproductions = published_reproductions(study)
    rows = published_table(reproductions, {}, StudyDataset(study.dataset.card.published_name)).to_pylist()
    return {row["classifier"]: row for row in rows if row["classifier"]}


@pytest.mark.parametrize("name", built_in_studies())
def test_only_a_study_that_repeats_a_result_has_published_results(name):
    study = load_study(name)
    repeats = any(spec.reproduces for spec in study.classifiers.values())
    assert ("published" in stage_names(study)) == repeats
    assert repeats == (name in ("baselines", "can_vlms_hear", "esc10", "paper"))


def test_each_ablation_of_the_paper_meets_its_own_published_result():
    # arXiv 2411.12058, ablation on fold 1: accuracy of 80 clips, %
    expected = {
        "": 27.5,
        "_linear_frequency": 35,
        "_linear_amplitude": 30,
        "_no_labels": 26.25,
        "_magma": 25,
        "_mel": 25,
        "_colorbar": 23.75,
        "_low_resolution": 20,
        "_mfcc": 13.75,
    }
    rows = {name: row for name, row in rows_of(load_study("paper")).items() if name.startswith("gpt4o_ablation")}
    assert {
        name.removeprefix("gpt4o_ablation"): round(100 * row["published"], 2) for name, row in rows.items()
    } == expected
    assert len({row["variant"] for row in rows.values()}) == 9
    for row in rows.values():
        assert not [line for line in row["differences"].splitlines() if not line.startswith("model: ")], row[
            "differences"
        ]


def test_the_listeners_of_the_baselines_meet_their_published_result():
    row = rows_of(load_study("baselines"))["annotators"]
    assert (row["system"], row["published"], row["differences"]) == ("human listeners", 0.9573, "")


def test_can_vlms_hear_is_repeated_up_to_the_copy_of_the_weights():
    rows = rows_of(load_study("can_vlms_hear"))
    assert rows.keys() == {"clap_zero_shot", "janus_7b"}
    assert (rows["clap_zero_shot"]["differences"], rows["clap_zero_shot"]["not_stated"]) == ("", "")
    model = "model: published deepseek-ai/Janus-Pro-7B, here deepseek-community/Janus-Pro-7B"
    assert (rows["janus_7b"]["differences"], rows["janus_7b"]["not_stated"]) == (model, "")
