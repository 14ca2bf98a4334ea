"""Record a pool: `python -m apportion.lab.record_pool test --arm small=256 --arm large=32 [--work FOLDER]`.

Every sample of every prompt with its answer, whether it is right, its tokens and the reward model's scores. Finished
chunks are kept in the work folder and not drawn again; a chunk's samples depend on the model, its prompts and its
seed alone. An unparsed answer is null and wrong.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.models import SAMPLING_TEMPERATURE
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm import split_steps
from apportion.lab.sampling import CHUNK_PROMPTS, Completion, complete
from apportion.lab.scoring import PoolScorer

ANSWER: Final = re.compile(r"Answer: (-?[0-9]+)")
SCORE_DIGITS: Final = 3
# The pool is shipped; more digits would triple its size and rank nothing better.

CANDIDATES: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("arm", pa.string()),
        ("index", pa.int32()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("tokens", pa.int32()),
        ("score", pa.float32()),
        ("score_min", pa.float32()),
        ("score_mean", pa.float32()),
    ]
)

Row = dict[str, str | int | bool | float | None]


def read_rows(path: Path) -> list[dict[str, str]]:
    """A lab dataset."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def parse_answer(text: str) -> str | None:
    """The number on the completion's last line, in canonical digits."""
    lines = split_steps(text)
    match = ANSWER.fullmatch(lines[-1].strip()) if lines else None
    return str(int(match.group(1))) if match else None


def candidate_rows(arm: str, prompt: dict[str, str], drawn: list[Completion], scorer: PoolScorer) -> list[Row]:
    """One prompt's rows of the pool; a completion without a step scores zero."""
    steps = [split_steps(done.text) for done in drawn]
    scored = iter(scorer.score(prompt["problem"], [one for one in steps if one]))
    rows: list[Row] = []
    for place, (done, one) in enumerate(zip(drawn, steps, strict=True)):
        answer = parse_answer(done.text) if done.finished else None
        scores = next(scored) if one else [0.0]
        rows.append(
            {
                "prompt_id": prompt["id"],
                "arm": arm,
                "index": place,
                "answer": answer,
                "correct": answer == prompt["answer"],
                "tokens": done.tokens,
                "score": round(scores[-1], SCORE_DIGITS),
                "score_min": round(min(scores), SCORE_DIGITS),
                "score_mean": round(sum(scores) / len(scores), SCORE_DIGITS),
            }
        )
    return rows


def record_arm(
    arm: str, samples: int, prompts: list[dict[str, str]], work: Path, tokenizer: Tokenizer, scorer: PoolScorer
) -> pa.Table:
    """All candidates of one arm, chunk by chunk."""
    network = Network.load(lab_path(f"lab:{arm}"))
    ordered = sorted(prompts, key=lambda row: (len(row["problem"]), row["id"]))
    tables: list[pa.Table] = []
    begun, drawn_tokens = time.monotonic(), 0
    work.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(ordered), CHUNK_PROMPTS):
        part = work / f"{arm}-{samples}-{start:05d}.parquet"
        if not part.exists():
            chunk = ordered[start : start + CHUNK_PROMPTS]
            problems = [row["problem"] for row in chunk]
            completions = complete(network, tokenizer, problems, samples, SAMPLING_TEMPERATURE, seed=start)
            rows = [
                row
                for prompt, drawn in zip(chunk, completions, strict=True)
                for row in candidate_rows(arm, prompt, drawn, scorer)
            ]
            table = pa.Table.from_pylist(rows, schema=CANDIDATES)
            pq.write_table(table, part.with_suffix(".part"))
            part.with_suffix(".part").rename(part)
            drawn_tokens += sum(done.tokens for rows in completions for done in rows)
            rate = drawn_tokens / (time.monotonic() - begun)
            print(f"{arm} {start + len(chunk)}/{len(ordered)} {rate:.0f} tokens/s", flush=True)
        tables.append(pq.read_table(part))
    return pa.concat_tables(tables)


def write_pool(folder: Path, prompts: list[dict[str, str]], candidates: pa.Table) -> None:
    """prompts.parquet and candidates.parquet, in order of arm, prompt and index."""
    folder.mkdir(parents=True, exist_ok=True)
    described = pa.table(
        {
            "prompt_id": [row["id"] for row in prompts],
            "text": [row["problem"] for row in prompts],
            "reference": [row["answer"] for row in prompts],
        }
    )
    ordered = candidates.sort_by([("arm", "descending"), ("prompt_id", "ascending"), ("index", "ascending")])
    for name, table in (("prompts", described), ("candidates", ordered)):
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", compression_level=19, use_dictionary=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", choices=["test", "calibration"])
    parser.add_argument("--arm", action="append", required=True, metavar="MODEL=SAMPLES")
    parser.add_argument("--work", type=Path, default=Path("lab-work"), help="folder for finished chunks")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = read_rows(lab_path(f"lab:{arguments.split}"))
    scorer = PoolScorer(lab_path("lab:prm"))
    tokenizer = lab_tokenizer.build()
    work = arguments.work / "pools" / arguments.split
    tables = []
    for arm, samples in (given.split("=") for given in arguments.arm):
        tables.append(record_arm(arm, int(samples), prompts, work, tokenizer, scorer))
    write_pool(lab_path(f"lab:pool/{arguments.split}"), prompts, pa.concat_tables(tables))


if __name__ == "__main__":
    main()
