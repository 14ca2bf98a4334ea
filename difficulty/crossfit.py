"""How well a policy predicts prompts it was not fitted on: fitted on one half, scored on the other, and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import World, believe
from apportion.difficulty.evidence import Rows
from apportion.difficulty.fit import fit, fit_beliefs
from apportion.difficulty.fiterror import ArmError, LeadingError
from apportion.difficulty.fitted import FittedPolicy
from apportion.difficulty.pools import Deck, Ints, Pool
from apportion.difficulty.scores import Calibration
from apportion.difficulty.tallies import first, hits, opening
from apportion.difficulty.together import together

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

AFTER = (1, 4, 16)
"""Candidates after which predictions are scored."""
FEWEST_PROMPTS = 20
"""With fewer prompts in a half its error is noise, and there is little to fit on in the other."""
BLOCK = 2048
"""Prompts believed about at a time, so that arrays stay small whatever the pool."""
SURE = 1e-6
"""Probabilities are kept this far from 0 and 1 in the log loss: one surprise must not be infinite."""


def fit_with_error(pools: Sequence[Pool], seed: int = 0) -> FittedPolicy:
    """`fit`, with the two-fold error over prompts of every arm. Fewer than 40 prompts have none. Raises DataError."""
    pool = together(pools)
    policy = fit([pool])
    policy = replace(policy, fitted_on={**policy.fitted_on, "pools": [one.name for one in pools]})
    parts = halves(len(pool.ids), seed)
    if min(map(len, parts)) < FEWEST_PROMPTS:
        return policy
    fitted = [fit_beliefs(pool.part(part), [pool.name]) for part in parts]
    tests = [
        (fitted[1], pool.part(parts[0]), pool.part(parts[1])),
        (fitted[0], pool.part(parts[1]), pool.part(parts[0])),
    ]
    arms = {arm: _arm_error(arm, tests) for arm in policy.arms}
    return replace(policy, error=replace(policy.error, arms=arms)).rounded()


def halves(prompts: int, seed: int) -> tuple[Ints, Ints]:
    """Prompts in two random halves, each in ascending order."""
    order = np.random.default_rng(seed).permutation(prompts)
    return np.sort(order[: prompts // 2]), np.sort(order[prompts // 2 :])


Test = tuple[FittedPolicy, Pool, Pool]
"""A policy, prompts it does not know, and those it was fitted on."""


def _arm_error(arm: str, tests: Sequence[Test]) -> ArmError:
    leading = []
    for after in AFTER:
        parts = [_predict(policy, held, fitted, arm, after) for policy, held, fitted in tests]
        said, guess, truth = (np.concatenate([part[at] for part in parts]) for at in range(3))
        if len(truth) >= FEWEST_PROMPTS:
            leading.append(
                LeadingError(
                    after,
                    len(truth),
                    _brier(said, truth),
                    _brier(guess, truth),
                    _loss(said, truth),
                    _loss(guess, truth),
                )
            )
    ranks = [_rank_correlation(policy, held, arm) for policy, held, _ in tests]
    known = [rank for rank in ranks if rank is not None]
    return ArmError(float(np.mean(known)) if known else None, tuple(leading))


def _predict(policy: FittedPolicy, held: Pool, fitted: Pool, arm: str, after: int) -> tuple[Floats, Floats, Floats]:
    """What is said of the leading answers of held prompts, the constant guess, and whether they were right."""
    lift = policy.arms[arm].lift if arm in policy.arms else 0.0
    world = World(
        np.array([lift]), np.array(policy.prior), policy.calibration or Calibration(), min(policy.unparsed, 0.9)
    )
    deck = held.decks[arm]
    if policy.calibration is None:
        # Nothing was learned of the scores, so nothing is made of them.
        deck = replace(deck, score=np.full(len(deck.score), np.nan))
    chosen, rows, leader, truth = _leading(deck, after)
    text = policy.text.factor([held.texts[at] for at in chosen]) if policy.text is not None and len(chosen) else None
    said = np.empty(len(chosen))
    for begin in range(0, len(chosen), BLOCK):
        block = slice(begin, begin + BLOCK)
        belief = believe(_block(rows, block), world, None if text is None else text[block].astype(np.float64))
        said[block] = belief.right[np.arange(len(belief.right)), leader[block]]
    _, _, _, known = _leading(fitted.decks[arm], after)
    guess = (known.sum() + 1.0) / (len(known) + 2.0)
    return said, np.full(len(said), guess), truth.astype(np.float64)


def _leading(deck: Deck, after: int) -> tuple[Ints, Rows, Ints, Bools]:
    """Prompts with so many candidates and an answer among them; their evidence; the leading slot; whether it is right.

    Of answers with equal votes the one that came first leads.
    """
    enough = np.flatnonzero(deck.sizes >= after)
    part = deck.part(enough)
    few = first(part.owner, after)
    found = opening(part.owner[few], part.answer[few], part.correct[few], part.score[few], len(enough))
    some = np.flatnonzero(found.rows.tally.any(axis=1))
    leader = found.rows.tally[some].argmax(axis=1)
    return enough[some], _block(found.rows, some), leader, found.slot_right[some, leader]


def _block(rows: Rows, part: slice | Ints) -> Rows:
    return Rows(
        rows.count[part],
        rows.logit[part],
        rows.scored[part],
        rows.tally[part],
        rows.score[part],
        rows.squares[part],
        rows.best[part],
        rows.total[part],
        rows.unparsed[part],
    )


def _rank_correlation(policy: FittedPolicy, held: Pool, arm: str) -> float | None:
    from scipy.stats import spearmanr

    deck = held.decks[arm]
    chosen = np.flatnonzero(deck.sizes > 0)
    found = hits(deck.part(chosen))
    rate = found.right / found.tried
    if policy.text is None or len(chosen) < 2 or np.ptp(rate) == 0.0:
        return None
    said = policy.text.mean([held.texts[at] for at in chosen])
    return None if np.ptp(said) == 0.0 else float(spearmanr(said, rate).statistic)


def _brier(said: Floats, truth: Floats) -> float:
    return float(((said - truth) ** 2).mean())


def _loss(said: Floats, truth: Floats) -> float:
    safe = np.clip(said, SURE, 1.0 - SURE)
    return float(-(truth * np.log(safe) + (1.0 - truth) * np.log1p(-safe)).mean())
