import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.exports.formats import FORMATS, export_as
from vlm_audio_pipeline.reports.exports.inspect_log import export_inspect
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.storage import example_tables


def test_a_format_has_its_own_default_folder(answers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FORMATS:
        assert export_as(answers.data_folder, "s", name)
    assert {path.name for path in tmp_path.iterdir()} == {"s_huggingface", "s_inspect", "s_lmms_eval"}


def test_an_unknown_format_is_refused(answers, tmp_path):
    with pytest.raises(VlmAudioError) as caught:
        export_as(answers.data_folder, "s", "hugging", tmp_path / "out")
    assert str(caught.value) == (
        "--format must be a known format, got 'hugging'; did you mean 'huggingface'? "
        "options: huggingface, inspect, lmms-eval, tables"
    )


def test_a_study_without_a_language_model_has_no_responses_to_export(tmp_path):
    data_folder = DataFolder(tmp_path / "data")
    example_tables.study(data_folder)
    with pytest.raises(
        VlmAudioError, match=r"study 's' has no responses of a language model, .* --format tables or hugg"
    ):
        export_inspect(StudyResults.load(data_folder, "s"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
