"""Fit a policy on labelled pools: the prior over pass@1, the verifier's calibration, and the response of each arm.

The reference arm is the one with the most candidates; of equals, the first by name. A search (beam@16) is it only
where there is nothing else: its candidates share their beginnings. Everything else is relative to it:
prior, text, calibration and vote weights are fitted on its candidates, each arm's lift on the prompts they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import World, base_prior, believe
from apportion.difficulty.bins import mean_by_prompt
from apportion.difficulty.fiterror import FitError
from apportion.difficulty.fitted import FittedArm, FittedPolicy, is_search
from apportion.difficulty.grid import LOGIT, PASS
from apportion.difficulty.hidden import fit_hidden
from apportion.difficulty.keep import keep
from apportion.difficulty.learn import LIFT_GRID, weights_of
from apportion.difficulty.marks import marks
from apportion.difficulty.pools import Deck, Pool
from apportion.difficulty.prior import PSEUDO_PROMPTS, smooth
from apportion.difficulty.race import Weights
from apportion.difficulty.scores import Calibration, fit_scores
from apportion.difficulty.table import fit_table
from apportion.difficulty.tallies import (
    Hits,
    first,
    hits,
    log_collisions,
    opening,
    score_logits,
    scores,
    within_groups,
)
from apportion.difficulty.text import fit_text
from apportion.difficulty.together import together

Floats = NDArray[np.float64]

EM_STEPS = 60
FEWEST_SCORES = 50
LIFT_DEVIATION = 2.0
"""Lifts are believed to be within so many logits before any result: few prompts do not make a miracle."""
MOST_TILT, TILT_STEPS = 4.0, 40
"""Bisection of the tilt that gives the prior its mean; beyond 4 all weight is at one end."""
FIRST_FEW = 8
"""Candidates of each prompt on which the caution is chosen: about what a prompt has when a purchase is decided."""
CAUTIONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def fit(pools: Sequence[Pool]) -> FittedPolicy:
    """A policy from labelled pools of one task; see `together` for how they are joined. Raises DataError.

    Its error is without the two-fold part, which `apportion.difficulty.crossfit` adds: that fits twice more.
    """
    pool = _with_candidates(together(pools))
    names = [one.name for one in pools]
    return replace(fit_beliefs(pool, names), table=fit_table(pool), pool=keep(pool), marks=marks(pool.texts)).rounded()


def _with_candidates(pool: Pool) -> Pool:
    return pool.only([arm for arm, deck in pool.decks.items() if len(deck.correct)])


def fit_beliefs(pool: Pool, names: Sequence[str]) -> FittedPolicy:
    """The part of a policy that a job's beliefs start from: without the table and the kept pool."""
    pool = _with_candidates(pool)
    counts = {arm: len(deck.correct) for arm, deck in pool.decks.items()}
    reference = min(counts, key=lambda arm: (is_search(arm), -counts[arm], arm))
    known = np.flatnonzero(pool.decks[reference].sizes > 0)
    own = pool.decks[reference].part(known)
    found = hits(own)
    prior, posterior = _fit_prior(own, found)
    texts = [pool.texts[at] for at in known]
    told = fit_text(texts, found.right, found.tried, prior.sum(axis=1)) if any(texts) else None
    states = None if pool.hidden is None else pool.hidden.part(known)
    hidden = None if states is None else fit_hidden(states, found.right, found.tried, prior.sum(axis=1))
    calibration, weights = _fit_scores(own, posterior)
    if calibration is not None:
        calibration = _careful(own, prior, calibration)
    arms = {}
    for arm, deck in pool.decks.items():
        lift = 0.0 if arm == reference else _lift(hits(deck.part(known)), posterior)
        arms[arm] = _describe(deck, lift)
    wrong = float((found.tried - found.right).sum())
    return FittedPolicy(
        reference=reference,
        arms=arms,
        prior=tuple(map(tuple, prior.tolist())),
        unparsed=(float(found.unparsed.sum()) + 1.0) / (wrong + 20.0),
        calibration=calibration,
        weights=weights,
        text=None if told is None else told[0],
        fitted_on={
            "pools": list(names),
            "prompts": len(pool.ids),
            "candidates": sum(counts.values()),
            **({} if states is None else {"states": int(states.known.sum())}),
        },
        hidden=hidden,
        error=FitError() if told is None else FitError(told[2], told[1]),
    ).rounded()


def _describe(deck: Deck, lift: float) -> FittedArm:
    return FittedArm(
        lift=lift,
        pass_rate=_mean(deck, deck.correct.astype(np.float64)) or 0.0,
        candidates=len(deck.correct),
        tokens=_mean(deck, deck.tokens),
        dollars=_mean(deck, deck.dollars),
    )


def _mean(deck: Deck, values: Floats) -> float | None:
    """Mean over prompts, however many candidates each has, of the mean of its candidates; None where none is known."""
    each = mean_by_prompt(deck, values)
    known = each[np.isfinite(each)]
    return float(known.mean()) if len(known) else None


def _fit_prior(deck: Deck, found: Hits) -> tuple[Floats, Floats]:
    """The prior over p and concentration, and each prompt's posterior over p, [prompts, POINTS]."""
    log = found.right[:, None] * np.log(PASS) + (found.tried - found.right)[:, None] * np.log1p(-PASS)
    like = np.exp(log - log.max(axis=1, keepdims=True))
    table = log_collisions(deck)
    table = np.exp(table - table.max(axis=1, keepdims=True))
    base = base_prior()
    prior = base
    flat = (like[:, :, None] * table[:, None, :]).reshape(len(like), -1)
    for _ in range(EM_STEPS):
        inverse = 1.0 / np.maximum(flat @ prior.ravel(), 1e-300)
        seen = prior * (inverse @ flat).reshape(prior.shape)
        prior = smooth(seen) + PSEUDO_PROMPTS * base
        prior /= prior.sum()
    prior = _tilted(prior, float((found.right / found.tried).mean()))
    share = flat.reshape(len(like), *prior.shape) * prior
    share /= share.sum(axis=(1, 2), keepdims=True)
    return prior, np.asarray(share.sum(axis=2))


def _tilted(prior: Floats, mean: float) -> Floats:
    """The prior times exp(t logit p), with the t that gives it this mean of p.

    Smoothing pulls the mean to the middle, the more, the fewer candidates a prompt has.
    """
    low, high = -MOST_TILT, MOST_TILT
    for _ in range(TILT_STEPS):
        t = 0.5 * (low + high)
        found = prior * np.exp(t * LOGIT)[:, None]
        found /= found.sum()
        low, high = (t, high) if float(found.sum(axis=1) @ PASS) < mean else (low, t)
    return np.asarray(found)


def _lift(found: Hits, posterior: Floats) -> float:
    """The lift that best explains another arm's results, in logits; 0 where it shares no prompts."""
    if not found.tried.any():
        return 0.0
    rate = LOGIT[None, :] + LIFT_GRID[:, None]
    right, wrong = found.right @ posterior, (found.tried - found.right) @ posterior
    log = right @ -np.logaddexp(0.0, -rate).T + wrong @ -np.logaddexp(0.0, rate).T
    return float(LIFT_GRID[int(np.argmax(log - 0.5 * (LIFT_GRID / LIFT_DEVIATION) ** 2))])


def _fit_scores(deck: Deck, posterior: Floats) -> tuple[Calibration | None, Weights | None]:
    """How scores tell right from wrong within a prompt and prompts apart; None where there are too few."""
    found, prompts = scores(deck), len(deck.sizes)

    def sums(values: Floats) -> Floats:
        return np.bincount(found.owner, values, minlength=prompts).astype(np.float64)

    every, right = sums(np.ones(len(found.owner))), sums(found.correct.astype(np.float64))
    if len(found.owner) < FEWEST_SCORES or not ((right > 0) & (right < every)).any():
        return None, None
    mean = sums(found.score) / np.maximum(every, 1.0)
    relative = found.score / np.where(mean > 0.0, mean, 1e-6)[found.owner]
    fitted = []
    for values, passing in ((score_logits(found.score), posterior @ LOGIT), (relative, None)):
        total = np.stack([every, sums(values)], axis=1)
        kin = within_groups(values, found, prompts)
        own, own_sum = right[:, None], sums(values * found.correct)[:, None]
        fitted.append(fit_scores(np.ones_like(own), own, own_sum, total, sums(values**2), kin, passing, Calibration()))
    return fitted[0], weights_of(fitted[1])


def _careful(deck: Deck, prior: Floats, found: Calibration) -> Calibration:
    """`found` with the caution under which the first few candidates of each prompt best tell their right answer."""
    some = scores(deck)
    few = first(some.owner, FIRST_FEW)
    # All right candidates are one answer, which needs a number like the others.
    group = np.where(some.correct, int(some.group.max(initial=0)) + 1, some.group)[few]
    start = opening(some.owner[few], group, some.correct[few], some.score[few], len(deck.sizes))
    none_right = ~start.slot_right.any(axis=1, keepdims=True)
    truth = np.concatenate([start.slot_right, none_right], axis=1).argmax(axis=1)
    likelihood = {}
    for caution in CAUTIONS:
        right = believe(start.rows, World(np.zeros(1), prior, replace(found, caution=caution))).right
        likelihood[caution] = float(np.log(np.maximum(right[np.arange(len(truth)), truth], 1e-12)).sum())
    return replace(found, caution=max(CAUTIONS, key=lambda caution: (likelihood[caution], caution)))
