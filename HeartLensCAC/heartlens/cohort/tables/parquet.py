"""Rows to Parquet and back, by DuckDB alone: rows go through lines of JSON, so that memory does not grow with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heartlens.core.disk.renaming import sync_file
from heartlens.core.disk.workplace import new_token
from heartlens.core.errors import InputRefused
from heartlens.report.outputs import Column

TYPES = {
    "text": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "yes or no": "BOOLEAN", "day": "DATE",
    "list of text": "VARCHAR[]",
}  # fmt: skip
"""Of a column's kind."""

MOST_BYTES_OF_A_ROW = 1 << 28
"""A folder of a hundred thousand files in one series has a tenth of it."""

NOT_WRITTEN = frozenset({"IOException", "FatalException"})
"""Errors of DuckDB that a full disk ends with; the second one where it noticed late."""


def connect(path: Path | None = None) -> Any:
    """A database in a file, or in memory; nothing is fetched from anywhere.

    Raises
    ------
    InputRefused
        ``input``: DuckDB is not installed.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise InputRefused("input", "cohorts need duckdb; pip install 'heartlens[cohort]', then run again") from None
    config = {"autoinstall_known_extensions": False}
    return duckdb.connect(":memory:" if path is None else str(path), config=config)


def make_table(
    con: Any, name: str, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], scratch: Path
) -> None:
    """Make a table of rows in a database, in the order of the rows.

    Parameters
    ----------
    con
        The database.
    name
        Of the table.
    columns
        Of the table; what a row does not have is NULL there.
    rows
        By name of the column.
    scratch
        Folder for the lines, which are deleted again.
    """
    path = scratch / f".{name}-{new_token()}.jsonl"  # a name as of `atomic_file`, which is swept away
    names = [column.name for column in columns]
    try:
        # A file name that is no UTF-8 costs letters, not the table.
        with path.open("w", encoding="utf-8", errors="backslashreplace") as lines:
            for row in rows:
                lines.write(line_of({column: row.get(column) for column in names}))
        load_lines(con, name, columns, path)
    finally:
        path.unlink(missing_ok=True)


def line_of(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON; NaN and infinity raise ValueError."""
    return json.dumps(row, allow_nan=False) + "\n"


def load_lines(con: Any, name: str, columns: Sequence[Column], path: Path) -> None:
    """Make a table of a file of lines of JSON.

    Parameters
    ----------
    con
        The database.
    name
        Of the table.
    columns
        Of the table; what a line holds beside them is left out.
    path
        Of the file.
    """
    types = ", ".join(f"'{c.name}': '{TYPES[c.kind]}'" for c in columns)
    con.execute(
        f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM read_json(?, format = 'newline_delimited', "
        f"columns = {{{types}}}, maximum_object_size = {MOST_BYTES_OF_A_ROW})",
        [str(path)],
    )


def export_table(con: Any, name: str, path: Path) -> None:
    """Write a table as Parquet into a file that `heartlens.core.atomic.atomic_file` gave, and onto the disk."""
    con.execute(f"COPY {name} TO '{_quoted(path)}' (FORMAT parquet, COMPRESSION zstd)")
    sync_file(path)


@contextmanager
def noticing_a_full_disk(place: Path) -> Iterator[None]:
    """Say in one sentence that DuckDB could not write, which has errors of its own for it.

    Parameters
    ----------
    place
        Folder that is written to, for the message.

    Raises
    ------
    InputRefused
        ``output``: the disk does not take it.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_duckdb(error) or type(error).__name__ not in NOT_WRITTEN:
            raise
        raise InputRefused(
            "output",
            f"cannot write the tables in {place}: the disk takes no more ({type(error).__name__}); make room, then "
            "run again; what was there is as it was",
        ) from None


def _is_of_duckdb(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("duckdb", "_duckdb")


def read_table(
    path: Path, columns: Sequence[str], *, where: str = "true", values: Sequence[Any] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, in their order.

    Parameters
    ----------
    path
        The file.
    columns
        Which of them.
    where, values
        A condition of SQL and what stands for its question marks.

    Yields
    ------
    dict[str, Any]
        By name of the column.

    Raises
    ------
    InputRefused
        ``unreadable``: it is damaged.
    """
    con = connect()
    try:
        names = ", ".join(f'"{name}"' for name in columns)
        found = con.execute(f"SELECT {names} FROM read_parquet(?) WHERE {where}", [str(path), *values])
        while rows := found.fetchmany(4096):
            yield from (dict(zip(columns, row, strict=True)) for row in rows)
    except Exception as error:
        if not _is_of_duckdb(error):
            raise
        raise InputRefused("unreadable", f"{path} cannot be read ({type(error).__name__}); plan again") from None
    finally:
        con.close()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
