"""What a table is: its columns, its key, and the check at every write.

What belongs here: what holds of all tables. What does not: the tables themselves, which `schemas` declares.
"""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import BadTable
from vlm_audio_pipeline.storage.row_order import sorted_by


@dataclass(frozen=True)
class Column:
    """One column: `content=False` marks what two runs of the same computation may differ in (latency, cost, dates)."""

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    content: bool = True


@dataclass(frozen=True)
class TableSchema:
    """One table.

    Attributes:
        name: also the name of its view or table in the catalogue.
        doc: one sentence.
        key: columns that tell rows apart within a study (and within the owner, where there is one).
        columns: in order; `study` comes first in every table.
        owner: the column naming the encoder, rendering or classifier a part belongs to.
        per_fold: whether parts are per fold.
        stored: "view" over parquet parts, or "table" copied into the catalogue (small results).
    """

    name: str
    doc: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    owner: str | None = None
    per_fold: bool = True
    stored: str = "view"

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable, metadata={"doc": c.doc}) for c in self.columns])

    @cached_property
    def content_columns(self) -> tuple[str, ...]:
        """Names of the columns that enter the data version."""
        return tuple(c.name for c in self.columns if c.content)

    def conform(self, table: pa.Table, **constants: str | int | None) -> pa.Table:
        """Check a table, fill in constant columns, order and cast its columns, sort it by its key.

        Args:
            table: what a stage made.
            constants: columns with one value for the whole part (`study`, the owner, `fold`), added where the schema
                has them and the table does not; where the table has one already, it must say the same.

        Raises:
            BadTable: for missing or unknown columns, wrong types, nulls where there must be none, duplicate keys, and
                rows that belong to another part.
        """
        names = set(table.column_names)
        if len(names) != table.num_columns:
            twice = sorted({n for n in names if table.column_names.count(n) > 1})
            raise BadTable(f"table '{self.name}' must have each column once, got {twice} more than once")
        for name, value in constants.items():
            if name in self.arrow.names and name not in names:
                table = table.append_column(
                    name, pa.repeat(pa.scalar(value, self.arrow.field(name).type), table.num_rows)
                )
        for column in self.columns:
            if column.nullable and column.name not in table.column_names:
                table = table.append_column(column.name, pa.nulls(table.num_rows, column.type))
        missing = [n for n in self.arrow.names if n not in table.column_names]
        unknown = [n for n in table.column_names if n not in self.arrow.names]
        if missing or unknown:
            raise BadTable(
                f"table '{self.name}' must have exactly the columns of its schema; missing {missing}, unknown {unknown}"
            )
        for column in self.columns:
            given = table[column.name]
            if not column.nullable and given.null_count:
                raise BadTable(f"table '{self.name}' must have no null in '{column.name}', got {given.null_count}")
            if not pa.types.is_null(given.type) and _is_text(given.type) != _is_text(column.type):
                raise BadTable(
                    f"table '{self.name}' must keep its schema: '{column.name}' must be {column.type}, got {given.type}"
                )
        try:
            table = table.select(self.arrow.names).cast(self.arrow)
        except (pa.ArrowException, ValueError) as error:
            raise BadTable(f"table '{self.name}' must keep its schema: {error}") from error
        for column in self.columns:
            if pa.types.is_list(column.type) and (inside := table[column.name].combine_chunks().flatten().null_count):
                raise BadTable(f"table '{self.name}' must have no null inside '{column.name}', got {inside}")
            belongs = column.name in ("study", "fold", self.owner)
            if belongs and (want := constants.get(column.name)) is not None:
                others = [value for value in table[column.name].unique().to_pylist() if value != want]
                if others:
                    raise BadTable(
                        f"table '{self.name}' must have {want!r} alone in '{column.name}' of this part, got {others[:5]}"
                    )
        if self.key:
            distinct = table.group_by(list(self.key)).aggregate([]).num_rows
            if distinct != table.num_rows:
                raise BadTable(
                    f"table '{self.name}' must have one row for each ({', '.join(self.key)}), "
                    f"got {table.num_rows} rows for {distinct}"
                )
            table = sorted_by(table, self.key)
        return table

    def empty(self) -> pa.Table:
        """Give the table without rows: an empty table is a table."""
        return self.arrow.empty_table()


def _is_text(kind: pa.DataType) -> bool:
    """Tell text from numbers, between which Arrow would convert without a word."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
