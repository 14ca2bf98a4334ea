"""The tables of a run directory, in Parquet: every candidate, streamed while the job runs, and the results at its end.

The schemas are written out, so that a column holds the same type whatever the values of one job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from apportion.costs import Unit
from apportion.scheduler.plain import plain
from apportion.scheduler.results import PromptResult
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
    ]
)


def candidate_row(candidate: Candidate, correct: bool | None) -> dict[str, Any]:
    """One candidate as a row of candidates.parquet."""
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
    }


class CandidateWriter:
    """Writes candidates beside `path` as they come, and puts the file in place by `finish`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = path.with_name(path.name + ".tmp")
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def add(self, candidates: Sequence[Candidate], correct: Sequence[bool | None]) -> None:
        """One prompt's candidates."""
        self._rows.extend(plain(candidate_row(one, right)) for one, right in zip(candidates, correct, strict=True))
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
    beside = path.with_name(path.name + ".tmp")
    rows = [plain(result.as_row()) for result in results]
    pq.write_table(pa.Table.from_pylist(rows, schema=RESULT_SCHEMA), beside)
    beside.replace(path)
