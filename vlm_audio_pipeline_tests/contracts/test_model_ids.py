"""The model that answered is compared with the one that was requested."""

import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.model_ids import is_other_model, mixed_models, refuse_mixed_models

SAME = [
    ("gpt-4o", "gpt-4o-2024-08-06"),
    ("gpt-4o-2024-08-06", "gpt-4o"),
    ("openai/gpt-4o", "gpt-4o-2024-11-20"),
    ("gpt-4-turbo", "gpt-4-turbo-2024-04-09"),
    ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
    ("gemini-2.5-flash", "models/gemini-2.5-flash"),
    ("gemini-2.5-flash", "gemini-2.5-flash-preview-05-20"),
    ("gemini-1.5-pro", "gemini-1.5-pro-002"),
    ("google/gemini-2.5-flash:free", "gemini-2.5-flash"),
    ("mistral-large-latest", "mistral-large-2411"),
    ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b-instruct-awq"),
    ("my-alias", "qwen2.5-vl-7b"),
    ("/tmp/served0/janus", "/tmp/served0/janus@main"),
    ("claude-3-5-sonnet", "claude-3-5-sonnet@20241022"),
    ("gpt-4o", "my-deployment"),
    ("model", "/models/weights-q4.gguf"),
]
OTHER = [
    ("gpt-4o", "gpt-4o-mini-2024-07-18"),
    ("gpt-4o", "gpt-4.1-2025-04-14"),
    ("gpt-4", "gpt-4-turbo-2024-04-09"),
    ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20"),
    ("gpt-5", "gpt-5.1"),
    ("gpt-4o", "claude-sonnet-4-5"),
    ("claude-3-opus-20240229", "claude-opus-4-1-20250805"),
    ("claude-sonnet-4-20250514", "claude-sonnet-4-5-20250929"),
    ("gemini-2.0-flash", "gemini-2.5-flash"),
    ("gemini-2.5-flash", "gemini-2.5-flash-lite"),
    ("qwen2.5-vl-7b-instruct", "qwen2.5-vl-72b-instruct"),
    ("o3", "o4-mini-2025-04-16"),
]


@pytest.mark.parametrize(("requested", "returned"), SAME)
def test_snapshots_and_other_spellings_are_the_same_model(requested, returned):
    assert not is_other_model(requested, returned)


@pytest.mark.parametrize(("requested", "returned"), OTHER)
def test_other_families_versions_and_sizes_are_other_models(requested, returned):
    assert is_other_model(requested, returned)


def test_responses_of_two_models_are_refused():
    refuse_mixed_models(["gpt-4o-2024-08-06 fp_1", "gpt-4o-2024-08-06 fp_2 without seed", None])
    with pytest.raises(NotAvailable, match="got responses of gpt-4o-2024-08-06 and of gpt-4o-2024-11-20"):
        refuse_mixed_models(["gpt-4o-2024-11-20 fp_1", "gpt-4o-2024-08-06 fp_1"])


def test_accepted_models_may_stand_beside_another_one():
    revisions = ["gpt-4o-2024-11-20 fp_1", "gpt-4o-2024-08-06 fp_1", "gpt-4.1 fp_1"]
    assert mixed_models(revisions, ["gpt-4o-2024-11-20", "gpt-4.1"]) is None
    assert "got responses of gpt-4.1 and of gpt-4o-2024-08-06" in mixed_models(revisions, ["gpt-4o-2024-11-20"])
