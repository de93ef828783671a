"""docs/tables.md, made from the schemas, so that it cannot drift: `python -m vlm_audio_pipeline.reports.documentation`."""

import sys

from vlm_audio_pipeline.storage.schemas import TABLES, TableSchema

HEAD = """\
# Tables and columns

Made from `storage/schemas.py`. Times in s, money in USD, rates in Hz, accuracies as a share of 1. Null means undefined.
Each is a view or table of `data/results.duckdb`; columns that a dataset keeps (`keep: [...]`) appear in `clips` and
`predictions` under their own names.
"""


def tables_markdown() -> str:
    """Write every table with its key and columns as Markdown."""
    return HEAD + "".join(_section(schema) for schema in TABLES.values())


def _section(schema: TableSchema) -> str:
    part_of = f", each {schema.owner}" if schema.owner else ""
    parts = f"one part a study{part_of}{' and fold' if schema.per_fold else ''}"
    lines = [
        f"\n## {schema.name}\n",
        f"{schema.doc} Key: {', '.join(schema.key)}; {parts}.\n",
        "| column | type | null | what |",
        "|---|---|---|---|",
    ]
    lines += [f"| {c.name} | {c.type} | {'yes' if c.nullable else ''} | {c.doc} |" for c in schema.columns]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(tables_markdown())
