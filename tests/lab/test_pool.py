"""The recorded pools: complete, consistent with the data, and of the difficulty the lab promises."""

from collections import Counter

import pyarrow.parquet as pq
import pytest

from apportion.lab.paths import lab_path
from apportion.lab.record_pool import CANDIDATES, parse_answer, read_rows
from apportion.lab.spread import pass_rates, spread

SMALL_SAMPLES = 256
LEAST_LARGE_SAMPLES = 32


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1 + 1 = 2\nAnswer: 2", "2"),
        ("Answer: 007", "7"),
        ("Answer: 2\n1 + 1 = 2", None),
        ("Answer: ", None),
        ("Answer: 2 2", None),
        ("", None),
    ],
)
def test_parse_answer(text: str, answer: str | None) -> None:
    assert parse_answer(text) == answer


@pytest.mark.parametrize("split", ["test", "calibration"])
def test_pool_agrees_with_its_dataset(split: str) -> None:
    pool, rows = lab_path(f"lab:pool/{split}"), read_rows(lab_path(f"lab:{split}"))
    prompts = pq.read_table(pool / "prompts.parquet").to_pylist()
    assert prompts == [{"prompt_id": row["id"], "text": row["problem"], "reference": row["answer"]} for row in rows]
    candidates = pq.read_table(pool / "candidates.parquet")
    assert candidates.schema.equals(CANDIDATES)
    reference = {row["id"]: row["answer"] for row in rows}
    columns = (candidates.column(name).to_pylist() for name in ("prompt_id", "answer", "correct", "tokens", "score"))
    for prompt_id, answer, correct, tokens, score in zip(*columns, strict=True):
        assert correct == (answer is not None and answer == reference[prompt_id])
        assert tokens > 0
        assert 0 <= score <= 1


def test_every_prompt_has_all_its_samples() -> None:
    table = pq.read_table(lab_path("lab:pool/test") / "candidates.parquet", columns=["prompt_id", "arm"])
    counts = Counter(zip(table.column("arm").to_pylist(), table.column("prompt_id").to_pylist(), strict=True))
    assert {counts[key] for key in counts if key[0] == "small"} == {SMALL_SAMPLES}
    large = {counts[key] for key in counts if key[0] == "large"}
    assert len(large) == 1
    assert large.pop() >= LEAST_LARGE_SAMPLES
    assert len(counts) == 2000


def test_required_spread() -> None:
    pool = lab_path("lab:pool/test")
    small = spread(pass_rates(pool, "small"))
    assert small.high >= 0.25
    assert small.middle >= 0.25
    assert small.low >= 0.15
    assert small.zero <= 0.10
    assert spread(pass_rates(pool, "large")).zero <= 0.10


def test_large_is_clearly_better() -> None:
    pool = lab_path("lab:pool/test")
    means = {arm: sum(rates.values()) / len(rates) for arm in ("small", "large") if (rates := pass_rates(pool, arm))}
    assert means["large"] > means["small"] + 0.1
