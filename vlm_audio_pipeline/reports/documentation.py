"""Generate docs/tables.md from the table schemas: `python -m vlm_audio_pipeline.reports.documentation`."""

import sys

from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

HEAD = """\
# Tables and columns

Generated from `storage/schemas.py`. Times are in s, costs in USD, sample rates in Hz, accuracies are shares of 1. Null means
undefined. Each table is a view or table of `data/results.duckdb`. Columns that a dataset keeps (`keep: [...]`) appear in
`clips` and `predictions` under their own names.
"""


CATALOGUE_BUILT = """
## catalogue_built

When the catalogue was built, and from what. One row.

| column | type | null | description |
|---|---|---|---|
| signature | string |  | hash of the partition files and of the program's tables |
| built_at | timestamp[us, tz=UTC] |  | when the catalogue was built |
| left_out | string |  | JSON: the damaged partition files that are left out, by table |
"""


def tables_markdown() -> str:
    """Return every table with its key and columns as Markdown."""
    return HEAD + "".join(_section(schema) for schema in TABLES.values()) + CATALOGUE_BUILT


def _section(schema: TableSchema) -> str:
    keys = ["study", *([schema.component] if schema.component else []), *(["fold"] if schema.per_fold else [])]
    files = f"one partition file for each {' and '.join(keys)}"
    lines = [
        f"\n## {schema.name}\n",
        f"{schema.doc} Key: {', '.join(schema.key)}; {files}.\n",
        "| column | type | null | description |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {c.name} | {_type_text(c)} | {'yes' if c.nullable else ''} | {c.doc} |"
        for c in schema.columns
        if not c.spread
    ]
    return "\n".join(lines) + "\n"


def _type_text(column: Column) -> str:
    """Return the type of a column, as code if Markdown would read `<item: float>` as a tag of HTML."""
    return f"`{column.type}`" if "<" in str(column.type) else str(column.type)


if __name__ == "__main__":
    sys.stdout.write(tables_markdown())
