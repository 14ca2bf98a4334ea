"""Score calibration: the level of a prompt is kept apart from what tells right from wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from apportion.difficulty.evidence import Evidence
from apportion.difficulty.grid import LOGIT
from apportion.difficulty.scores import Calibration, careful, fit_scores, score_likelihood, within_answers
from apportion.types import Candidate, Draft, Finish


def drawn(gap, noise, shared, prompts=400, each=8, slope=0.6, seed=0):
    """Scores by the module's own story: two answers a prompt, `shared` of the noise variance common to an answer."""
    rng = np.random.default_rng(seed)
    passing = rng.normal(0.0, 1.5, prompts)
    right = rng.random((prompts, each)) < 1 / (1 + np.exp(-passing))[:, None]
    common = rng.normal(0.0, noise * np.sqrt(shared), (prompts, 2))
    own = rng.normal(0.0, noise * np.sqrt(1 - shared), (prompts, each))
    level = -1.0 + slope * passing + rng.normal(0.0, 0.5, prompts)
    scores = level[:, None] + gap * right + np.where(right, common[:, :1], common[:, 1:]) + own
    return passing, right, scores


def fitted(passing, right, scores):
    many = np.stack([right.sum(axis=1), (~right).sum(axis=1)], axis=1).astype(float)
    sums = np.stack([(scores * right).sum(axis=1), (scores * ~right).sum(axis=1)], axis=1)
    squares = (scores**2).sum(axis=1)
    total = np.stack([many.sum(axis=1), sums.sum(axis=1)], axis=1)
    kin = within_answers(many, sums, squares)
    return fit_scores(np.ones((len(many), 1)), many[:, :1], sums[:, :1], total, squares, kin, passing, Calibration())


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_gap_noise_slope_and_kinship_are_recovered_from_labels(shared):
    found = fitted(*drawn(1.5, 1.0, shared))
    assert found.gap == pytest.approx(1.5, abs=0.2)
    assert found.slope == pytest.approx(0.6, abs=0.15)
    assert found.center == pytest.approx(-1.0, abs=0.2)
    # Noise that a prompt's only answer has throughout cannot be told from its level, so shared noise is seen in part.
    assert found.noise == pytest.approx(1.0, abs=0.2 + 0.4 * shared)
    assert found.kinship == pytest.approx(shared, abs=0.15 + 0.2 * shared)


def test_a_verifier_that_only_knows_hard_prompts_has_no_gap():
    assert fitted(*drawn(0.0, 0.5, 0.0)).gap < 0.15


def rows_of(*answers_and_scores):
    evidence = Evidence(1, 1)
    draft = Draft("", (), 1, Finish.END)
    evidence.add(0, 0, [Candidate("0", 0, "a", 0, draft, answer, score) for answer, score in answers_and_scores])
    return evidence.rows(slice(0, 1))


def test_within_a_prompt_only_differences_count():
    calibration = Calibration(gap=1.0, noise=1.0, spread=1e6, kinship=0.0)
    high, low = (1 / (1 + np.exp(-x)) for x in (2.0, 1.0))
    raised, lowered = rows_of(("a", high), ("b", low)), rows_of(("a", 1 - low), ("b", 1 - high))
    one, other = (score_likelihood(rows, calibration)[0, :, 0] for rows in (raised, lowered))
    assert one == pytest.approx(other, abs=1e-3)
    # A gap of 1 between scores 1 apart: log ratio of the two answers is gap * difference / noise^2.
    assert one[0] - one[1] == pytest.approx(1.0, abs=1e-3)


def test_a_high_level_speaks_for_an_easy_prompt():
    calibration = Calibration(gap=1.0, slope=1.0, center=0.0, spread=1.0)
    likelihood = score_likelihood(rows_of(("a", 0.95), ("a", 0.9)), calibration)[0, 0]
    assert LOGIT[likelihood.argmax()] > 0.5
    unscored = score_likelihood(rows_of(("a", None)), calibration)
    assert unscored == pytest.approx(np.zeros_like(unscored))


def test_kin_and_caution_make_scores_say_less():
    plain = Calibration(kinship=0.0, spread=1e6)
    rows = rows_of(("a", 0.9), ("a", 0.9), ("a", 0.9), ("b", 0.2))

    def told(calibration):
        found = score_likelihood(rows, calibration)[0, :, 0]
        return found[0] - found[-1]

    assert told(plain) > told(replace(plain, kinship=0.8)) > 0
    assert told(plain) == pytest.approx(4 * told(replace(plain, caution=4.0)))
    assert careful(Calibration(gap=0.2, noise=1.0)).caution > careful(Calibration(gap=2.0, noise=1.0)).caution
