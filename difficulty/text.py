"""A prior over pass@1 from the prompt's text: hashed words and a few numbers into a ridge regression.

The model is plain numbers and is restored from JSON exactly; hashing needs no vocabulary. Its output is the mean of a
Beta on the grid, whose strength is chosen by likelihood on held-out folds, so that a text that tells little
says little.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.grid import PASS, beta_on_grid

Floats = NDArray[np.float64]

WORD_BUCKETS = 256
"""Enough for the words that tell a dataset's kinds of question apart; collisions are harmless under ridge."""
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
STRENGTHS = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0)
FOLDS = 5
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def features(texts: Sequence[str]) -> Floats:
    """[texts, 8 + WORD_BUCKETS]: counts of the text, then words and word pairs, hashed, of unit length."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hasher = HashingVectorizer(n_features=WORD_BUCKETS, ngram_range=(1, 2), norm="l2", alternate_sign=False)
    words = hasher.transform(texts).toarray()
    numbers = np.array([_numeric(text) for text in texts])
    return np.concatenate([numbers, words], axis=1)


def _numeric(text: str) -> list[float]:
    found = NUMBER.findall(text)
    return [
        math.log1p(len(text)),
        math.log1p(len(text.split())),
        math.log1p(len(found)),
        math.log1p(sum(map(len, found))),
        math.log1p(max(map(len, found), default=0)),
        math.log1p(text.count("\n")),
        math.log1p(len(re.findall(r"[.!?]", text))),
        math.log1p(sum(text.count(mark) for mark in "+-*/^=\\")),
    ]


@dataclass(frozen=True, slots=True)
class TextPrior:
    """A linear model on standardised features. `strength` is how many candidates a text is worth."""

    center: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    strength: float
    average: tuple[float, ...]
    """mean over the training prompts of the prior each text gives: what a text says is relative to it"""

    def mean(self, texts: Sequence[str]) -> Floats:
        """Predicted pass@1, [texts]."""
        columns = (features(texts) - np.array(self.center)) / np.array(self.scale)
        return np.asarray(np.clip(columns @ np.array(self.coefficients) + self.intercept, 0.02, 0.98))

    def factor(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What each text multiplies the dataset's prior by, [texts, POINTS]."""
        given = beta_on_grid(self.mean(texts), self.strength)
        return np.asarray(given / np.array(self.average), dtype=np.float32)


def fit_text(
    texts: Sequence[str], right: Floats, tried: Floats, prior: Floats
) -> tuple[TextPrior | None, float, float]:
    """The model, and the mean held-out log likelihood a prompt with it and without it.

    `right` of `tried` candidates of each prompt were right; `prior` is the dataset's, [POINTS]. The model is None where
    it does not beat the prior on prompts it was not fitted on.
    """
    from sklearn.model_selection import KFold

    like = np.exp(right[:, None] * np.log(PASS) + (tried - right)[:, None] * np.log1p(-PASS))
    plain = float(np.log(like @ prior).mean())
    if len(texts) < 10 * FOLDS:
        return None, plain, plain
    columns = features(texts)
    center, scale = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-6)
    columns = (columns - center) / scale
    target = (right + 0.5) / (tried + 1.0)
    best = (plain, 0.0, 0.0)
    held = np.empty((len(PENALTIES), len(texts)))
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(columns):
        for at, (coefficients, intercept) in enumerate(ridge(columns[train], target[train], tried[train], PENALTIES)):
            held[at, test] = columns[test] @ coefficients + intercept
    for penalty, said in zip(PENALTIES, held, strict=True):
        for strength in STRENGTHS:
            given = beta_on_grid(np.clip(said, 0.02, 0.98), strength)
            mixed = given / given.mean(axis=0) * prior
            mixed /= mixed.sum(axis=1, keepdims=True)
            score = float(np.log((like * mixed).sum(axis=1)).mean())
            best = max(best, (score, penalty, strength))
    score, penalty, strength = best
    if penalty == 0.0:
        return None, plain, plain
    ((coefficients, intercept),) = ridge(columns, target, tried, [penalty])
    fitted = TextPrior(
        tuple(center.tolist()),
        tuple(scale.tolist()),
        tuple(coefficients.tolist()),
        intercept,
        strength,
        tuple(np.ones(len(PASS)).tolist()),
    )
    average = beta_on_grid(fitted.mean(texts), strength).mean(axis=0)
    final = TextPrior(fitted.center, fitted.scale, fitted.coefficients, fitted.intercept, strength,
                      tuple(average.tolist()))  # fmt: skip
    return final, score, plain


def ridge(columns: Floats, target: Floats, weight: Floats, penalties: Sequence[float]) -> list[tuple[Floats, float]]:
    """Weighted ridge regression, intercept unpenalised: coefficients and intercept for each penalty.

    One eigendecomposition serves all of them.
    """
    share = weight / weight.sum()
    center, level = share @ columns, float(share @ target)
    inside = (columns - center) * np.sqrt(weight)[:, None]
    values, vectors = np.linalg.eigh(inside.T @ inside)
    along = vectors.T @ (inside.T @ ((target - level) * np.sqrt(weight)))
    found = [vectors @ (along / (np.maximum(values, 0.0) + penalty)) for penalty in penalties]
    return [(coefficients, level - float(center @ coefficients)) for coefficients in found]
