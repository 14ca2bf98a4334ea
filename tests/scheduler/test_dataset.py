"""Reading datasets: what becomes a prompt, what is set aside and why, and what stops a job."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.actors.fake import describe
from apportion.actors.spec import ModelSpec, Role
from apportion.errors import DataError, ModelError
from apportion.scheduler.dataset import Dataset, fingerprint, read_dataset, set_aside_too_long
from apportion.scheduler.spec import DatasetSpec
from apportion.types import Message, Messages, Prompt

COLUMNS: dict[str, Any] = {"prompt": "q", "id": "name", "reference": "a"}


def write(path: Path, *lines: bytes | str | Mapping[str, Any]) -> str:
    """A file of lines, given as bytes, text, or an object to be written as JSON."""
    raw = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return str(path)


def read(path: str, **spec: Any) -> Dataset:
    return read_dataset(DatasetSpec(path, **{"prompt": "q", **spec}))


def test_rows_become_prompts_with_ids_and_references(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", {"name": 7, "q": "2+2?", "a": 4, "topic": "sums"})
    dataset = read_dataset(DatasetSpec(path, **COLUMNS))
    assert dataset.prompts == (Prompt("7", (Message("user", "2+2?"),), "4"),)
    assert dataset.set_aside == ()
    assert dataset.rows == 1


def test_a_conversation_is_kept_and_gets_the_system_message_it_lacks(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "go"},
    ]
    own = [{"role": "system", "content": "be rude"}, {"role": "user", "content": "hi"}]
    dataset = read(write(tmp_path / "d.jsonl", {"q": turns}, {"q": own}), system="be kind")
    first, second = dataset.prompts
    assert [m.role for m in first.messages] == ["system", "user", "assistant", "user"]
    assert first.messages[0].content == "be kind"
    assert first.text == "go"
    assert [m.content for m in second.messages] == ["be rude", "hi"]


@pytest.mark.parametrize("parquet", [False, True])
def test_parts_of_text_are_joined_and_a_developer_is_the_system(tmp_path: Path, parquet: bool) -> None:
    """As OpenAI's format has them; what asks for an image is set aside."""
    text, image = [{"type": "text", "text": "How many"}, {"type": "text", "text": "boxes?"}], {"type": "image_url"}
    rows = [
        {
            "q": [
                {"role": "developer", "content": [{"type": "text", "text": "be rude"}]},
                {"role": "user", "content": text},
            ]
        },
        {"q": [{"role": "user", "content": [*text[:1], image]}]},
        {"q": [{"role": "user", "content": text[1:]}]},
    ]
    path = str(tmp_path / "d.parquet") if parquet else write(tmp_path / "d.jsonl", *rows)
    if parquet:
        pq.write_table(pa.Table.from_pylist(rows), path)
    dataset = read(path, system="be kind")
    assert [prompt.messages for prompt in dataset.prompts] == [
        (Message("system", "be rude"), Message("user", "How many\nboxes?")),
        (Message("system", "be kind"), Message("user", "boxes?")),
    ]
    assert [(one.line, "'image_url'" in one.reason) for one in dataset.set_aside] == [(2, True)]


def said(content: Any) -> dict[str, Any]:
    """A row of one message."""
    return {"name": "x", "q": [{"role": "user", "content": content}]}


BAD_ROWS: list[tuple[str, bytes | str | dict[str, Any], str]] = [
    ("broken JSON", '{"name": "x", "q": "hel', "broken JSON: Unterminated string"),
    ("nested too deeply", '{"q":' + "[" * 200_000, "broken JSON: nested too deeply"),
    ("not an object", "[1, 2]", "a row must be an object, not list: [1, 2]; write one object a line"),
    ("not UTF-8", b'{"name": "x", "q": "caf\xe9"}', "not UTF-8: byte 0xe9 at column 24"),
    ("no prompt", {"name": "x"}, "no prompt in column 'q'"),
    ("null prompt", {"name": "x", "q": None}, "no prompt in column 'q'"),
    ("empty prompt", {"name": "x", "q": "  \n"}, "the prompt is empty"),
    ("prompt of a wrong type", {"name": "x", "q": 5}, "the prompt must be text or a list of messages, not int"),
    ("no messages", {"name": "x", "q": []}, "the prompt is an empty list of messages"),
    ("message not an object", {"name": "x", "q": ["hi"]}, "message 1 must be an object with role and content"),
    ("unknown role", {"name": "x", "q": [{"role": "usr", "content": "hi"}]}, "did you mean 'user'?"),
    ("content not text", said(5), "the content of message 1 must be text or a list of text parts, not int"),
    ("no content", said(None), "the content of message 1 must be text or a list of text parts, not NoneType"),
    ("no part", said([1]), "a part of message 1 must be an object with type and text"),
    ("a part of no type", said([{"text": "hi"}]), "a part of message 1 must be an object with type and text"),
    ("a part without text", said([{"type": "text"}]), "a text part of message 1 has no text"),
    ("no parts", said([]), "message 1 is empty"),
    ("blank parts", said([{"type": "text", "text": " "}]), "message 1 is empty"),
    (
        "an image",
        said([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]),
        "message 1 has a part of the type 'image_url', but models are given text only",
    ),
    ("empty message", {"name": "x", "q": [{"role": "user", "content": ""}]}, "message 1 is empty"),
    (
        "answered already",
        {"name": "x", "q": [{"role": "assistant", "content": "a"}]},
        "the last message is from assistant",
    ),
    ("half a surrogate pair", '{"name": "x", "q": "a\\ud800"}', "the prompt is not valid Unicode at character 2"),
    ("no id", {"q": "hi"}, "no id in column 'name'"),
    ("blank id", {"name": " ", "q": "hi"}, "no id in column 'name'"),
    ("id not a scalar", {"name": {"a": 1}, "q": "hi"}, "column 'name' holds a dict"),
    ("reference not a scalar", {"name": "x", "q": "hi", "a": [1]}, "column 'a' holds a list"),
    ("duplicate id", {"name": "first", "q": "again"}, "duplicate id 'first', first on line 1"),
]


@pytest.mark.parametrize(
    ("row", "reason"), [(row, reason) for _, row, reason in BAD_ROWS], ids=[r[0] for r in BAD_ROWS]
)
def test_a_bad_row_is_set_aside_with_its_line_and_reason_and_the_others_are_read(
    tmp_path: Path, row: bytes | str | dict[str, Any], reason: str
) -> None:
    good = {"name": "first", "q": "one", "a": 1}, {"name": "last", "q": "two", "a": 2}
    dataset = read_dataset(DatasetSpec(write(tmp_path / "d.jsonl", good[0], "", row, good[1]), **COLUMNS))
    assert [prompt.id for prompt in dataset.prompts] == ["first", "last"]
    assert dataset.lines == (1, 4)
    (aside,) = dataset.set_aside
    assert aside.line == 3
    assert reason in aside.reason


def test_an_id_that_could_be_read_is_named_with_the_row_set_aside(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", {"name": "good", "q": "hi", "a": 1}, {"name": "bad", "q": ""})
    assert read_dataset(DatasetSpec(path, **COLUMNS)).set_aside[0].id == "bad"


def test_without_an_id_column_a_row_is_named_by_its_line(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "d.jsonl", {"q": "a"}, "", "broken", {"q": "b"}))
    assert [prompt.id for prompt in dataset.prompts] == ["1", "4"]


def test_numbers_and_text_that_read_the_same_are_one_id(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "d.jsonl", {"i": 1, "q": "a"}, {"i": "1", "q": "b"}), id="i")
    assert dataset.set_aside[0].reason == "duplicate id '1', first on line 1"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"prompt": "probelm"},
            "dataset.prompt: no row has a column 'probelm'; did you mean 'problem'? known: id, problem",
        ),
        ({"prompt": "problem", "id": "nr"}, "dataset.id: no row has a column 'nr'; known: id, problem"),
        ({"prompt": "problem", "reference": "answer"}, "dataset.reference: no row has a column 'answer'"),
    ],
)
def test_a_column_that_no_row_has_is_named_with_those_there(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "d.jsonl", {"id": 1, "problem": "a"}, {"id": 2, "problem": "b"})
    with pytest.raises(DataError) as caught:
        read_dataset(DatasetSpec(path, **columns))
    assert message in str(caught.value)


def test_a_column_that_some_rows_lack_is_no_error(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "d.jsonl", {"q": "a"}, {"q": "b", "a": 3}), reference="a")
    assert [prompt.reference for prompt in dataset.prompts] == [None, "3"]


def test_a_dataset_without_a_usable_row_stops_the_job_and_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"q": ""}', "nonsense")
    with pytest.raises(
        DataError, match=r"no usable row among the 2 of .*line 1: the prompt is empty; line 2: broken JSON"
    ):
        read(path)


@pytest.mark.parametrize("content", [b"", b"\n\n \n"])
def test_an_empty_file_stops_the_job(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"has no rows; give at least one prompt"):
        read(str(tmp_path / "d.jsonl"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset .*nope\.jsonl is not there; correct dataset\.path"):
        read(str(tmp_path / "nope.jsonl"))


def test_gzip_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "d.jsonl.gz", "wb") as stream:
        stream.write(b'\xef\xbb\xbf{"q": "caf\xc3\xa9"}\r\n{"q": "b"}')
    assert [prompt.text for prompt in read(str(tmp_path / "d.jsonl.gz")).prompts] == ["café", "b"]


def test_a_gzip_that_breaks_off_is_an_error_not_a_short_dataset(tmp_path: Path) -> None:
    rows = b"".join(b'{"q": "question %d"}\n' % i for i in range(5000))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(rows)[:-200])
    with pytest.raises(DataError, match="is damaged"):
        read(str(tmp_path / "d.jsonl.gz"))


def test_a_url_is_read_as_a_file_is(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://apportion/d.jsonl", "wb") as stream:
        stream.write(b'{"q": "far away"}\n')
    assert read("memory://apportion/d.jsonl").prompts[0].text == "far away"
    with pytest.raises(DataError, match="is not there"):
        read("memory://apportion/nothing.jsonl")
    with pytest.raises(DataError, match="cannot be opened: ValueError: Protocol not known"):
        read("nosuch://host/d.jsonl")


def test_parquet_gives_the_same_prompts_as_jsonl(tmp_path: Path) -> None:
    rows = [{"name": str(i), "q": f"question {i}", "a": i} for i in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    (tmp_path / "d.pq.unnamed").write_bytes((tmp_path / "d.parquet").read_bytes())
    jsonl = read_dataset(DatasetSpec(write(tmp_path / "d.jsonl", *rows), **COLUMNS))
    assert read_dataset(DatasetSpec(str(tmp_path / "d.parquet"), **COLUMNS)) == jsonl
    assert read_dataset(DatasetSpec(str(tmp_path / "d.pq.unnamed"), **COLUMNS)) == jsonl


def test_parquet_conversations_nulls_and_bad_bytes(tmp_path: Path) -> None:
    messages = pa.array([[{"role": "user", "content": "hi"}], None, [{"role": "user", "content": "yo"}]])
    table = pa.table({"q": messages, "a": pa.array([1.0, 2.0, None])})
    pq.write_table(table, tmp_path / "chat.parquet")
    dataset = read(str(tmp_path / "chat.parquet"), reference="a")
    assert [(prompt.text, prompt.reference) for prompt in dataset.prompts] == [("hi", "1.0"), ("yo", None)]
    assert dataset.set_aside[0].line == 2

    broken = pa.array([b"ok", b"caf\xe9", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"q": broken}), tmp_path / "bytes.parquet")
    dataset = read(str(tmp_path / "bytes.parquet"))
    assert [prompt.text for prompt in dataset.prompts] == ["ok", "fine"]
    assert [(row.line, row.reason) for row in dataset.set_aside] == [(2, "not UTF-8: byte 0xe9 at column 4")]


def test_a_file_that_is_not_the_parquet_it_says_is_named(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_text("hello")
    with pytest.raises(DataError, match=r"d\.parquet cannot be read"):
        read(str(tmp_path / "d.parquet"))


def test_rows_in_memory_are_streamed_and_limited() -> None:
    drawn = 0

    def rows() -> Any:
        nonlocal drawn
        for number in range(100):
            drawn += 1
            yield {"q": f"question {number}"}

    dataset = read_dataset(DatasetSpec("<rows>", "q", limit=3), rows())
    assert [prompt.id for prompt in dataset.prompts] == ["1", "2", "3"]
    assert drawn == 3


@pytest.mark.parametrize("rows", ["data.jsonl", {"q": "one row"}, b"x"])
def test_rows_that_are_no_rows_are_refused(rows: Any) -> None:
    with pytest.raises(DataError, match=r"rows are a .*, but must be dicts"):
        read_dataset(DatasetSpec("<rows>", "q"), rows)


def test_rows_of_pandas_and_numpy_are_read_as_pythons_own() -> None:
    import numpy as np
    import pandas as pd

    turns = np.array([{"role": "user", "content": "hi"}], dtype=object)
    parts = np.array([{"type": "text", "text": "six"}], dtype=object)
    rows = [
        {"q": turns, "name": np.int64(1), "a": np.float32("nan")},
        {"q": [{"role": "user", "content": parts}], "name": 6},
        {"q": np.str_("one"), "name": "2", "a": np.int64(4)},
        {"q": "two", "name": "3", "a": pd.NA},
        {"q": "three", "name": "4", "a": pd.NaT},
        {"q": pd.NA, "name": "5", "a": "x"},
        {"q": "four", "name": pd.NA, "a": "x"},
        {"q": "five", "name": "7", "a": np.array(["x"])},
    ]
    dataset = read_dataset(DatasetSpec("", **COLUMNS), rows)
    assert [(prompt.id, prompt.text, prompt.reference) for prompt in dataset.prompts] == [
        ("1", "hi", None),
        ("6", "six", None),
        ("2", "one", "4"),
        ("3", "two", None),
        ("4", "three", None),
    ]
    assert [one.reason for one in dataset.set_aside] == [
        "no prompt in column 'q'",
        "no id in column 'name'",
        "column 'a' holds a list, but must hold text or a number",
    ]


def test_a_blank_reference_is_none(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "d.jsonl", {"q": "a", "a": ""}, {"q": "b", "a": " "}, {"q": "c", "a": "0"}))
    assert [prompt.reference for prompt in dataset.prompts] == [None, None, None]
    dataset = read(str(tmp_path / "d.jsonl"), reference="a")
    assert [prompt.reference for prompt in dataset.prompts] == [None, None, "0"]


def test_a_row_in_memory_that_is_no_dict_is_set_aside() -> None:
    dataset = read_dataset(DatasetSpec("<rows>", "q"), [{"q": "a"}, "b"])
    assert [(row.line, row.reason) for row in dataset.set_aside] == [(2, "a row must be a dict, not str")]


PROMPTS = st.lists(
    st.builds(
        Prompt,
        st.text(max_size=4),
        st.lists(st.builds(Message, st.sampled_from(["user", "system"]), st.text(max_size=4)), max_size=3).map(tuple),
    ),
    max_size=4,
)


@given(PROMPTS, PROMPTS)
def test_the_fingerprint_tells_any_two_datasets_apart(left: list[Prompt], right: list[Prompt]) -> None:
    assert (fingerprint(left) == fingerprint(right)) == (left == right)


def fake(context: int) -> Any:
    return describe(ModelSpec("m", "fake", Role.POLICY, "x", engine_args={"max_model_len": context}))


def test_a_prompt_longer_than_the_context_of_any_policy_is_set_aside(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "d.jsonl", {"q": "short"}, "nonsense", {"q": "long " * 60}))
    wide, narrow = fake(4096), fake(40)
    assert set_aside_too_long(dataset, {"wide": wide}) == dataset
    fitting = set_aside_too_long(dataset, {"wide": wide, "narrow": narrow})
    assert [prompt.text for prompt in fitting.prompts] == ["short"]
    assert [row.line for row in fitting.set_aside] == [2, 3]
    assert fitting.set_aside[1].reason.startswith("longer than the context of narrow: ")
    assert fitting.set_aside[1].reason.endswith("tokens and one of a response, of 40")
    assert fitting.fingerprint == dataset.fingerprint


def test_a_scorer_must_fit_the_conversation_too(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "d.jsonl", {"q": "short"}, {"q": "long " * 60}))
    scorer = describe(ModelSpec("prm", "fake", Role.SCORER, "x", engine_args={"max_model_len": 40}))
    fitting = set_aside_too_long(dataset, {"small": fake(4096), "prm": scorer})
    assert [prompt.text for prompt in fitting.prompts] == ["short"]
    assert fitting.set_aside[0].reason.startswith("longer than the context of prm: ")


def test_a_conversation_that_a_template_refuses_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    class Strict:
        def profile(self) -> Any:
            return fake(4096).profile()

        def count_prompt(self, messages: Messages) -> int:
            if messages[0].role == "system":
                raise ModelError("the chat template takes no system message")
            return 3

        def count_text(self, text: str) -> int:
            return 1

    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "go"}]
    dataset = read(write(tmp_path / "d.jsonl", {"q": "fine"}, {"q": turns}))
    fitting = set_aside_too_long(dataset, {"prm": Strict()})
    assert [prompt.text for prompt in fitting.prompts] == ["fine"]
    reason = "prm cannot read the conversation: the chat template takes no system message"
    assert [(row.line, row.reason) for row in fitting.set_aside] == [(2, reason)]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("memory://me:hunter2@store/gone.jsonl?key=s3cr3t&v", "memory://***@store/gone.jsonl?key=***&***"),
        ("nothere://a:hunter2@b/d.jsonl.gz?sig=s3cr3t", "nothere://***@b/d.jsonl.gz?sig=***"),
        ("nothere://a:hunter2/s3cr3t@b/d.jsonl", "nothere://***@b/d.jsonl"),
    ],
)
def test_secrets_of_a_url_are_not_told(path: str, shown: str) -> None:
    with pytest.raises(DataError) as caught:
        read(path)
    assert shown in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_one_token_must_be_left_to_answer(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "d.jsonl", {"q": "some words to read"}))
    tokens = fake(4096).count_prompt(dataset.prompts[0].messages)
    assert set_aside_too_long(dataset, {"m": fake(tokens + 1)}).prompts == dataset.prompts
    with pytest.raises(DataError, match=r"no usable row among the 1 of the dataset: line 1: longer than the context"):
        set_aside_too_long(dataset, {"m": fake(tokens)})


def test_a_folder_and_a_glob_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "part" / "deep").mkdir(parents=True)
    write(tmp_path / "part" / "a.jsonl", {"q": "one"}, "", "{")
    pq.write_table(pa.table({"q": ["two", None, "three"]}), tmp_path / "part" / "b.parquet")
    write(tmp_path / "part" / "deep" / "c.jsonl", {"q": "four"})
    write(tmp_path / "part" / "_SUCCESS", "")
    whole = read(str(tmp_path / "part"))
    assert [prompt.text for prompt in whole.prompts] == ["one", "two", "three", "four"]
    # Lines are counted through the files, so that rows without an id have names of their own.
    assert [prompt.id for prompt in whole.prompts] == ["1", "4", "6", "7"]
    assert [one.line for one in whole.set_aside] == [3, 5]
    assert [prompt.text for prompt in read(str(tmp_path / "part" / "*.jsonl")).prompts] == ["one"]
    assert read(str(tmp_path / "part" / "**" / "*.*")).fingerprint == whole.fingerprint
    assert read(f"file://{tmp_path}/part/").fingerprint == whole.fingerprint
    assert read(f"file://{tmp_path}/part/*.parquet", limit=1).prompts[0].text == "two"
    with pytest.raises(DataError, match="holds no JSONL or Parquet file"):
        read(str(tmp_path / "part" / "*.csv"))


def test_parquet_is_read_from_a_url() -> None:
    import fsspec

    with fsspec.open("memory://apportion/d.parquet", "wb") as stream:
        pq.write_table(pa.table({"q": ["far", "away"]}), stream)
    assert [prompt.text for prompt in read("memory://apportion/d.parquet").prompts] == ["far", "away"]
