"""The tables of a run directory, in Parquet: every candidate, streamed while the job runs, and the results at its end.

The schemas are written out, so that a column holds the same type whatever the values of one job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from apportion.costs import Unit
from apportion.scheduler.plain import plain
from apportion.scheduler.results import Committed, PromptResult
from apportion.types import Candidate

ROWS_A_GROUP = 20_000
"""Candidates held before they are written: some 20 MB of text, and row groups large enough to read quickly."""

CANDIDATE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("arm", pa.string()),
        ("purchase", pa.int32()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("tokens", pa.int64()),
        ("score", pa.float64()),
        ("step_scores", pa.list_(pa.float64())),
        ("mean_logprob", pa.float64()),
        ("self_certainty", pa.float64()),
        ("finish", pa.string()),
        ("text", pa.string()),
        ("weight", pa.float64()),
        ("n", pa.int32()),
        ("cost_tokens", pa.float64()),
        ("cost_flops", pa.float64()),
        ("cost_gpu_seconds", pa.float64()),
        ("cost_usd", pa.float64()),
        ("accepted", pa.bool_()),
        ("group", pa.int32()),
        ("cut", pa.bool_()),
    ]
)

RESULT_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("confidence", pa.float64()),
        ("difficulty", pa.float64()),
        ("response", pa.string()),
        ("candidates", pa.int32()),
        ("purchases", pa.list_(pa.struct([("arm", pa.string()), ("n", pa.int32())]))),
        ("spent", pa.struct([(unit.value, pa.float64()) for unit in Unit])),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("accepted", pa.list_(pa.int32())),
        ("rejected", pa.list_(pa.int32())),
    ]
)


def candidate_rows(committed: Committed, correct: Sequence[bool | None]) -> list[dict[str, Any]]:
    """One prompt's candidates as rows of candidates.parquet; `n` is what their purchase was of, and a candidate's cost
    an equal share of all that its purchase cost, prompt, verifier and branches given up included. `cut` is whether that
    was cut off, so that a candidate may be the beginning of one. `accepted` is null where the objective does not count
    candidates, and of one whose text an earlier candidate has."""
    size = Counter(candidate.purchase for candidate in committed.candidates)
    accepted = committed.result.accepted
    rows = []
    for candidate, right in zip(committed.candidates, correct, strict=True):
        row, at = candidate_row(candidate, right), candidate.purchase
        row["n"] = committed.result.purchases[at].n
        row["accepted"] = None if accepted is None or candidate.repeats else candidate.index in accepted
        row["cut"] = at < len(committed.ended) and committed.ended[at].cut
        if at < len(committed.ended):
            cost, share = committed.ended[at].cost, 1.0 / size[at]
            row["cost_tokens"], row["cost_flops"] = cost.tokens * share, cost.flops * share
            row["cost_gpu_seconds"], row["cost_usd"] = cost.gpu_seconds * share, cost.dollars * share
        rows.append(row)
    return rows


def candidate_row(candidate: Candidate, correct: bool | None) -> dict[str, Any]:
    """What a candidate says of itself."""
    draft, stats = candidate.draft, candidate.draft.stats
    return {
        "prompt_id": candidate.prompt_id,
        "index": candidate.index,
        "arm": candidate.arm,
        "purchase": candidate.purchase,
        "answer": candidate.answer,
        "correct": correct,
        "tokens": draft.tokens,
        "score": candidate.score,
        "step_scores": list(draft.step_scores) if draft.step_scores is not None else None,
        "mean_logprob": stats.mean_logprob if stats is not None else None,
        "self_certainty": stats.self_certainty if stats is not None else None,
        "finish": draft.finish.value,
        "text": draft.text,
        "weight": draft.weight,
        "group": draft.group,
    }


class CandidateWriter:
    """Writes candidates beside `path` as they come, and puts the file in place by `finish`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = path.with_name(path.name + ".tmp")
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def add(self, committed: Committed, correct: Sequence[bool | None]) -> None:
        """One prompt's candidates; `correct` is of each."""
        self._rows.extend(map(plain, candidate_rows(committed, correct)))
        if len(self._rows) >= ROWS_A_GROUP:
            self._write()

    def finish(self) -> None:
        """Put the whole file in place; it is there even where there was no candidate."""
        self._write()
        self._writer.close()
        self._writer = None
        self._beside.replace(self._path)

    def close(self) -> None:
        """Stop writing; what was not finished is taken away, since a resumed job writes it again."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._beside.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._beside, CANDIDATE_SCHEMA)
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=CANDIDATE_SCHEMA))
        self._rows.clear()


def write_results(path: Path, results: Iterable[PromptResult]) -> None:
    """results.parquet, in the order given."""
    rows = [plain(result.as_row()) for result in results]
    write_table(path, pa.Table.from_pylist(rows, schema=RESULT_SCHEMA))


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet so that a reader sees the old file or the new one, never a part."""
    beside = path.with_name(path.name + ".tmp")
    pq.write_table(table, beside)
    beside.replace(path)
