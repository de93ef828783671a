"""The declaration of a table: its columns, its key, and the check at every write.

The tables themselves are declared in `clip_tables`, `summary_tables` and `analysis_tables`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.errors import BadTable
from vlm_audio_pipeline.storage.row_order import sort_rows

if TYPE_CHECKING:
    from vlm_audio_pipeline.storage.checks import TableCheck


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: unique within the table, also without regard to case.
        type: its Arrow type.
        doc: its documentation, with the unit.
        nullable: whether it may be null.
        in_data_version: whether the data version depends on it; False if equal computations can differ (latency, cost, dates).
        in_preview: whether previews show it; False if its values are too wide.
        spread: True for a text-to-text map whose entries become separate columns in the catalogue.
    """

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    in_data_version: bool = True
    spread: bool = False
    in_preview: bool = True


@dataclass(frozen=True)
class TableSchema:
    """One table.

    Attributes:
        name: also the name of its view or table in the catalogue.
        doc: one sentence.
        key: columns that identify a row within a study (and component).
        columns: in order; `study` comes first in every table.
        component: the column with the name of the encoder, rendering or classifier that a partition file belongs to.
        per_fold: whether there is one partition file per fold.
        catalogue_kind: "view" (over the partition files) or "table" (a copy, for small results).
        order: (column, "ascending" or "descending") by which rows are listed, nulls last; by default the key.
        extra_columns_of: table whose spread columns are joined to this view by study and clip.
        checks: checks of the rows of each partition, in addition to the check of their keys.
        preview_first: columns that previews show first; a preview has room for about six columns.
        rows_outside_data_version: column -> values of the rows on which the data version does not depend, because equal
            computations can differ in them.
    """

    name: str
    doc: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    component: str | None = None
    per_fold: bool = True
    catalogue_kind: str = "view"
    order: tuple[tuple[str, Literal["ascending", "descending"]], ...] = ()
    extra_columns_of: str | None = None
    checks: "tuple[TableCheck, ...]" = ()
    preview_first: tuple[str, ...] = ()
    rows_outside_data_version: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable, metadata={"doc": c.doc}) for c in self.columns])

    @cached_property
    def content_columns(self) -> tuple[str, ...]:
        """Names of the columns that enter the data version."""
        return tuple(c.name for c in self.columns if c.in_data_version)

    def content_rows(self, table: pa.Table) -> pa.Table:
        """Return the rows that enter the data version."""
        for column, values in self.rows_outside_data_version.items():
            table = table.filter(pc.invert(pc.is_in(table[column], pa.array(values))))
        return table

    def conform(self, table: pa.Table, **constants: str | int | None) -> pa.Table:
        """Check a table, fill in constant columns, order and cast its columns, and sort it by its key.

        Args:
            table: the rows that a stage returned.
            constants: columns with one value in the whole partition (`study`, the component, `fold`); added if the
                table does not have them, else compared.

        Raises:
            BadTable: for missing or unknown columns, wrong types, forbidden nulls, duplicate keys, and rows of another
                partition.
        """
        names = set(table.column_names)
        if len(names) != table.num_columns:
            repeated = sorted({n for n in names if table.column_names.count(n) > 1})
            raise BadTable(f"table '{self.name}' must have each column once, got {repeated} more than once")
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
            values = table[column.name]
            if not column.nullable and values.null_count:
                raise BadTable(f"table '{self.name}' must have no null in '{column.name}', got {values.null_count}")
            if not pa.types.is_null(values.type) and _is_text(values.type) != _is_text(column.type):
                raise BadTable(
                    f"table '{self.name}' must match its schema: '{column.name}' must be {column.type}, got {values.type}"
                )
        try:
            table = table.select(self.arrow.names).cast(self.arrow)
        except (pa.ArrowException, ValueError) as error:
            raise BadTable(f"table '{self.name}' must match its schema: {error}") from error
        for column in self.columns:
            if pa.types.is_list(column.type) and (nulls := table[column.name].combine_chunks().flatten().null_count):
                raise BadTable(f"table '{self.name}' must have no null inside '{column.name}', got {nulls}")
            is_partition_column = column.name in ("study", "fold", self.component)
            if is_partition_column and (expected := constants.get(column.name)) is not None:
                others = [value for value in table[column.name].unique().to_pylist() if value != expected]
                if others:
                    raise BadTable(
                        f"table '{self.name}' must have only {expected!r} in '{column.name}' of this partition, got {others[:5]}"
                    )
        if self.key:
            distinct = table.group_by(list(self.key)).aggregate([]).num_rows
            if distinct != table.num_rows:
                raise BadTable(
                    f"table '{self.name}' must have one row for each ({', '.join(self.key)}), "
                    f"got {table.num_rows} rows with {distinct} distinct keys"
                )
            table = sort_rows(table, self.key)
        return table

    def empty_table(self) -> pa.Table:
        """Return the table without rows."""
        return self.arrow.empty_table()


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a type is text; Arrow would silently convert between text and numbers."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_text(kind) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))
