"""Every table of the project, declared once: the Arrow schema, the check at write and the documentation come from here.

Conventions: times in s, money in USD, rates in Hz, accuracies as a share of 1. A null means "undefined", and where that
is not obvious a column beside it says why.
"""

from vlm_audio_pipeline.storage.analysis_tables import ANALYSIS_TABLES
from vlm_audio_pipeline.storage.clip_tables import CLIP_TABLES
from vlm_audio_pipeline.storage.summary_tables import SUMMARY_TABLES
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

__all__ = ["TABLES", "Column", "TableSchema"]

TABLES: dict[str, TableSchema] = {table.name: table for table in (*CLIP_TABLES, *SUMMARY_TABLES, *ANALYSIS_TABLES)}
"""Every table by name, those of clips first, in the order in which they are made."""
