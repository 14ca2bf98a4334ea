"""Choosing an answer chain by chain: the weighted vote within each chain, then among what the chains chose.

Snell et al. 2024 (arXiv 2408.03314, appendix on revisions): the responses of a chain are alike, and best-of-n weighted
within each one, and then across chains with each chain's best response, lets every chain speak once. Without scores it
is the majority over all responses, flat, which is what they do then.

Invariants: as `apportion.policies.selectors`. A candidate of no chain (`Draft.group` is None) is a chain of its own, so
that for responses that form no chains this is the weighted vote. A chain without an answer counts in the confidence's
denominator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from apportion.policies.arm import Choice
from apportion.policies.selectors import majority, weighted
from apportion.types import Candidate


def hierarchical(candidates: Sequence[Candidate]) -> Choice:
    """The answer with the highest sum of scores over the chains' best responses."""
    if not any(candidate.score for candidate in candidates):
        return majority(candidates)
    chains: dict[tuple[str, int | None, int], list[int]] = {}
    for at, candidate in enumerate(candidates):
        group = candidate.draft.group
        chains.setdefault((candidate.arm, group, candidate.index if group is None else -1), []).append(at)
    spokesmen = [_spokesman(candidates, places) for places in chains.values()]
    choice = weighted([candidates[at] for at in spokesmen])
    return choice if choice.candidate is None else replace(choice, candidate=spokesmen[choice.candidate])


def _spokesman(candidates: Sequence[Candidate], places: Sequence[int]) -> int:
    """The place of the best response with the answer that one chain chooses; its first where it has no answer."""
    chosen = weighted([candidates[at] for at in places]).candidate
    return min(places, key=lambda at: candidates[at].index) if chosen is None else places[chosen]
