"""Rows in another order, however large: Arrow's own `take` puts a column into one array, which holds 2 GiB at most."""

import pyarrow as pa
import pyarrow.compute as pc

MOST_BYTES = 2**31 - 1
"""Bytes of pictures that Arrow's arrays of `binary` can hold (32-bit offsets)."""


def sorted_by(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Sort a table by columns, ascending; one that is sorted already is given as it is."""
    order = pc.sort_indices(table.select(list(key)), [(name, "ascending") for name in key])
    if order.equals(pa.array(range(table.num_rows), order.type)):
        return table
    return rows_of(table, order)


def rows_of(table: pa.Table, order: pa.Array) -> pa.Table:
    """Give some rows of a table, in an order.

    Args:
        table: any table.
        order: numbers of the rows, of an integer type.
    """
    large = [f.name for f in table.schema if pa.types.is_binary(f.type) and table[f.name].nbytes > MOST_BYTES]
    taken = table.drop_columns(large).take(order)
    for name in large:  # every row a view of where it lies: nothing is copied
        column, at, field = table[name], table.schema.get_field_index(name), table.schema.field(name)
        views = [view for row in order.to_pylist() for view in column.slice(row, 1).chunks]
        taken = taken.add_column(at, field, pa.chunked_array(views, field.type))
    return taken
