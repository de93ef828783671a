"""One clip with all its predictions."""

from typing import TYPE_CHECKING

from vlm_audio_pipeline.api.tables import ResultTable

if TYPE_CHECKING:
    from vlm_audio_pipeline.storage.data_folder import DataFolder


def show_predictions(
    data_folder: "DataFolder", clip: str, classifier: str | None = None, study: str | None = None
) -> ResultTable:
    """Return one clip with all its predictions, printed as `vlm-audio show` prints them."""
    from vlm_audio_pipeline.cli.tables import prediction_view
    from vlm_audio_pipeline.reports.lookup import find_predictions

    rows = find_predictions(data_folder, clip, classifier, study)
    return ResultTable(rows, prediction_view(rows.to_pylist()))
