"""The suite for engines and scorers catches what it is there to catch: each of its rules, by a model that breaks it."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Awaitable
from dataclasses import replace

import pytest
from actor_world import fake
from faulty_world import Fault, Faulty, Telling, disturbed, each, lower, marked, scores, shortened, stats, texts, used

from apportion.actors import conformance
from apportion.actors.conformance import CONVERSATION, check_embedder, check_engine, check_scorer
from apportion.actors.fake import FakeScorer
from apportion.actors.registry import describe
from apportion.actors.spec import Role
from apportion.types import Finish

POLICY, PRM = fake(), fake("prm", Role.SCORER)
PROMPT = describe(POLICY).count_prompt(CONVERSATION)

REFUSES = "a conversation longer than the context raises EngineError"
ALONE = "a refused request does not disturb others"
COUNTED = "a prompt is counted once a request, as the describer counts it; what was cached is told apart"
FOLLOWS = "attended positions follow costs.attended"
TAKES_TIME = "work takes time"
OF_ITS_SEED = "a completion depends on its seed, not on its place or on the seeds beside it"
BOUNDED = "a completion has at least one token and at most max_tokens"
STOPS = "text ends with the first stop string, which is kept"
SAME = "the same request gives the same completions in any batch"

ENGINE = [
    Fault("one completion a seed", lambda r, _: replace(r, seeds=r.seeds[1:] or r.seeds)),
    Fault(
        "different seeds give different completions at a high temperature",
        lambda r, _: replace(r, seeds=(0,) * len(r.seeds)),
    ),
    Fault(OF_ITS_SEED, lambda r, _: replace(r, seeds=tuple(range(len(r.seeds))))),
    Fault(OF_ITS_SEED, spoils=lambda r, reply, _: marked(r, reply, [len(set(r.seeds))] * len(r.seeds))),
    Fault(
        "temperature 0 gives the same completion for every seed",
        spoils=lambda r, reply, _: reply if r.sampling.temperature else marked(r, reply, r.seeds),
    ),
    Fault(SAME, spoils=lambda r, reply, beside: marked(r, reply, [len(beside)] * len(r.seeds))),
    Fault(
        "each reply holds its own request's completions",
        lambda r, beside: replace(r, seeds=beside[-1].seeds) if beside and len(r.seeds) > 3 else r,
    ),
    Fault(
        "so it is with why they ended",
        spoils=lambda r, reply, beside: each(reply, finish=Finish.STOP) if beside else reply,
    ),
    Fault(BOUNDED, lambda r, _: replace(r, sampling=replace(r.sampling, max_tokens=r.sampling.max_tokens + 1))),
    Fault(BOUNDED, spoils=lambda r, reply, _: each(reply, tokens=0)),
    Fault(
        "max_tokens cuts a completion and changes nothing else",
        spoils=lambda r, reply, _: texts(reply, lambda text: f"{r.sampling.max_tokens}{text}"),
    ),
    Fault(
        "a completion that ends for its length has max_tokens tokens", spoils=lambda r, reply, _: each(reply, tokens=1)
    ),
    Fault("log-probabilities are not positive", spoils=lambda r, reply, _: stats(reply, mean_logprob=0.1)),
    Fault("entropy is not negative", spoils=lambda r, reply, _: stats(reply, mean_entropy=-0.1)),
    Fault(
        "self-certainty is a KL divergence, not negative", spoils=lambda r, reply, _: stats(reply, self_certainty=-0.1)
    ),
    Fault(
        "completion tokens are those of all completions",
        spoils=lambda r, reply, _: used(reply, completion_tokens=reply.completions[0].tokens),
    ),
    Fault(COUNTED, spoils=lambda r, reply, _: used(reply, prompt_tokens=reply.usage.prompt_tokens * len(r.seeds))),
    Fault(COUNTED, spoils=lambda r, reply, beside: used(reply, prompt_tokens=0) if beside else reply),
    Fault(COUNTED, spoils=lambda r, reply, _: used(reply, cached_tokens=reply.usage.prompt_tokens)),
    Fault(COUNTED, spoils=lambda r, reply, _: used(reply, prompt_tokens=PROMPT) if r.prefix else reply),
    Fault(FOLLOWS, spoils=lambda r, reply, _: used(reply, attended=reply.usage.attended + 2)),
    Fault(TAKES_TIME, spoils=lambda r, reply, _: used(reply, busy_seconds=0.0)),
    Fault("a prefix is not repeated", spoils=lambda r, reply, _: texts(reply, lambda text: r.prefix + text)),
    Fault("a prefix changes what follows", lambda r, _: replace(r, prefix="")),
    Fault(
        "completions of 16 tokens have text",
        spoils=lambda r, reply, _: each(reply, text="") if r.sampling.max_tokens == 16 else reply,
    ),
    Fault(STOPS, lambda r, _: replace(r, sampling=replace(r.sampling, stop=()))),
    Fault(
        STOPS,
        spoils=lambda r, reply, _: (
            texts(reply, lambda text: text.removesuffix(r.sampling.stop[0])) if r.sampling.stop else reply
        ),
    ),
    Fault(
        "STOP says that a stop string came",
        spoils=lambda r, reply, _: each(reply, finish=Finish.END) if r.sampling.stop else reply,
    ),
    Fault(
        "a prefix that leaves no room is answered with empty completions that end for their length",
        spoils=lambda r, reply, _: each(reply, finish=Finish.END) if len(r.prefix) > 1000 else reply,
    ),
    Fault(REFUSES, shortened),
    Fault(ALONE, disturbed),
]

UNDISTURBED = "scores do not depend on what else is scored"
WORKS = "work attends and takes time"
NONE_BEYOND = "a response that does not fit the context gets no scores"
SCORER = [
    Fault("one score a step, and none for no steps", spoils=lambda r, reply, _: scores(reply, lambda s: s or (0.5,))),
    Fault("one score a step, and none for no steps", spoils=lambda r, reply, _: scores(reply, lambda s: s[-1:])),
    Fault("scores are in [0, 1]", spoils=lambda r, reply, _: scores(reply, lambda s: tuple(one * 2 for one in s))),
    Fault("scores are in [0, 1]", spoils=lambda r, reply, _: scores(reply, lambda s: tuple(one - 1 for one in s))),
    Fault(
        "scores do not depend on the order of the responses",
        spoils=lambda r, reply, _: replace(reply, scores=(lower(reply.scores[0]), *reply.scores[1:])),
    ),
    Fault(UNDISTURBED, spoils=lambda r, reply, beside: scores(reply, lower) if beside else reply),
    Fault(
        UNDISTURBED,
        spoils=lambda r, reply, beside: (
            replace(reply, scores=(reply.scores[0],) * len(r.responses)) if beside else reply
        ),
    ),
    Fault(
        "a step's score does not depend on later steps",
        spoils=lambda r, reply, _: scores(reply, lambda s: (*lower(s[:1]), *s[1:]) if len(s) > 1 else s),
    ),
    Fault("a scorer writes nothing", spoils=lambda r, reply, _: used(reply, completion_tokens=1)),
    Fault(
        "everything that is read is counted",
        spoils=lambda r, reply, _: used(reply, prompt_tokens=reply.usage.prompt_tokens // max(1, len(r.responses))),
    ),
    Fault(WORKS, spoils=lambda r, reply, _: used(reply, attended=0)),
    Fault(WORKS, spoils=lambda r, reply, _: used(reply, busy_seconds=0.0)),
    Fault("nothing to score costs nothing", spoils=lambda r, reply, _: used(reply, busy_seconds=0.1)),
    Fault(NONE_BEYOND, lambda r, _: replace(r, responses=tuple(steps[:3] for steps in r.responses))),
    Fault(
        "and those beside it are scored",
        spoils=lambda r, reply, _: scores(reply, lambda s: ()) if len(reply.scores) == 2 else reply,
    ),
    Fault(
        "also where it is the only one",
        spoils=lambda r, reply, _: replace(reply, scores=((0.5,),)) if reply.scores == ((),) else reply,
    ),
    Fault(REFUSES, shortened),
]

EMBEDDER = [
    Fault(
        "the same conversation has the same state in any batch",
        spoils=lambda r, reply, beside: replace(reply, vector=(0.0,) * 4) if beside else reply,
    ),
    Fault(
        "all states are equally wide",
        spoils=lambda r, reply, _: reply if r.messages == CONVERSATION else replace(reply, vector=reply.vector[:3]),
    ),
    Fault("another conversation has another state", spoils=lambda r, reply, _: replace(reply, vector=(0.5,) * 4)),
    Fault(COUNTED, spoils=lambda r, reply, _: used(reply, prompt_tokens=reply.usage.prompt_tokens - 1)),
    Fault(FOLLOWS, spoils=lambda r, reply, _: used(reply, attended=0)),
    Fault(TAKES_TIME, spoils=lambda r, reply, _: used(reply, busy_seconds=0.0)),
    Fault(REFUSES, shortened),
    Fault(ALONE, disturbed),
]


def broken(check: Awaitable[None]) -> str | None:
    """The rule that a suite names; None where it has nothing to say."""

    async def run() -> None:
        await check

    try:
        asyncio.run(run())
    except AssertionError as error:
        return str(error)
    return None


def engine_breaks(fault: Fault) -> str | None:
    return broken(check_engine(Faulty(Telling(POLICY), fault), describe(POLICY)))


def scorer_breaks(fault: Fault) -> str | None:
    return broken(check_scorer(Faulty(FakeScorer(PRM), fault), describe(PRM)))


def embedder_breaks(fault: Fault) -> str | None:
    return broken(check_embedder(Faulty(Telling(POLICY), fault), describe(POLICY)))


@pytest.mark.parametrize("fault", ENGINE, ids=lambda fault: fault.rule)
def test_an_engine_with_a_fault_is_caught(fault: Fault) -> None:
    assert engine_breaks(fault) == fault.rule


@pytest.mark.parametrize("fault", SCORER, ids=lambda fault: fault.rule)
def test_a_scorer_with_a_fault_is_caught(fault: Fault) -> None:
    assert scorer_breaks(fault) == fault.rule


@pytest.mark.parametrize("fault", EMBEDDER, ids=lambda fault: fault.rule)
def test_an_embedder_with_a_fault_is_caught(fault: Fault) -> None:
    assert embedder_breaks(fault) == fault.rule


def test_the_same_models_without_a_fault_pass() -> None:
    none = Fault("")
    assert (engine_breaks(none), scorer_breaks(none), embedder_breaks(none)) == (None, None, None)


def test_every_rule_of_the_suite_has_a_model_that_breaks_it() -> None:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(conformance))) if isinstance(node, ast.Call)]
    checks = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "_require"]
    rules = {ast.literal_eval(call.args[1]) for call in checks}
    assert {fault.rule for fault in (*ENGINE, *SCORER, *EMBEDDER)} == rules
