"""The dataset as prompts: columns read as configured, bad rows set aside with line number and reason.

A single bad row never stops a job; a dataset without any usable row, or without a configured column, raises DataError
before anything is spent. Rows are streamed, so only the prompts themselves are held.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from apportion.actors.protocols import Describer
from apportion.errors import ApportionError, DataError, nearest
from apportion.scheduler.plain import masked
from apportion.scheduler.rows import Row, memory_rows, read_rows
from apportion.scheduler.spec import DatasetSpec
from apportion.types import Message, Messages, Prompt

ROLES = ("system", "user", "assistant")
DEVELOPER = "developer"
"""OpenAI's newer name of `system`: the same to its models, and most chat templates know the older one alone."""
_SHOWN_FAULTS = 3
"""Reasons quoted when no row is usable: enough to see a pattern."""
_SHOWN_COLUMNS = 50
"""Columns of a row listed when a configured one is missing."""
_MISSING = ("NAType", "NaTType")
"""The types of pandas.NA and pandas.NaT."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that is not answered. `line` counts from 1, through all files; `id` is None where the row gave none.

    Of a dataset of several files the reason ends with the row's own: `..., on line 3 of data/b.jsonl`.
    """

    line: int
    id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The usable prompts with their lines, and what was set aside. `fingerprint` depends on ids, messages and order.

    `files` are those of a dataset of several, each after the lines of those before it.
    """

    prompts: tuple[Prompt, ...]
    lines: tuple[int, ...]
    set_aside: tuple[SetAside, ...]
    fingerprint: str
    files: tuple[tuple[int, str], ...] = ()

    @property
    def rows(self) -> int:
        """Rows read, usable or not."""
        return len(self.prompts) + len(self.set_aside)


class _BadRowError(Exception):
    """Why a row is set aside."""


def read_dataset(spec: DatasetSpec, rows: Iterable[Any] | None = None) -> Dataset:
    """Read the prompts from `rows` where given, else from `spec.path`. Raises DataError as the module says."""
    source = memory_rows(rows) if rows is not None else read_rows(spec.path)
    prompts: list[Prompt] = []
    lines: list[int] = []
    aside: list[SetAside] = []
    seen: dict[str, int] = {}
    columns: dict[str, None] = {}
    files: list[tuple[int, str]] = []
    absent = {column for column in (spec.prompt, spec.id, spec.reference) if column is not None}
    for row in islice(source, spec.limit):
        if row.file is not None and (not files or files[-1][0] < row.before):
            files.append((row.before, row.file))
        if row.values is not None and absent:
            columns.update(dict.fromkeys(islice(map(str, row.values), _SHOWN_COLUMNS)))
            absent.difference_update(row.values)
        row_id: str | None = None
        try:
            row_id = _row_id(row, spec)
            prompt = _prompt(row, row_id, spec)
            if row_id in seen:
                raise _BadRowError(f"duplicate id {row_id!r}, first {_place(seen[row_id], files)}")
        except _BadRowError as error:
            aside.append(_set_aside(row.line, row_id, str(error), files))
            continue
        seen[row_id] = row.line
        prompts.append(prompt)
        lines.append(row.line)
    _check_columns(spec, absent if columns else set(), columns)
    dataset = Dataset(tuple(prompts), tuple(lines), tuple(aside), fingerprint(prompts), tuple(files))
    _check_usable(dataset, masked(spec.path) if rows is None else "the rows given")
    return dataset


def fingerprint(prompts: Iterable[Prompt]) -> str:
    """A hash of ids and messages in their order; the same for the same work, whatever file it came from."""
    digest = hashlib.blake2b(digest_size=16)
    for prompt in prompts:
        for part in (prompt.id, *(text for m in prompt.messages for text in (m.role, m.content)), ""):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
    return digest.hexdigest()


def too_long(prompt: Prompt, describers: Mapping[str, Describer]) -> str | None:
    """Why a prompt cannot be read by every one of these models, by name, policies and scorers alike; None where it can.

    The conversation and at least one token of a response must fit each model's context.
    """
    for name, describer in describers.items():
        context = describer.profile().context
        try:
            tokens = describer.count_prompt(prompt.messages)
        except ApportionError as error:
            return f"{name} cannot read the conversation: {error}"
        if tokens + 1 > context:
            return f"longer than the context of {name}: {tokens} tokens and one of a response, of {context}"
    return None


def set_aside_too_long(dataset: Dataset, describers: Mapping[str, Describer]) -> Dataset:
    """The dataset without the prompts that are `too_long`. Raises DataError where none is left."""
    kept: list[int] = []
    aside = list(dataset.set_aside)
    for index, prompt in enumerate(dataset.prompts):
        reason = too_long(prompt, describers)
        if reason is None:
            kept.append(index)
        else:
            aside.append(_set_aside(dataset.lines[index], prompt.id, reason, dataset.files))
    fitting = replace(
        dataset,
        prompts=tuple(dataset.prompts[index] for index in kept),
        lines=tuple(dataset.lines[index] for index in kept),
        set_aside=tuple(sorted(aside, key=lambda one: one.line)),
    )
    _check_usable(fitting, "the dataset")
    return fitting


def _set_aside(line: int, row_id: str | None, reason: str, files: Sequence[tuple[int, str]]) -> SetAside:
    """A row set aside, its reason with the place of the row in its file where there are several."""
    return SetAside(line, row_id, f"{reason}, {_place(line, files)}" if files else reason)


def _place(line: int, files: Sequence[tuple[int, str]]) -> str:
    """Where a line stands: of several files, in which."""
    if not files:
        return f"on line {line}"
    before, file = files[bisect_left(files, (line,)) - 1]
    return f"on line {line - before} of {masked(file)}"


def _row_id(row: Row, spec: DatasetSpec) -> str:
    if row.values is None:
        raise _BadRowError(row.fault or "cannot be read")
    if spec.id is None:
        return str(row.line)
    text = _scalar(row.values.get(spec.id), spec.id)
    if text is None:
        raise _BadRowError(f"no id in column {spec.id!r}")
    return text


def _prompt(row: Row, row_id: str, spec: DatasetSpec) -> Prompt:
    values = row.values or {}
    messages = _messages(values.get(spec.prompt), spec)
    reference = _scalar(values.get(spec.reference), spec.reference) if spec.reference is not None else None
    return Prompt(row_id, messages, reference)


def _messages(value: Any, spec: DatasetSpec) -> Messages:
    value = _python(value)
    if value is None:
        raise _BadRowError(f"no prompt in column {spec.prompt!r}")
    if isinstance(value, str):
        messages: list[Message] = [Message("user", _text(value, "the prompt"))]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        messages = list(_conversation(value))
    else:
        raise _BadRowError(f"the prompt must be text or a list of messages, not {type(value).__name__}")
    if spec.system is not None and messages[0].role != "system":
        messages.insert(0, Message("system", spec.system))
    return tuple(messages)


def _conversation(turns: Sequence[Any]) -> Iterator[Message]:
    if not turns:
        raise _BadRowError("the prompt is an empty list of messages")
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or not {"role", "content"} <= turn.keys():
            raise _BadRowError(f"message {number} must be an object with role and content")
        role = "system" if turn["role"] == DEVELOPER else turn["role"]
        if role not in ROLES:
            raise _BadRowError(f"message {number} has the role {role!r}; {nearest(str(role), (*ROLES, DEVELOPER))}")
        yield Message(role, _text(_content(turn["content"], number), f"message {number}"))
    if turns[-1]["role"] != "user":
        raise _BadRowError(f"the last message is from {turns[-1]['role']}, but must be from user")


def _content(value: Any, number: int) -> str:
    """The text of a message: its content, or of content in parts, as OpenAI's format has it, theirs, each on a line of
    its own (as vLLM's server writes them)."""
    value = _python(value)
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise _BadRowError(
            f"the content of message {number} must be text or a list of text parts, not {type(value).__name__}"
        )
    texts: list[str] = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind is None:
            raise _BadRowError(f"a part of message {number} must be an object with type and text")
        if kind != "text":
            raise _BadRowError(f"message {number} has a part of the type {kind!r}, but models are given text only")
        if not isinstance(part.get("text"), str):
            raise _BadRowError(f"a text part of message {number} has no text")
        texts.append(part["text"])
    return "\n".join(texts)


def _text(value: str, what: str) -> str:
    if not value.strip():
        raise _BadRowError(f"{what} is empty")
    return _encodable(value, what)


def _encodable(value: str, what: str) -> str:
    """JSON can spell half a surrogate pair, which no tokenizer, file or database takes."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _BadRowError(f"{what} is not valid Unicode at character {error.start + 1}") from error
    return value


def _scalar(value: Any, column: str | None) -> str | None:
    """A scalar as text; None for what is missing: blank, or what Parquet and pandas write for it."""
    value = _python(value)
    if isinstance(value, Mapping | list | tuple | set | bytes):
        raise _BadRowError(f"column {column!r} holds a {type(value).__name__}, but must hold text or a number")
    text = "" if value is None else str(value)
    return _encodable(text, f"column {column!r}") if text.strip() else None


def _python(value: Any) -> Any:
    """A value of numpy's or pandas' as Python's own; None for the ones that stand for a missing one."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    missing = type(value).__name__ in _MISSING or (isinstance(value, float) and math.isnan(value))
    return None if missing else value


def _check_columns(spec: DatasetSpec, absent: set[str], columns: Iterable[str]) -> None:
    """A configured column that no row has is a mistake in the config, not in the rows."""
    for key, column in (("prompt", spec.prompt), ("id", spec.id), ("reference", spec.reference)):
        if column in absent:
            raise DataError(f"dataset.{key}: no row has a column {column!r}; {nearest(column, columns)}")


def _check_usable(dataset: Dataset, source: str) -> None:
    if dataset.prompts:
        return
    if not dataset.set_aside:
        raise DataError(f"{source} has no rows; give at least one prompt")
    shown = "; ".join(f"line {one.line}: {one.reason}" for one in dataset.set_aside[:_SHOWN_FAULTS])
    raise DataError(f"no usable row among the {dataset.rows} of {source}: {shown}")
