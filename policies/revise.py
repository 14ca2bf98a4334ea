"""Revisions: chains of attempts, each written with the chain's latest attempts in the conversation.

Snell et al. 2024 (arXiv 2408.03314), section 6: a model that was trained to revise reads up to 4 earlier attempts and
writes another; chains are drawn side by side, and the ratio of sequential to parallel is a setting. Right attempts get
revised to wrong ones too (38% of theirs), so every attempt is a candidate.

Invariants and choices:
- A purchase of n goes on with the chains that earlier purchases left shorter than `chain`, the first first, and then
  opens new ones: n attempts in all, whatever was cut off before. With `chain: all` every purchase prolongs one chain.
- Chains are numbered over all purchases (`Draft.group`). Drafts come chain by chain, attempts in the order written.
- In a round every chain writes its next attempt; those that have the same conversation share one request, so that the
  prompt is read once for all first attempts.
- An attempt in the conversation is an assistant turn, answered by a user turn with `instruction`. Attempts without
  text are left out, and so are the oldest where the context would not hold them and an answer of `max_tokens`.
- The verifier reads attempts as answers to the task itself, each text once, when all are written.
- The seed of an attempt is that of its chain and its place in it.
- An attempt that read k others weighs 1 / (k + 1): it stands on what they say, and shares its worth as evidence with
  them, as paths of a search share what they have in common (`apportion.policies.beams`). Five attempts in a chain weigh
  2.3 in all, which is what they were measured to be worth by the variance of their share of right ones (the column
  `worth` in lab/MODEL_CARD.md).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from apportion.costs import Amount, attended
from apportion.errors import ConfigError
from apportion.policies.best_of_n import draft_of, scored_drafts
from apportion.policies.settings import one_or_more
from apportion.policies.strategy import CutOff, Lengths, Plan, Task, Workload, generate_all
from apportion.types import Draft, Generate, Message, Messages, Reply, Request

TURN_TOKENS = 16
"""What a chat template writes around an attempt and the instruction after it, generously; only the room that a context
leaves is judged by it."""


@dataclass(slots=True)
class _Chain:
    """A chain that a purchase writes to: its attempts, of which `before` were there, until there are `goal`."""

    number: int
    attempts: list[Draft]
    before: int
    goal: int


@dataclass(frozen=True, slots=True)
class Revise:
    """n attempts in chains of `chain`, or all in one; each reads the last `window` of its chain.

    `chain` is the ratio sequential : parallel, since n is chains times `chain`. `instruction` is said after every
    attempt: a model trained for it may need none, and the empty text is `lab:reviser`'s.
    """

    name: ClassVar[str] = "revise"
    needs_verifier: ClassVar[bool] = False
    extends: ClassVar[bool] = True

    chain: int | Literal["all"] = 4
    window: int = 4
    instruction: str = "That may be wrong. Try again, step by step."

    def __post_init__(self) -> None:
        if isinstance(self.chain, int) and self.chain < 2:
            raise ConfigError(
                f"revise.chain is {self.chain}; it must be 2 or more, or all: an attempt alone revises nothing, which "
                "is best_of_n"
            )
        why = "without an earlier attempt in the conversation nothing is revised, which is best_of_n"
        one_or_more("revise.window", self.window, why)

    def plan(self, task: Task) -> Plan:
        """n drafts; where cut off, the attempts that were written, unscored where the verifier's turn had not come."""
        chains = self._chains(task)
        while unfinished := [chain for chain in chains if len(chain.attempts) < chain.goal]:
            try:
                yield from self._round(task, unfinished)
            except CutOff:
                return _new(chains)
        return (yield from scored_drafts(task, _new(chains)))

    def conversation(self, task: Task, attempts: Sequence[Draft]) -> Messages:
        """What the next attempt of a chain is written to: the task, and two turns for each attempt that is read."""
        kept: list[Draft] = []
        left = None if task.room is None else task.room - task.sampling.max_tokens
        said = len(self.instruction.encode()) + TURN_TOKENS
        for attempt in reversed([one for one in attempts if one.text][-self.window :]):
            if left is not None:
                left -= attempt.tokens + said
                if left < 0:
                    break
            kept.append(attempt)
        turns = [
            turn
            for attempt in reversed(kept)
            for turn in (Message("assistant", attempt.text), Message("user", self.instruction))
        ]
        return (*task.messages, *turns)

    def check(self, n: int) -> str | None:
        """Why n is no whole number of chains, with the fix."""
        if self.chain == "all":
            return None if n >= 1 else f"n is {n}, and revise writes at least 1 attempt; use n: 1 or more"
        if n >= self.chain and n % self.chain == 0:
            return None
        below = max(1, n // self.chain) * self.chain
        return (
            f"n is {n}, which is no whole number of chains of {self.chain} attempts; use n: {below} or "
            f"{below + self.chain}, or another chain"
        )

    def beginnings(self, n: int) -> int:
        """Of n attempts the first of each chain."""
        return 1 if self.chain == "all" else n // self.chain

    def workload(self, n: int, lengths: Lengths, verified: bool) -> Workload:
        """As engines read that keep the task's own prompt and the conversations they have read.

        The prompt is read once, and then what is new in each conversation: the latest attempt, or, once the oldest
        attempt leaves the window, all of them. The instruction's tokens are not counted.
        """
        prompt, each = lengths.prompt_tokens, lengths.completion_tokens
        length = n if self.chain == "all" else min(self.chain, n)
        chains = n / length
        read: Amount = 0.0 * prompt
        reach: Amount = 0.0 * prompt
        unshared: Amount = 0.0 * prompt
        for place in range(length):
            known = min(place, self.window)
            begun = prompt + known * each
            new = 0.0 if place == 0 else (1 if place <= self.window else self.window) * each
            read = read + new
            reach = reach + attended(begun - new, new) + attended(begun, each)
            unshared = unshared + begun
        once = attended(0.0, prompt)
        return Workload(
            prompt_tokens=prompt + chains * read,
            completion_tokens=n * each,
            policy_attended=once + chains * reach,
            verifier_tokens=(prompt + n * each) * verified,
            verifier_attended=(once + n * attended(prompt, each)) * verified,
            samples=n + 0.0 * prompt,
            unshared_prompt_tokens=chains * unshared,
        )

    def _chains(self, task: Task) -> list[_Chain]:
        """The chains that this purchase writes to, by number, and how long each is to be."""
        known: dict[int, list[Draft]] = {}
        for draft in task.earlier:
            if draft.group is not None:
                known.setdefault(draft.group, []).append(draft)
        chains: list[_Chain] = []
        # Where earlier purchases left nothing, numbers and their seeds are new ones all the same.
        left, number = task.n, min(known, default=task.drawn)
        while left > 0:
            attempts = known.get(number, [])
            before = len(attempts)
            more = left if self.chain == "all" else min(left, self.chain - before)
            if more > 0:
                chains.append(_Chain(number, attempts, before, before + more))
                left -= more
            number += 1
        return chains

    def _round(self, task: Task, chains: Sequence[_Chain]) -> Generator[tuple[Request, ...], tuple[Reply, ...], None]:
        """The next attempt of each chain; those with the same conversation in one request."""
        shared: dict[Messages, list[_Chain]] = {}
        for chain in chains:
            shared.setdefault(self.conversation(task, chain.attempts), []).append(chain)
        replies = yield from generate_all(
            tuple(
                Generate(
                    task.policy,
                    messages,
                    tuple(task.seed(chain.number, len(chain.attempts)) for chain in alike),
                    task.sampling,
                )
                for messages, alike in shared.items()
            )
        )
        for (messages, alike), reply in zip(shared.items(), replies, strict=True):
            weight = 1.0 / (1 + (len(messages) - len(task.messages)) // 2)
            for chain, completion in zip(alike, reply.completions, strict=True):
                chain.attempts.append(replace(draft_of(completion, task), weight=weight, group=chain.number))


def _new(chains: Sequence[_Chain]) -> tuple[Draft, ...]:
    return tuple(draft for chain in chains for draft in chain.attempts[chain.before :])
