"""Fit a policy on labelled pools: `python -m apportion.difficulty.fit POOL... -o policy.json`.

A pool is a folder with prompts.parquet (prompt_id, text) and candidates.parquet (prompt_id, arm, index, answer,
correct, tokens, score). The reference arm is the one with the most candidates; of equals, the first by name.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import CONCENTRATIONS, World, base_prior, believe, collisions
from apportion.difficulty.evidence import Evidence
from apportion.difficulty.fitted import FittedArm, FittedPolicy
from apportion.difficulty.grid import LOGIT, PASS, score_logit
from apportion.difficulty.learn import LIFT_GRID, weights_of
from apportion.difficulty.prior import PSEUDO_PROMPTS, smooth
from apportion.difficulty.race import Weights
from apportion.difficulty.scores import Calibration, fit_scores
from apportion.difficulty.text import fit_text
from apportion.errors import ApportionError, DataError
from apportion.types import Candidate, Draft, Finish

Floats = NDArray[np.float64]

EM_STEPS = 60
FEWEST_SCORES = 50
FIRST_FEW = 8
"""Candidates of each prompt on which the caution is chosen: about what a prompt has when a purchase is decided."""
CAUTIONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
NEEDED = ("prompt_id", "arm", "answer", "correct")


@dataclass(slots=True)
class _Tally:
    """One arm's candidates of one prompt."""

    right: int = 0
    tried: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    unparsed: int = 0
    scores: list[tuple[float, bool]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    """the answer of each score; right ones are all called the same"""


@dataclass(slots=True)
class _Pools:
    texts: dict[str, str] = field(default_factory=dict)
    tallies: dict[str, dict[str, _Tally]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(_Tally)))
    tokens: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    candidates: int = 0


def fit_pool(folders: Sequence[str | Path]) -> FittedPolicy:
    """A policy from labelled pools. Raises DataError for a folder that is no pool or has no labels."""
    pools = _Pools()
    for folder in folders:
        _read(Path(folder), pools)
    if not pools.tallies:
        raise DataError(f"no labelled candidates in {', '.join(map(str, folders))}; `correct` must not be null")
    counts = {arm: sum(t.tried for t in by.values()) for arm, by in pools.tallies.items()}
    reference = min(counts, key=lambda arm: (-counts[arm], arm))
    own = pools.tallies[reference]
    ids = sorted(own)
    right = np.array([own[i].right for i in ids], dtype=np.float64)
    tried = np.array([own[i].tried for i in ids], dtype=np.float64)
    prior, posterior = _fit_prior([own[i] for i in ids], right, tried)
    over_pass = prior.sum(axis=1)
    texts = [pools.texts.get(i) or "" for i in ids]
    text, with_text, without = fit_text(texts, right, tried, over_pass) if any(texts) else (None, 0.0, 0.0)
    place = {i: at for at, i in enumerate(ids)}
    arms = {}
    for arm in sorted(pools.tallies):
        by = pools.tallies[arm]
        shared = [i for i in sorted(by) if i in place]
        lift = 0.0 if arm == reference else _lift([by[i] for i in shared], posterior[[place[i] for i in shared]])
        passed = sum(t.right for t in by.values()) / counts[arm]
        length = float(np.mean(pools.tokens[arm])) if pools.tokens[arm] else None
        arms[arm] = FittedArm(lift, passed, counts[arm], length)
    calibration, weights = _scores([own[i] for i in ids], posterior)
    if calibration is not None:
        calibration = _careful([own[i] for i in ids], prior, calibration)
    wrong = sum(t.tried - t.right for t in own.values())
    return FittedPolicy(
        reference=reference,
        arms=arms,
        prior=tuple(map(tuple, prior.tolist())),
        unparsed=(sum(t.unparsed for t in own.values()) + 1.0) / (wrong + 20.0),
        calibration=calibration,
        weights=weights,
        text=text,
        fitted_on={"pools": [Path(f).name for f in folders], "prompts": len(ids), "candidates": pools.candidates},
        error={"log_likelihood_prior": without, "log_likelihood_text": with_text} if any(texts) else {},
    )


def _read(folder: Path, pools: _Pools) -> None:
    import pyarrow.parquet as pq

    path = folder / "candidates.parquet"
    if not path.is_file():
        raise DataError(f"{folder} is no pool: it has no candidates.parquet; give a folder that holds one")
    table = pq.read_table(path)
    lacking = [name for name in NEEDED if name not in table.column_names]
    if lacking:
        raise DataError(f"{path} lacks the columns {', '.join(lacking)}; a pool to fit on needs {', '.join(NEEDED)}")
    columns: dict[str, list[Any]] = table.to_pydict()
    size = table.num_rows
    blank: list[Any] = [None] * size
    scores, tokens = columns.get("score", blank), columns.get("tokens", blank)
    for at in range(size):
        if columns["correct"][at] is None:
            continue
        prompt = f"{folder.name}/{columns['prompt_id'][at]}"
        arm, answer, correct = str(columns["arm"][at]), columns["answer"][at], bool(columns["correct"][at])
        tally = pools.tallies[arm][prompt]
        tally.tried += 1
        tally.right += correct
        if not correct and answer is None:
            tally.unparsed += 1
        elif not correct:
            tally.wrong[str(answer)] += 1
        if tokens[at] is not None:
            pools.tokens[arm].append(float(tokens[at]))
        if scores[at] is not None and answer is not None:
            tally.scores.append((float(scores[at]), correct))
            tally.answers.append("right" if correct else f"wrong {answer}")
        pools.candidates += 1
    prompts = folder / "prompts.parquet"
    if prompts.is_file():
        texts = pq.read_table(prompts, columns=["prompt_id", "text"]).to_pydict()
        for prompt, text in zip(texts["prompt_id"], texts["text"], strict=True):
            pools.texts[f"{folder.name}/{prompt}"] = text or ""


def _fit_prior(tallies: Sequence[_Tally], right: Floats, tried: Floats) -> tuple[Floats, Floats]:
    """The prior over p and concentration, and each prompt's posterior over p, [prompts, POINTS]."""
    log = right[:, None] * np.log(PASS) + (tried - right)[:, None] * np.log1p(-PASS)
    like = np.exp(log - log.max(axis=1, keepdims=True))
    table = np.empty((len(tallies), len(CONCENTRATIONS)))
    for at, tally in enumerate(tallies):
        # All wrong answers' sizes, and no hypothesis taken out: the last column of `collisions`.
        sizes = np.array([list(tally.wrong.values()) or [0]], dtype=np.float64)
        table[at] = collisions(sizes)[0, -1]
    table = np.exp(table - table.max(axis=1, keepdims=True))
    base = base_prior()
    prior = base
    cells = like[:, :, None] * table[:, None, :]
    for _ in range(EM_STEPS):
        share = cells * prior
        share /= share.sum(axis=(1, 2), keepdims=True)
        prior = smooth(share.sum(axis=0)) + PSEUDO_PROMPTS * base
        prior /= prior.sum()
    share = cells * prior
    share /= share.sum(axis=(1, 2), keepdims=True)
    return prior, np.asarray(share.sum(axis=2))


def _lift(tallies: Sequence[_Tally], posterior: Floats) -> float:
    """The lift that best explains another arm's results, in logits; 0 where it shares no prompts."""
    if not tallies:
        return 0.0
    right = np.array([t.right for t in tallies], dtype=np.float64)
    wrong = np.array([t.tried - t.right for t in tallies], dtype=np.float64)
    rate = LOGIT[None, :] + LIFT_GRID[:, None]
    log = (right @ posterior) @ -np.logaddexp(0.0, -rate).T + (wrong @ posterior) @ -np.logaddexp(0.0, rate).T
    return float(LIFT_GRID[int(np.argmax(log - 0.5 * (LIFT_GRID / 2.0) ** 2))])


def _scores(tallies: Sequence[_Tally], posterior: Floats) -> tuple[Calibration | None, Weights | None]:
    """How scores tell right from wrong within a prompt and prompts apart; None where there are too few."""
    each = [np.array(tally.scores, dtype=np.float64).reshape(-1, 2) for tally in tallies]
    if sum(map(len, each)) < FEWEST_SCORES or not any(0 < part[:, 1].sum() < len(part) for part in each):
        return None, None
    logits = [np.array([score_logit(score) for score in part[:, 0]]) for part in each]
    means = [float(part[:, 0].mean()) or 1e-6 if len(part) else 1.0 for part in each]
    relative = [part[:, 0] / mean for part, mean in zip(each, means, strict=True)]
    own = np.array([[part[:, 1].sum()] for part in each])
    found = []
    for values, passing in ((logits, posterior @ LOGIT), (relative, None)):
        sums = np.array([[value @ part[:, 1]] for value, part in zip(values, each, strict=True)])
        total = np.array([[len(value), value.sum()] for value in values], dtype=np.float64)
        squares = np.array([value @ value for value in values])
        kin = np.array([_left_within(value, tally) for value, tally in zip(values, tallies, strict=True)])
        found.append(fit_scores(np.ones_like(own), own, sums, total, squares, kin, passing, Calibration()))
    return found[0], weights_of(found[1])


def _left_within(values: Floats, tally: _Tally) -> tuple[float, float]:
    """Sum of squares of scores around their answer's mean, and its degrees of freedom."""
    groups: dict[str, list[float]] = {}
    for value, answer in zip(values.tolist(), tally.answers, strict=True):
        groups.setdefault(answer, []).append(value)
    left = sum(float(np.var(group)) * len(group) for group in groups.values())
    return left, float(len(values) - len(groups))


def _careful(tallies: Sequence[_Tally], prior: Floats, found: Calibration) -> Calibration:
    """`found` with the caution under which the first few candidates of each prompt best tell their right answer."""
    evidence = Evidence(len(tallies), 1)
    truth = np.full(len(tallies), -1)
    for prompt, tally in enumerate(tallies):
        order: list[str] = []
        for answer, (score, correct) in list(zip(tally.answers, tally.scores, strict=True))[:FIRST_FEW]:
            evidence.add(prompt, 0, [Candidate("", 0, "", 0, Draft("", (), 1, Finish.END), answer, score)])
            if answer not in order:
                order.append(answer)
            if correct:
                truth[prompt] = order.index(answer)
    rows = evidence.rows(slice(0, len(tallies)))
    likelihood = {}
    for caution in CAUTIONS:
        trial = replace(found, caution=caution)
        right = believe(rows, World(np.zeros(1), prior, trial)).right
        likelihood[caution] = float(np.log(np.maximum(right[np.arange(len(truth)), truth], 1e-12)).sum())
    return replace(found, caution=max(CAUTIONS, key=lambda caution: (likelihood[caution], caution)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m apportion.difficulty.fit", description=__doc__)
    parser.add_argument("pools", nargs="+", help="folders with prompts.parquet and candidates.parquet")
    parser.add_argument("-o", "--output", required=True, help="the JSON file to write")
    given = parser.parse_args(arguments)
    try:
        policy = fit_pool(given.pools)
        policy.save(Path(given.output))
    except (ApportionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = "text tells nothing" if policy.text is None else f"a text is worth {policy.text.strength:g} samples"
    print(f"{given.output}: {policy.fitted_on['prompts']} prompts, {len(policy.arms)} arms; {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
