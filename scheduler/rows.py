"""Rows of a dataset as plain dicts with their line numbers, streamed from JSONL, Parquet or memory.

A row that cannot be read comes out with a `fault` instead of values, and the rows after it are still read. A file that
cannot be opened, is of another kind, or breaks off in the middle of its compression or its Parquet pages, raises
DataError.
"""

from __future__ import annotations

import glob
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from apportion.errors import DataError
from apportion.scheduler.plain import masked

PARQUET_SUFFIXES = (".parquet", ".pq")
DATA_SUFFIXES = (*PARQUET_SUFFIXES, ".jsonl", ".ndjson")
TABLE_READERS = {
    ".csv": "read_csv('{file}')",
    ".tsv": "read_csv('{file}', sep='\\t')",
    ".xlsx": "read_excel('{file}')",
    ".xls": "read_excel('{file}')",
    ".arrow": "read_feather('{file}')",
    ".feather": "read_feather('{file}')",
}
"""Tables of other kinds by suffix, and how pandas reads them, for the advice."""
UNPACKERS = {".bz2": "bunzip2 -k", ".xz": "unxz -k", ".zst": "unzstd", ".zip": "unzip"}
"""Compressions of local files that are not read, and what undoes them. Gzip is read; of URLs fsspec reads more."""
_IN_MEMORY = {"pandas": '.to_dict("records")', "polars": ".to_dicts()", "pyarrow": ".to_pylist()"}
"""What makes rows of a whole table, by the library it is from."""
_PARQUET_MAGIC = b"PAR1"
_UTF8_MARK = b"\xef\xbb\xbf"
BATCH_ROWS = 1024
"""Rows decoded at once: enough to be fast, small enough that long prompts do not fill memory."""
_EXCERPT = 40


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `line` counts from 1: lines of a JSONL file, rows of anything else. Either `values` or `fault`.

    Of a dataset of several files, `line` counts through them; `file` is the row's, and `before` are the lines of those
    before it.
    """

    line: int
    values: Mapping[str, Any] | None
    fault: str | None = None
    file: str | None = None
    before: int = 0


def data_files(path: str) -> list[str]:
    """The files that a dataset's path stands for: a file or URL itself; those of a folder (a URL's ends in /) that are
    named as data, and those of a glob, in the order of their names. DataError where there are none."""
    try:
        names = _names(path)
    except Exception as error:  # every remote filesystem has exceptions of its own
        raise DataError(masked(f"dataset {path} cannot be listed: {type(error).__name__}: {error}")) from error
    if not names:
        raise DataError(
            masked(f"dataset {path} holds no JSONL or Parquet file; correct dataset.path, or convert what is there")
        )
    for name in names:
        _check_kind(name)
    return sorted(names)


def _check_kind(path: str) -> None:
    """Raise DataError for a file whose name says that it is neither JSONL nor Parquet."""
    name = (path.partition("?")[0] if "://" in path else path).lower().removesuffix(".gz")
    reader = next((reader for suffix, reader in TABLE_READERS.items() if name.endswith(suffix)), None)
    if reader is not None:
        target = Path(path[: len(name)]).with_suffix(".parquet").name
        convert = f"python -c \"import pandas; pandas.{reader.format(file=path)}.to_parquet('{target}')\""
        raise DataError(
            masked(
                f"dataset {path} is a table of a kind that is not read, only JSONL and Parquet are; convert it, for "
                f"example with {convert}, and name {target} in dataset.path"
            )
        )
    unpacker = next((tool for suffix, tool in UNPACKERS.items() if name.endswith(suffix)), None)
    if unpacker is not None and "://" not in path:
        raise DataError(
            f"dataset {path} is compressed in a way that is not read; unpack it with `{unpacker} {path}` and name the "
            "unpacked file in dataset.path, or use gzip, which is read"
        )


def _names(path: str) -> list[str]:
    if "://" in path:
        # Only *, because other marks of a glob are part of many URLs.
        if "*" not in path and not path.endswith("/"):
            return [path]
        from fsspec.core import url_to_fs

        store, root = url_to_fs(path)
        if "*" in path:
            return [store.unstrip_protocol(name) for name in store.glob(root) if store.isfile(name)]
        return [store.unstrip_protocol(name) for name in store.find(root) if _is_data(name.removeprefix(root))]
    if Path(path).is_dir():
        files = (file for file in Path(path).rglob("*") if file.is_file())
        return [str(file) for file in files if _is_data(file.relative_to(path).as_posix())]
    if Path(path).is_file() or not any(mark in path for mark in "*?["):
        return [path]
    return [name for name in glob.glob(path, recursive=True) if Path(name).is_file()]


def _is_data(name: str) -> bool:
    """Whether a file of a folder, by its name in there, is named as data. What editors and tools hide is none."""
    return not any(part.startswith(".") for part in name.split("/")) and name.lower().removesuffix(".gz").endswith(
        DATA_SUFFIXES
    )


def read_rows(path: str) -> Iterator[Row]:
    """Rows of JSONL or Parquet, of one file or several (see `data_files`); blank lines of JSONL are no rows.

    Lines are counted through the files. Raises DataError.
    """
    before = 0
    files = data_files(path)
    for file in files:
        last = 0
        for row in _read_file(file):
            last = row.line
            yield row if len(files) == 1 else replace(row, line=before + last, file=file, before=before)
        before += last


def _read_file(path: str) -> Iterator[Row]:
    with _open(path) as stream:
        try:
            yield from _parquet(stream) if _is_parquet(path, stream) else _jsonl(path, stream)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(masked(f"{path} is damaged ({error}); copy or compress it again")) from error
        except (OSError, ValueError) as error:
            raise DataError(masked(f"{path} cannot be read: {error}")) from error


def memory_rows(rows: Iterable[Any]) -> Iterator[Row]:
    """Rows handed over in Python: any iterable of mappings; a `Row` that was read elsewhere is taken as it is."""
    if isinstance(rows, str | bytes | Path | Mapping):
        raise DataError(
            f"rows are a {type(rows).__name__}, but must be dicts, one a prompt; a file goes in dataset.path"
        )
    advice = _IN_MEMORY.get(type(rows).__module__.partition(".")[0])
    if advice is not None and type(rows).__name__ in ("DataFrame", "Table", "RecordBatch"):
        raise DataError(
            f"rows are a {type(rows).__name__}, but must be dicts, one a prompt; give the rows as rows{advice}"
        )
    for line, row in enumerate(rows, 1):
        if isinstance(row, Row):
            yield row
        elif isinstance(row, Mapping):
            yield Row(line, row)
        else:
            yield Row(line, None, f"a row must be a dict, not {type(row).__name__}")


@contextmanager
def _open(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a local file or a URL, decompressed by suffix."""
    try:
        if "://" in path:
            import fsspec

            opened = fsspec.open(path, "rb", compression="infer")
            stream = cast("IO[bytes]", opened.open())
        else:
            stream = cast("IO[bytes]", gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb"))  # noqa: SIM115
    except FileNotFoundError as error:
        raise DataError(masked(f"dataset {path} is not there; correct dataset.path (now in {Path.cwd()})")) from error
    except Exception as error:  # every remote filesystem has exceptions of its own
        raise DataError(masked(f"dataset {path} cannot be opened: {type(error).__name__}: {error}")) from error
    try:
        yield stream
    finally:
        stream.close()


def _is_parquet(path: str, stream: IO[bytes]) -> bool:
    if path.lower().endswith(PARQUET_SUFFIXES):
        return True
    start = stream.read(len(_PARQUET_MAGIC))
    stream.seek(0)
    return start == _PARQUET_MAGIC


def _jsonl(path: str, stream: IO[bytes]) -> Iterator[Row]:
    first = True
    for line, raw in enumerate(stream, 1):
        text = (raw.removeprefix(_UTF8_MARK) if line == 1 else raw).rstrip()
        if not text.strip():
            continue
        row = _parse(line, text)
        if first and row.values is None and text.lstrip().startswith(b"[") and not text.endswith(b"]"):
            # The last of its rows, which no comma follows, would be taken for all there are.
            name = Path(path.partition("?")[0] if "://" in path else path).name
            raise DataError(
                masked(
                    f"dataset {path} is one JSON array over several lines, and only JSONL, one object a line, is read; "
                    f"convert it, for example with jq -c '.[]' {name} > {Path(name).stem}.jsonl"
                )
            )
        first = False
        yield row


def _parse(line: int, raw: bytes) -> Row:
    try:
        values = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Row(line, None, f"not UTF-8: byte 0x{raw[error.start]:02x} at column {error.start + 1}")
    except RecursionError:
        return Row(line, None, "broken JSON: nested too deeply")
    except json.JSONDecodeError as error:
        return Row(line, None, f"broken JSON: {error.msg} at column {error.colno}")
    except ValueError as error:  # a number of more digits than Python reads
        return Row(line, None, f"broken JSON: {error}")
    if not isinstance(values, dict):
        excerpt = raw.decode("utf-8").strip()[:_EXCERPT]
        hint = "; write one object a line" if isinstance(values, list) else ""
        return Row(line, None, f"a row must be an object, not {type(values).__name__}: {excerpt}{hint}")
    return Row(line, values)


def _parquet(stream: IO[bytes]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    line = 0
    for batch in pq.ParquetFile(stream).iter_batches(batch_size=BATCH_ROWS):
        yield from batch_rows(batch, line)
        line += batch.num_rows


def batch_rows(batch: Any, before: int) -> Iterator[Row]:
    """The rows of an Arrow batch or table, of which `before` rows came earlier."""
    try:
        records = batch.to_pylist()
    except UnicodeDecodeError:
        records = [_record(batch, position) for position in range(batch.num_rows)]
    for line, record in enumerate(records, before + 1):
        yield Row(line, record) if isinstance(record, dict) else Row(line, None, record)


def _record(batch: Any, position: int) -> dict[str, Any] | str:
    """One row of a batch, or what is wrong with it."""
    try:
        return cast("dict[str, Any]", batch.slice(position, 1).to_pylist()[0])
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{error.object[error.start]:02x} at column {error.start + 1}"
