"""Generate docs/tables.md from the table schemas: `python -m vlm_audio_pipeline.reports.documentation`."""

import sys

from vlm_audio_pipeline.storage.schemas import TABLES, TableSchema

HEAD = """\
# Tables and columns

Generated from `storage/schemas.py`. Times are in s, costs in USD, sample rates in Hz, accuracies a share of 1. Null means
undefined. Each table is a view or table of `data/results.duckdb`. Columns that a dataset keeps (`keep: [...]`) appear in
`clips` and `predictions` under their own names.
"""


def tables_markdown() -> str:
    """Return every table with its key and columns as Markdown."""
    return HEAD + "".join(_section(schema) for schema in TABLES.values())


def _section(schema: TableSchema) -> str:
    units = ["study", *([schema.component] if schema.component else []), *(["fold"] if schema.per_fold else [])]
    files = f"one partition file for each {' and '.join(units)}"
    lines = [
        f"\n## {schema.name}\n",
        f"{schema.doc} Key: {', '.join(schema.key)}; {files}.\n",
        "| column | type | null | description |",
        "|---|---|---|---|",
    ]
    lines += [f"| {c.name} | {c.type} | {'yes' if c.nullable else ''} | {c.doc} |" for c in schema.columns]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(tables_markdown())
