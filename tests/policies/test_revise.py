"""Revisions: which attempts each attempt reads, chains that go on, and what is left where a purchase is cut off."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.costs import attended
from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.revise import TURN_TOKENS, Revise
from apportion.policies.strategy import Lengths, Task
from apportion.types import (
    Completion,
    Draft,
    Finish,
    Generate,
    Generated,
    Message,
    Reply,
    Request,
    Score,
    Scored,
    Usage,
)

TOKENS = 10
"""of every attempt"""


def purchase(n: int, earlier: tuple[Draft, ...] = (), verified: bool = False, room: int | None = None) -> Task:
    made = conformance.task(n, drawn=len(earlier), verified=verified, max_tokens=100, earlier=earlier)
    return replace(made, room=room)


@dataclass
class Chains:
    """A world in which b3 is the third attempt of the second chain; it writes down what each round reads and writes."""

    same: str = ""
    """attempts whose first letter is in it all have the text `same`"""
    rounds: list[str] = field(default_factory=list)
    scored: list[tuple[str, ...]] = field(default_factory=list)
    talks: list[tuple[Message, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        task = purchase(1)
        self._names = {task.seed(at, place): f"{'abcdef'[at]}{place + 1}" for at in range(6) for place in range(20)}

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        written = [request for request in requests if isinstance(request, Generate)]
        if written:
            self.rounds.append("; ".join(map(self._said, written)))
        return tuple(self._write(one) if isinstance(one, Generate) else self._score(one) for one in requests)

    def _said(self, request: Generate) -> str:
        read = [message.content for message in request.messages if message.role == "assistant"]
        return f"{' '.join(read) or '-'} > {' '.join(self._names[seed] for seed in request.seeds)}"

    def _write(self, request: Generate) -> Generated:
        self.talks.append(request.messages)
        names = [self._names[seed] for seed in request.seeds]
        texts = [self.same if name[0] in self.same else name for name in names]
        return Generated(tuple(Completion(text, TOKENS, Finish.END) for text in texts), Usage(1, TOKENS, 1))

    def _score(self, request: Score) -> Scored:
        assert request.messages == purchase(1).messages
        self.scored.append(tuple("".join(steps) for steps in request.responses))
        return Scored(tuple((0.5,) * len(steps) for steps in request.responses), Usage(1, 0, 1))


def names(drafts: tuple[Draft, ...]) -> str:
    return " ".join(draft.text for draft in drafts)


# How to read a table: in each line one round; `a1 a2 > a3` is a conversation that holds a1 and a2, in which a3 is
# written, and one with `-` holds none. Requests of a round are apart by semicolons.
SIDE_BY_SIDE = """
- > a1 b1
a1 > a2; b1 > b2
a1 a2 > a3; b1 b2 > b3
drafts: a1 a2 a3 b1 b2 b3
"""
ONLY_THE_LAST_ARE_READ = """
- > a1
a1 > a2
a1 a2 > a3
a1 a2 a3 > a4
a1 a2 a3 a4 > a5
a2 a3 a4 a5 > a6
drafts: a1 a2 a3 a4 a5 a6
"""
A_WINDOW_OF_ONE = """
- > a1 b1
a1 > a2; b1 > b2
a2 > a3; b2 > b3
drafts: a1 a2 a3 b1 b2 b3
"""


@pytest.mark.parametrize(
    ("strategy", "table"),
    [
        (Revise(chain=3), SIDE_BY_SIDE),
        (Revise(chain="all"), ONLY_THE_LAST_ARE_READ),
        (Revise(chain=6), ONLY_THE_LAST_ARE_READ),
        (Revise(chain=3, window=1), A_WINDOW_OF_ONE),
    ],
)
def test_schedule(strategy: Revise, table: str) -> None:
    world = Chains()
    drafts = conformance.drive(strategy, purchase(6), world)
    *rounds, last = table.strip().splitlines()
    assert world.rounds == rounds
    assert f"drafts: {names(drafts)}" == last


def test_an_attempt_is_a_turn_of_the_assistant_and_is_answered_by_the_instruction() -> None:
    world = Chains()
    conformance.drive(Revise(chain=3, instruction="Again."), purchase(3), world)
    task = purchase(1)
    again = Message("user", "Again.")
    assert world.talks == [
        task.messages,
        (*task.messages, Message("assistant", "a1"), again),
        (*task.messages, Message("assistant", "a1"), again, Message("assistant", "a2"), again),
    ]


# A purchase that ended early, by what it left, and the next one: chains of three, the first the first.
GOES_ON = [
    ("", 3, "- > a1 / a1 > a2 / a1 a2 > a3"),
    ("a1 a2 a3", 3, "- > b1 / b1 > b2 / b1 b2 > b3"),
    ("a1", 3, "a1 > a2; - > b1 / a1 a2 > a3"),
    ("a1 b1", 3, "a1 > a2; b1 > b2 / a1 a2 > a3"),
    ("a1 a2 b1 b2", 6, "a1 a2 > a3; b1 b2 > b3; - > c1 d1 / c1 > c2 / c1 c2 > c3"),
    ("a1 a2 a3 c1", 3, "- > b1 / b1 > b2 / b1 b2 > b3"),
]


@pytest.mark.parametrize(("left", "n", "rounds"), GOES_ON)
def test_a_later_purchase_goes_on_with_what_is_short(left: str, n: int, rounds: str) -> None:
    earlier = tuple(Draft(name, (name,), TOKENS, Finish.END, group="abc".index(name[0])) for name in left.split())
    world = Chains()
    drafts = conformance.drive(Revise(chain=3), purchase(n, earlier), world)
    assert " / ".join(world.rounds) == rounds
    assert len(drafts) == n
    assert all(draft.group == "abcdef".index(draft.text[0]) for draft in drafts)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), cuts=st.lists(st.integers(0, 4), max_size=4))
@settings(max_examples=60)
def test_one_chain_is_the_same_in_one_purchase_and_in_several(sizes: list[int], cuts: list[int]) -> None:
    """Also where purchases are cut off: the next one goes on after what was written."""
    earlier: tuple[Draft, ...] = ()
    strategy = Revise(chain="all")
    for at, n in enumerate(sizes):
        cut = cuts[at] if at < len(cuts) and cuts[at] < n else None
        earlier += conformance.drive(strategy, purchase(n, earlier), conformance.World(), cut)
    if earlier:
        assert earlier == conformance.drive(strategy, purchase(len(earlier)), conformance.World())


def test_whole_chains_do_not_depend_on_how_they_are_bought() -> None:
    strategy = Revise(chain=4)
    first = conformance.drive(strategy, purchase(4, verified=True), conformance.World())
    then = conformance.drive(strategy, purchase(8, first, verified=True), conformance.World())
    assert first + then == conformance.drive(strategy, purchase(12, verified=True), conformance.World())


@pytest.mark.parametrize(("cut_at", "left"), [(0, ""), (1, "a1 b1"), (2, "a1 a2 b1 b2"), (3, "a1 a2 a3 b1 b2 b3")])
def test_cut_off_returns_the_attempts_there_are_unscored(cut_at: int, left: str) -> None:
    drafts = conformance.drive(Revise(chain=3), purchase(6, verified=True), Chains(), cut_at)
    assert names(drafts) == left
    assert all(draft.step_scores is None for draft in drafts)


def test_the_verifier_reads_each_text_once_as_an_answer_to_the_task() -> None:
    world = Chains(same="a")
    drafts = conformance.drive(Revise(chain=3), purchase(6, verified=True), world)
    assert world.scored == [("a", "b1", "b2", "b3")]
    assert [draft.step_scores for draft in drafts] == [(0.5,)] * 6


def test_chains_that_say_the_same_share_a_request() -> None:
    world = Chains(same="ab")
    conformance.drive(Revise(chain=2), purchase(6), world)
    assert world.rounds == ["- > a1 b1 c1", "ab > a2 b2; c1 > c2"]


def test_an_attempt_that_read_others_is_worth_less_as_evidence() -> None:
    drafts = conformance.drive(Revise(chain="all"), purchase(6), Chains())
    assert [draft.weight for draft in drafts] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 5]


ONE = TOKENS + len("Again.") + TURN_TOKENS


@pytest.mark.parametrize(
    ("room", "read"),
    [
        (None, "a2 a3 a4 a5 > a6"),
        (100 + 4 * ONE, "a2 a3 a4 a5 > a6"),
        (100 + 4 * ONE - 1, "a3 a4 a5 > a6"),
        (100 + ONE, "a5 > a6"),
        (100 + ONE - 1, "- > a6"),
        (0, "- > a6"),
    ],
)
def test_the_oldest_are_left_out_where_the_context_has_no_room(room: int | None, read: str) -> None:
    world = Chains()
    conformance.drive(Revise(chain="all", instruction="Again."), purchase(6, room=room), world)
    assert world.rounds[-1] == read


def test_an_attempt_without_text_is_not_said() -> None:
    earlier = tuple(Draft(text, (), 1, Finish.END, group=0) for text in ("one", "", "three"))
    world = Chains()
    conformance.drive(Revise(chain="all"), purchase(1, earlier), world)
    assert world.rounds == ["one three > a4"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chain": 1}, "chain is 1; it must be 2 or more, or all: .* best_of_n"),
        ({"chain": -3}, "chain is -3"),
        ({"window": 0}, "window is 0; it must be 1 or more: .* nothing is revised"),
    ],
)
def test_a_reviser_that_does_not_revise_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Revise(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chain", "n", "fix"),
    [(4, 0, "4 or 8"), (4, 3, "4 or 8"), (4, 6, "4 or 8"), (3, 13, "12 or 15"), (4, 8, None), (2, 2, None)],
)
def test_chains_are_bought_whole(chain: int, n: int, fix: str | None) -> None:
    reason = Revise(chain=chain).check(n)
    assert reason is None if fix is None else reason is not None and f"use n: {fix}" in reason


def test_one_chain_takes_any_amount() -> None:
    assert [n for n in range(6) if Revise(chain="all").check(n) is None] == [1, 2, 3, 4, 5]


@dataclass
class Reading:
    """A world that keeps the conversations it has read, in which attempts are as long as expected and all differ."""

    prompt: float = 100.0
    each: int = 40
    read: float = 0.0
    reach: float = 0.0
    unshared: float = 0.0
    known: set[tuple[Message, ...]] = field(default_factory=set)

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        return tuple(self._one(request) for request in requests if isinstance(request, Generate))

    def _one(self, request: Generate) -> Generated:
        turns = [request.messages[: 1 + 2 * at] for at in range(1 + len(request.messages) // 2)]
        lengths = [self.prompt + at * self.each for at in range(len(turns))]
        seen = max((length for turn, length in zip(turns, lengths, strict=True) if turn in self.known), default=0.0)
        self.known.add(request.messages)
        self.read += lengths[-1] - seen
        self.unshared += lengths[-1] * len(request.seeds)
        self.reach += float(attended(seen, lengths[-1] - seen))
        self.reach += float(attended(lengths[-1], self.each)) * len(request.seeds)
        texts = [f"{seed}" for seed in request.seeds]
        return Generated(tuple(Completion(text, self.each, Finish.END) for text in texts), Usage())


@pytest.mark.parametrize(
    ("strategy", "n"),
    [
        (Revise(), 4),
        (Revise(), 16),
        (Revise(chain=2), 6),
        (Revise(chain="all"), 12),
        (Revise(chain=8, window=2), 16),
        (Revise(chain=6, window=1), 6),
    ],
    ids=str,
)
def test_prediction_is_what_is_paid(strategy: Revise, n: int) -> None:
    world = Reading()
    conformance.drive(strategy, purchase(n), world)
    work = strategy.workload(n, Lengths(100.0, 40.0, 2.0), verified=False)
    assert work.prompt_tokens == pytest.approx(world.read)
    assert work.policy_attended == pytest.approx(world.reach)
    assert work.unshared_prompt_tokens == pytest.approx(world.unshared)
    assert work.completion_tokens == n * 40.0


def test_prediction_is_over_prompts() -> None:
    work = Revise().workload(8, Lengths(np.array([100.0, 10.0]), np.array([40.0, 20.0]), np.ones(2)), verified=True)
    alone = Revise().workload(8, Lengths(10.0, 20.0, 1.0), verified=True)
    assert np.asarray(work.unshared_prompt_tokens)[1] == alone.unshared_prompt_tokens
    assert np.asarray(work.verifier_tokens)[1] == alone.verifier_tokens
