"""Reading the Parquet files of a pool: what cannot be read, or is of another type than it must be, is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apportion.errors import DataError


def read_table(file: Path) -> Any:
    """The file as an Arrow table. Raises DataError where it is damaged or cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise DataError(f"{file} cannot be read ({reason[0]}); copy it again, or record the pool again") from error


def check_known(file: Path, table: Any, names: Sequence[str]) -> None:
    """Raise DataError where one of these columns, which are there, has rows without a value."""
    for name in names:
        if table[name].null_count:
            raise DataError(f"{file}: {table[name].null_count} of {table.num_rows} rows have no {name}; leave them out")


def check_numbers(file: Path, table: Any, names: Sequence[str]) -> None:
    """Raise DataError where one of these columns is there and holds no numbers."""
    import pyarrow.types as kinds

    for name in names:
        if name in table.column_names:
            kind = table[name].type
            numbers = (kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_boolean, kinds.is_null)
            if not any(one(kind) for one in numbers):
                raise DataError(f"{file}: the column {name} must hold numbers, but holds {kind}")
