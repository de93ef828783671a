"""Rows in another order, however large: Arrow's own `take` puts a column into one array, which holds 2 GiB at most."""

import pyarrow as pa
import pyarrow.compute as pc


def sorted_by(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Sort a table by columns, ascending; one that is sorted already is given as it is."""
    order = pc.sort_indices(table.select(list(key)), [(name, "ascending") for name in key])
    if order.equals(pa.array(range(table.num_rows), order.type)):
        return table
    return take_rows(table, order)


def take_rows(table: pa.Table, order: pa.Array) -> pa.Table:
    """Give some rows of a table, in an order; files in it are not copied, every one is a view of where it lies.

    Args:
        table: any table.
        order: numbers of the rows, of an integer type.
    """
    files = [f.name for f in table.schema if pa.types.is_binary(f.type)]
    taken = table.drop_columns(files).take(order)
    for name in files:
        column, at, field = table[name], table.schema.get_field_index(name), table.schema.field(name)
        views = [view for row in order.to_pylist() for view in column.slice(row, 1).chunks]
        taken = taken.add_column(at, field, pa.chunked_array(views, field.type))
    return taken
