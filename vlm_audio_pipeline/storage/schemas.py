"""Every table of the project. The Arrow schema, the check at write and docs/tables.md are derived from here.

Units: times in s, money in USD, sample rates in Hz, accuracies as a share of 1. A null means "undefined"; where that is not
obvious, another column has the reason.
"""

from vlm_audio_pipeline.storage.analysis_tables import ANALYSIS_TABLES
from vlm_audio_pipeline.storage.clip_tables import CLIP_TABLES
from vlm_audio_pipeline.storage.multi_label_tables import MULTI_LABEL_TABLES
from vlm_audio_pipeline.storage.optional_tables import OPTIONAL_TABLES
from vlm_audio_pipeline.storage.summary_tables import SUMMARY_TABLES
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema
from vlm_audio_pipeline.storage.verdict_table import VERDICTS_TABLE

__all__ = ["TABLES", "Column", "TableSchema"]

TABLES: dict[str, TableSchema] = {
    table.name: table
    for table in (
        *CLIP_TABLES,
        *SUMMARY_TABLES,
        VERDICTS_TABLE,
        *ANALYSIS_TABLES,
        *OPTIONAL_TABLES,
        *MULTI_LABEL_TABLES,
    )
}
"""Every table by name, in the order in which a study computes them."""
