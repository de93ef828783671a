import re
from datetime import date

import pytest

from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.evaluation.protocol_differences import recipe_fields
from vlm_audio_pipeline.evaluation.published_results import (
    check_reproduces,
    publications,
    published_results,
    results_version,
)
from vlm_audio_pipeline.renderings.presets import GROUPS
from vlm_audio_pipeline.renderings.recipe import Recipe

RESULTS = {(r.name, r.setting, r.variant, r.dataset, r.split): r for r in published_results()}


def test_every_published_number_occurs_once():
    assert len(RESULTS) == len(published_results()) == 31
    assert all(0 < r.value < 1 and r.clips > 0 and r.metric == "accuracy" for r in published_results())
    assert len(results_version()) == 64


def test_the_numbers_of_the_abstract():
    # arXiv 2411.12058: 59.00 % and 49.62 % over five folds; 73.75 % and 72.50 % on the first fold
    values = {key: r.value for key, r in RESULTS.items() if not r.variant}
    assert values["dixit2024/GPT-4o", "few-shot", "", "ESC-10", "5-fold"] == 0.59
    assert values["dixit2024/GPT-4o", "few-shot", "", "ESC-10", "fold 1"] == 0.7375
    assert values["dixit2024/human experts", "reading", "", "ESC-10", "fold 1"] == 0.725
    assert values["dixit2024/Gemini-1.5", "few-shot", "", "ESC-10", "5-fold"] == 0.4962


@pytest.mark.parametrize("result", published_results(), ids=lambda r: f"{r.name}-{r.variant or r.split}-{r.dataset}")
def test_a_share_is_a_whole_number_of_its_total_or_has_a_note(result):
    if result.total is None:
        assert "not stated" in result.note
    elif not result.integer_counts():
        assert f"not k/{result.total} for any whole k" in result.note


def test_counts_of_shares():
    janus = RESULTS["can-vlms-hear/deepseek-ai/Janus-Pro-7B", "zero-shot", "", "ESC-10", "all clips"]
    # recalls 0.95, 0.07 and 0.03 of 40 clips each: 38 + 3 + 1; 0.105 is printed as 0.10
    assert (janus.value, 42 in janus.integer_counts()) == ((38 + 3 + 1) / 400, True)
    gemini = RESULTS["dixit2024/Gemini-1.5", "few-shot", "", "ESC-10", "5-fold"]
    assert gemini.integer_counts() == [] and "198/399" in gemini.note and round(198 / 399, 4) == gemini.value
    listeners = RESULTS["piczak2015/human listeners", "listening", "", "ESC-10", "321 judged clips"]
    assert listeners.integer_counts() == [4487] and (listeners.clips, listeners.total) == (321, 4687)
    forest = RESULTS["piczak2015/random forest on MFCC and ZCR", "supervised", "", "ESC-10", "5-fold"]
    assert forest.value == 0.727 and "paper" in forest.note and "README of ESC-50 does not" in forest.note


def test_every_publication_has_title_address_date_and_bibtex():
    assert publications().keys() == {r.publication for r in published_results()}
    for key, publication in publications().items():
        assert publication.title and publication.url.startswith("https://") and isinstance(publication.date, date)
        assert re.match(rf"@\w+{{{key},\n", publication.bibtex)
        assert publication.bibtex.count("{") == publication.bibtex.count("}")
        assert publication.bibtex.endswith("}\n") and publication.url in publication.bibtex
    assert publications()["dixit2024"].date == date(2024, 11, 18)  # arXiv, version 1


def test_protocols_name_prompts_presets_and_fields_that_exist():
    fields = recipe_fields(Recipe()).keys() | {"all"}
    for result in published_results():
        assert result.prompt in {"", "-", *PROMPTS} or "{label}" in result.prompt
        if result.preset not in ("", "-"):
            Recipe(preset=result.preset)  # raises for an unknown preset
            assert set(result.preset_fields.split()) <= fields
    ablations = [r.preset for r in published_results() if r.variant]
    assert sorted(ablations) == sorted(GROUPS["paper_ablation"])


def test_an_unknown_name_in_reproduces_is_refused():
    with pytest.raises(
        BadStudy, match=r"classifiers.g.reproduces: .* got 'dixit2024/GPT4o'; did you mean 'dixit2024/GPT-4o'"
    ):
        check_reproduces("g", "dixit2024/GPT4o")
