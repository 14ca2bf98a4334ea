"""Record a pool: `python -m apportion.lab.record_pool test --arm small=256 --arm large=32 [--work FOLDER]`.

Every sample of every prompt with its answer, whether it is right, its tokens and the reward model's scores. Finished
chunks of samples are kept in the work folder and not drawn again; they depend on the model, the prompts and the seed
alone. An unparsed answer is null and wrong.
"""

import argparse
import json
import re
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
from apportion.lab.runs import WEIGHTS, origin
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


def drawn_chunk(
    cache: Path, network: Network, tokenizer: Tokenizer, problems: list[str], samples: int, seed: int
) -> list[list[Completion]]:
    """A chunk's completions, drawn once and kept: each prompt's distinct ones, and which of them each sample is."""
    if cache.exists():
        kept = json.loads(cache.read_text())
        return [[Completion(*distinct[place]) for place in places] for distinct, places in kept]
    completions = complete(network, tokenizer, problems, samples, SAMPLING_TEMPERATURE, seed)
    kept = []
    for drawn in completions:
        distinct = list(dict.fromkeys(drawn))
        place_of = {done: place for place, done in enumerate(distinct)}
        kept.append(
            [[(done.text, done.tokens, done.finished) for done in distinct], [place_of[done] for done in drawn]]
        )
    cache.with_suffix(".part").write_text(json.dumps(kept))
    cache.with_suffix(".part").rename(cache)
    return completions


def record_arm(
    arm: str, samples: int, prompts: list[dict[str, str]], work: Path, tokenizer: Tokenizer, scorer: PoolScorer | None
) -> pa.Table:
    """All candidates of one arm, chunk by chunk; without a scorer they are only drawn into the work folder."""
    folder = lab_path(f"lab:{arm}")
    network = Network.load(folder)
    ordered = sorted(prompts, key=lambda row: (len(row["problem"]), row["id"]))
    tables: list[pa.Table] = []
    work.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(ordered), CHUNK_PROMPTS):
        chunk = ordered[start : start + CHUNK_PROMPTS]
        problems = [row["problem"] for row in chunk]
        made_from = origin(folder / WEIGHTS, problems, SAMPLING_TEMPERATURE)
        cache = work / f"{arm}-{samples}-{start:05d}-{made_from}.json"
        completions = drawn_chunk(cache, network, tokenizer, problems, samples, seed=start)
        if scorer is not None:
            rows = [
                row
                for prompt, drawn in zip(chunk, completions, strict=True)
                for row in candidate_rows(arm, prompt, drawn, scorer)
            ]
            tables.append(pa.Table.from_pylist(rows, schema=CANDIDATES))
        print(f"{arm} {start + len(chunk)}/{len(ordered)}", flush=True)
    return pa.concat_tables(tables) if tables else CANDIDATES.empty_table()


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
    parser.add_argument("--draw-only", action="store_true", help="draw into the work folder; score and write later")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = read_rows(lab_path(f"lab:{arguments.split}"))
    scorer = None if arguments.draw_only else PoolScorer(lab_path("lab:prm"))
    tokenizer = lab_tokenizer.build()
    work = arguments.work / "pools" / arguments.split
    tables = []
    for arm, samples in (given.split("=") for given in arguments.arm):
        tables.append(record_arm(arm, int(samples), prompts, work, tokenizer, scorer))
    if scorer is not None:
        write_pool(lab_path(f"lab:pool/{arguments.split}"), prompts, pa.concat_tables(tables))


if __name__ == "__main__":
    main()
