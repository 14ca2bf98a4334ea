"""What every strategy must do, as one call: `check_strategy(MyStrategy())` raises AssertionError where it does not.

A scripted world answers the requests: deterministic completions of one to five steps, a score for each step, no engine.
A token is a character, so that what a draft claims to have cost can be counted from its text.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from apportion.policies.strategy import (
    CutOff,
    Lengths,
    Strategy,
    Task,
    Workload,
    draws_independently,
    extends_conversation,
    judges,
    needs_second,
)
from apportion.types import (
    Completion,
    Draft,
    Finish,
    Generate,
    Generated,
    LogprobStats,
    Message,
    Reply,
    Request,
    Sampling,
    Score,
    Scored,
    Usage,
)

SEPARATOR = "\n"
LONGEST = 5
"""Steps of the longest scripted response."""

YIELDS = 10_000
"""A strategy that asks more often than this for one purchase does not end."""


def draw(seed: int, *parts: object) -> float:
    """A number in [0, 1) that depends on its arguments alone."""
    digest = hashlib.blake2b(repr((seed, parts)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2.0**48


class Answers(Protocol):
    """What requests can be sent to."""

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        """The replies to requests that were yielded together."""
        ...


@dataclass(slots=True)
class World:
    """Answers requests the same way each time, and remembers them."""

    requests: list[tuple[Request, ...]] = field(default_factory=list)

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        """The replies to requests that were yielded together."""
        self.requests.append(requests)
        return tuple(self._answer(request) for request in requests)

    def _answer(self, request: Request) -> Reply:
        assert isinstance(request, Generate | Score), f"a strategy asked for a {type(request).__name__}"
        return self.generated(request) if isinstance(request, Generate) else self.scored(request)

    def generated(self, request: Generate) -> Generated:
        """One completion a seed; it ends at a stop string, at max_tokens, or when its steps are written."""
        completions = tuple(self.completion(request, seed) for seed in request.seeds)
        return Generated(completions, Usage(1, sum(c.tokens for c in completions), 1))

    def completion(self, request: Generate, seed: int) -> Completion:
        """The rest of a response of one to LONGEST steps, given its prefix."""
        text, finish = "", Finish.END
        for step in range(request.prefix.count(SEPARATOR), LONGEST):
            digit = int(draw(seed, step) * 10)
            if step == LONGEST - 1 or draw(seed, step, "end") < 0.25:
                text += f"Answer: {digit}"
                break
            text += f"add {digit}{SEPARATOR}"
            if SEPARATOR in request.sampling.stop:
                finish = Finish.STOP
                break
        if len(text) > request.sampling.max_tokens:
            text, finish = text[: request.sampling.max_tokens], Finish.LENGTH
        return Completion(text, len(text), finish, LogprobStats(-0.5, 0.5, 2.0))

    def scored(self, request: Score) -> Scored:
        """A score for each step, which depends on the steps up to it."""
        scores = tuple(tuple(draw(0, steps[: at + 1]) for at in range(len(steps))) for steps in request.responses)
        return Scored(scores, Usage(sum(len(step) for steps in request.responses for step in steps), 0, 1))


def answer_in(text: str) -> str | None:
    """The answer in a scripted response."""
    return text.rpartition("Answer: ")[2] if "Answer: " in text else None


def task(
    n: int,
    *,
    drawn: int = 0,
    verified: bool,
    max_tokens: int = 1000,
    second: bool = False,
    earlier: tuple[Draft, ...] = (),
) -> Task:
    """A purchase in the scripted world; `second` says whether it has a second policy model."""
    return Task(
        messages=(Message("user", "What is it?"),),
        policy="policy",
        verifier="verifier" if verified else None,
        sampling=Sampling(max_tokens=max_tokens),
        step_separator=SEPARATOR,
        n=n,
        drawn=drawn,
        key="seed:prompt:arm",
        second="second" if second else None,
        read=answer_in,
        earlier=earlier,
    )


def drive(strategy: Strategy, purchase: Task, world: Answers, cut_at: int | None = None) -> tuple[Draft, ...]:
    """Carry a purchase out in a world; at the yield numbered `cut_at` the budget ends."""
    plan = strategy.plan(purchase)
    try:
        requests = next(plan)
        for at in range(YIELDS):
            if at == cut_at:
                plan.throw(CutOff())
                raise AssertionError(f"{strategy.name} yields again after CutOff; it must return what it has")
            requests = plan.send(world.reply(requests))
    except StopIteration as end:
        drafts: tuple[Draft, ...] = end.value
        return drafts
    raise AssertionError(f"{strategy.name} asked {YIELDS} times for n = {purchase.n} and did not end")


def check_strategy(strategy: Strategy, ns: Sequence[int] = (1, 4, 16)) -> None:
    """Run the whole suite for the amounts that the strategy accepts, of which there must be one.

    Raises AssertionError that names the strategy, the rule and the amount.
    """
    amounts = [n for n in ns if strategy.check(n) is None]
    assert amounts, f"{strategy.name} accepts none of n = {list(ns)}: {strategy.check(ns[0])}"
    assert strategy.check(0), f"{strategy.name}.check(0) must say why nothing cannot be bought"
    for verified in (True,) if strategy.needs_verifier else (False,) if judges(strategy) else (True, False):
        for n in amounts:
            check_drafts(strategy, n, verified)
            check_seeds(strategy, n, verified)
            check_cut_off(strategy, n, verified)
        check_workload(strategy, amounts, verified)


def check_drafts(strategy: Strategy, n: int, verified: bool) -> None:
    """Exactly n drafts, the same each time, whose text, tokens, steps and scores agree; also where length runs out."""
    for max_tokens in (1000, 12, 1):
        where = f"{strategy.name}, n = {n}, max_tokens = {max_tokens}"
        purchase = task(n, verified=verified, max_tokens=max_tokens, second=needs_second(strategy))
        first, second = World(), World()
        drafts = drive(strategy, purchase, first)
        assert drafts == drive(strategy, purchase, second), f"{where}: the same replies gave other drafts"
        assert first.requests == second.requests, f"{where}: the same replies gave other requests"
        assert len(drafts) == n, f"{where}: {len(drafts)} drafts came back"
        check_requests(strategy, purchase, first)
        for draft in drafts:
            assert draft.tokens == len(draft.text), f"{where}: {draft.text!r} claims {draft.tokens} tokens"
            assert draft.tokens <= max_tokens, f"{where}: {draft.text!r} is longer than max_tokens"
            assert "".join(draft.steps) == "".join(s.strip() for s in draft.text.split(SEPARATOR)), f"{where}: steps"
            assert 0.0 < draft.weight <= 1.0, f"{where}: weight {draft.weight} is not in (0, 1]"
            if draws_independently(strategy):
                assert draft.weight == 1.0, f"{where}: weight {draft.weight} of a draft that shares nothing"
            scored = draft.step_scores
            if not judges(strategy):
                assert (scored is not None) == verified, f"{where}: step_scores {scored} with verified = {verified}"
                assert scored is None or len(scored) == len(draft.steps), f"{where}: {scored} for {draft.steps}"
            elif scored:
                assert all(0.0 <= one <= 1.0 for one in scored), f"{where}: scores {scored} are not in [0, 1]"


def check_requests(strategy: Strategy, purchase: Task, world: World) -> None:
    """Requests are non-empty and go to the models of the task, with its conversation and within its sampling."""
    for requests in world.requests:
        assert requests, f"{strategy.name} yielded no request"
        for request in requests:
            second = purchase.second is not None and request.model == purchase.second
            own = request.messages
            if extends_conversation(strategy) and isinstance(request, Generate):
                own = own[: len(purchase.messages)]
            assert second or own == purchase.messages, f"{strategy.name} lost the conversation"
            if isinstance(request, Generate):
                assert second or request.model == purchase.policy, f"{strategy.name} asked {request.model} to write"
                assert request.seeds, f"{strategy.name} asked for no completion"
                # A question to the second model is answered at its own length.
                bounded = not second or own == purchase.messages
                room = purchase.sampling.max_tokens - len(request.prefix) if bounded else math.inf
                assert 0 < request.sampling.max_tokens <= room, f"{strategy.name}: no room for {request}"
            else:
                assert isinstance(request, Score), f"{strategy.name} asked for a {type(request).__name__}"
                assert request.model == purchase.verifier, f"{strategy.name} asked {request.model} to score"
                assert all(request.responses or [()]), f"{strategy.name} asked to score nothing"


def check_seeds(strategy: Strategy, n: int, verified: bool) -> None:
    """No seed is used twice, in one purchase or in the next one of the same arm."""
    world = World()
    earlier: tuple[Draft, ...] = ()
    for drawn in (0, n):
        purchase = task(n, drawn=drawn, verified=verified, second=needs_second(strategy), earlier=earlier)
        earlier = drive(strategy, purchase, world)
    generates = [request for requests in world.requests for request in requests if isinstance(request, Generate)]
    uses = Counter(seed for request in generates for seed in request.seeds)
    repeated = [seed for seed, count in uses.items() if count > 1]
    assert not repeated, f"{strategy.name}, n = {n}: seeds {repeated[:3]} are used twice"


def check_cut_off(strategy: Strategy, n: int, verified: bool) -> None:
    """Cut off at any yield, it returns at most n drafts, each made of what was written."""
    purchase = task(n, verified=verified, second=needs_second(strategy))
    whole = World()
    drive(strategy, purchase, whole)
    for at in range(len(whole.requests)):
        world = World()
        drafts = drive(strategy, purchase, world, cut_at=at)
        where = f"{strategy.name}, n = {n}, cut off at yield {at}"
        assert len(drafts) <= n, f"{where}: {len(drafts)} drafts came back"
        assert world.requests == whole.requests[:at], f"{where}: other requests"
        assert all(draft.tokens == len(draft.text) for draft in drafts), f"{where}: tokens and text disagree"
        assert at > 0 or not drafts, f"{where}: drafts before anything was written"


def check_workload(strategy: Strategy, ns: Sequence[int], verified: bool) -> None:
    """Expected work is positive, grows with n, counts the verifier, and broadcasts over prompts."""
    many = Lengths(np.array([50.0, 10.0]), np.array([200.0, 90.0]), np.array([5.0, 2.0]))
    before: Workload | None = None
    for n in sorted(set(ns)):
        where = f"{strategy.name}.workload({n})"
        work = strategy.workload(n, Lengths(50.0, 200.0, 5.0), verified)
        least = min(work.prompt_tokens - 49.0, work.completion_tokens, work.policy_attended)
        assert least > 0, f"{where} leaves out the prompt or the completions: {work}"
        assert work.samples >= n, f"{where} counts {work.samples} samples"
        counted = work.verifier_tokens > 0 and work.verifier_attended > 0
        assert counted == verified, f"{where}: verifier work {work.verifier_tokens} with verified = {verified}"
        assert before is None or work.completion_tokens > before.completion_tokens, f"{where} does not grow with n"
        arrays = strategy.workload(n, many, verified)
        for name in Workload.__slots__:
            one, both = getattr(work, name), np.asarray(getattr(arrays, name))
            if one is None:
                continue
            if name.startswith("second_") and not needs_second(strategy):
                assert not np.any(both), f"{where}.{name} counts a second model, and there is none"
                continue
            assert both.shape == (2,), f"{where}.{name} has shape {both.shape} for two prompts"
            assert np.isclose(both[0], one), f"{where}.{name}: {both[0]} in an array, {one} alone"
        before = work
