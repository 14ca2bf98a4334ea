"""A prior over pass@1 from the prompt's text: hashed words and a few numbers into a linear model.

Hashing needs no vocabulary: the model is plain numbers (`apportion.difficulty.linear`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.linear import Floats, LinearPrior, fit_linear

WORD_BUCKETS = 256
"""Enough for the words that tell a dataset's kinds of question apart; collisions are harmless under ridge."""
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
class TextPrior(LinearPrior):
    """What the features of a text say."""

    def mean(self, texts: Sequence[str]) -> Floats:
        """Predicted pass@1, [texts]."""
        return self.said(features(texts))

    def factor(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What each text multiplies the dataset's prior by, [texts, POINTS]."""
        return self.weigh(self.mean(texts))


def fit_text(
    texts: Sequence[str], right: Floats, tried: Floats, prior: Floats
) -> tuple[TextPrior | None, float, float]:
    """The model, and the mean held-out log likelihood a prompt with it and without it.

    `right` of `tried` candidates of each prompt were right; `prior` is the dataset's, [POINTS]. The model is None where
    it does not beat the prior on prompts it was not fitted on.
    """
    found = fit_linear(features(texts), right, tried, prior)
    if found.model is None:
        return None, found.with_it, found.without
    return TextPrior(**found.model.numbers), found.with_it, found.without
