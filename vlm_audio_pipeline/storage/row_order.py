"""Reorder the rows of tables of any size. Arrow's own `take` copies a column into one array, which holds at most 2 GiB."""

import pyarrow as pa
import pyarrow.compute as pc


def sort_rows(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Sort a table by columns, ascending; a sorted table is returned as it is."""
    order = pc.sort_indices(table.select(list(key)), [(name, "ascending") for name in key])
    if order.equals(pa.array(range(table.num_rows), order.type)):
        return table
    return take_rows(table, order)


def take_rows(table: pa.Table, order: pa.Array) -> pa.Table:
    """Select rows of a table; binary values are not copied, the result refers to the same memory.

    Args:
        table: any table.
        order: indices of the rows, of an integer type.
    """
    binary = [f.name for f in table.schema if pa.types.is_binary(f.type)]
    result = table.drop_columns(binary).take(order)
    for name in binary:
        column, index, field = table[name], table.schema.get_field_index(name), table.schema.field(name)
        views = [view for row in order.to_pylist() for view in column.slice(row, 1).chunks]
        result = result.add_column(index, field, pa.chunked_array(views, field.type))
    return result
