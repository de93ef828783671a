"""Tables of what is looked into beside accuracy: spaces of vectors, leakage, published results, history."""

from vlm_audio_pipeline.storage.table_schema import TableSchema

ANALYSIS_TABLES: tuple[TableSchema, ...] = ()
