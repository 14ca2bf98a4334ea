"""Everything of this folder that a config can name. To add one, add its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apportion.errors import ConfigError, nearest
from apportion.policies.answers import AnswerType
from apportion.policies.answers.auto import AutoAnswer
from apportion.policies.answers.function import FunctionAnswer
from apportion.policies.answers.math import MathAnswer
from apportion.policies.answers.number import NumberAnswer
from apportion.policies.answers.text import ChoiceAnswer, TextAnswer
from apportion.policies.arm import Selector
from apportion.policies.beam_search import BeamSearch
from apportion.policies.best_of_n import BestOfN
from apportion.policies.borda import borda
from apportion.policies.cascade import Cascade
from apportion.policies.dvts import DiverseTrees
from apportion.policies.genrm import GenRM
from apportion.policies.hierarchical import hierarchical
from apportion.policies.lookahead import Lookahead
from apportion.policies.particle_filter import ParticleFilter
from apportion.policies.qalign import QAlign
from apportion.policies.rebase import Rebase
from apportion.policies.revise import Revise
from apportion.policies.rsd import RewardGuided
from apportion.policies.selectors import majority, max_score, weighted
from apportion.policies.settings import build
from apportion.policies.spec_reason import SpecReason
from apportion.policies.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    "beam_search": BeamSearch,
    "best_of_n": BestOfN,
    "cascade": Cascade,
    "dvts": DiverseTrees,
    "genrm": GenRM,
    "lookahead": Lookahead,
    "particle_filter": ParticleFilter,
    "qalign": QAlign,
    "rebase": Rebase,
    "revise": Revise,
    "rsd": RewardGuided,
    "spec_reason": SpecReason,
}

SELECTORS: dict[str, Selector] = {
    "borda": borda,
    "hierarchical": hierarchical,
    "majority": majority,
    "max_score": max_score,
    "weighted": weighted,
}

ANSWER_KINDS: dict[str, type[AnswerType]] = {
    "auto": AutoAnswer,
    "choice": ChoiceAnswer,
    "function": FunctionAnswer,
    "math": MathAnswer,
    "number": NumberAnswer,
    "text": TextAnswer,
}


def build_strategy(name: str, settings: Mapping[str, Any]) -> Strategy:
    """The strategy of that name with these settings. Raises ConfigError."""
    if name not in STRATEGIES:
        raise ConfigError(f"strategy {name!r} is unknown: {nearest(name, STRATEGIES)}")
    return build(STRATEGIES[name], settings, name)


def selector(name: str) -> Selector:
    """The selector of that name. Raises ConfigError."""
    if name not in SELECTORS:
        raise ConfigError(f"select {name!r} is unknown: {nearest(name, SELECTORS)}")
    return SELECTORS[name]


def answer_type(kind: str, settings: Mapping[str, Any]) -> AnswerType:
    """The answer type of that kind with these settings. Raises ConfigError."""
    if kind not in ANSWER_KINDS:
        raise ConfigError(f"answer.kind {kind!r} is unknown: {nearest(kind, ANSWER_KINDS)}")
    return build(ANSWER_KINDS[kind], settings, "answer")
