"""Expected costs: lengths follow the model and the prompt, and one prompt asked alone is told what all are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_world import World, make_prompts
from made_pools import make_pool

from apportion.costs import Unit
from apportion.policies.registry import build_strategy
from apportion.scheduler.contest import default_select
from apportion.scheduler.dealing import RecordedModel, Table
from apportion.scheduler.expected import ExpectedCosts
from apportion.scheduler.lengths import FIRST_GUESS_TOKENS, ResponseLengths
from apportion.scheduler.meter import Meter
from apportion.types import Candidate, Draft, Finish, Generated, Purchase, Usage

EVERYONE = np.arange(6)


def written(tokens: int, steps: int = 1) -> Candidate:
    return Candidate("q", 0, "?", 0, Draft("", ("s",) * steps, tokens, Finish.END), "1", None)


@settings(max_examples=30)
@given(
    unit=st.sampled_from(list(Unit)),
    bought=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["vote", "best", "beam"]), st.integers(1, 4), st.integers(1, 60)),
        max_size=8,
    ),
)
def test_one_prompt_asked_alone_is_told_what_all_are_told(unit: Unit, bought: list[tuple[int, str, int, int]]) -> None:
    world = World(make_prompts(6), unit=unit)
    costs = world.allocation.problem.costs
    assert isinstance(costs, ExpectedCosts)
    for prompt, arm, n, tokens in bought:
        costs.learn(prompt, arm, n, [written(tokens, 1 + tokens // 9)] * n, 2.0 * n)
        for name, amount in (("vote", 1), ("vote", 4), ("best", 2), ("beam", 4)):
            together = costs.predict(EVERYONE, name, amount)
            assert together.shape == EVERYONE.shape
            for asked in (prompt, 0, prompt):
                assert costs.predict_one(asked, name, amount) == pytest.approx(together[asked], rel=1e-12)


@pytest.mark.parametrize("unit", [Unit.FLOPS, Unit.TOKENS, Unit.GPU_SECONDS])
def test_a_prompt_that_an_arm_has_read_is_not_read_again(unit: Unit) -> None:
    world = World(make_prompts(6), unit=unit)
    costs = world.allocation.problem.costs
    assert isinstance(costs, ExpectedCosts)
    before = {n: costs.predict(EVERYONE, "best", n) for n in (1, 2, 4)}
    reading = 2.0 * before[1] - before[2]
    assert (reading > 0.0).all()
    # As long as expected, and as dear: nothing else is learned.
    costs.learn(2, "best", 4, [written(int(FIRST_GUESS_TOKENS))] * 4, float(before[4][2]))
    for n in (1, 4):
        after = costs.predict(EVERYONE, "best", n)
        assert after[2] == pytest.approx(before[n][2] - reading[2], rel=1e-6)
        assert after[[0, 1, 3, 4, 5]] == pytest.approx(before[n][[0, 1, 3, 4, 5]], rel=1e-6)
        assert costs.predict(EVERYONE, "vote", n)[2] == pytest.approx(costs.predict_one(2, "vote", n))


def test_what_a_second_model_writes_says_nothing_of_how_long_the_first_writes() -> None:
    """A cascade's responses are the dear model's where it was asked; those that it judges are the first's."""
    vote = World(make_prompts(2)).arms[0]
    both = replace(vote, name="both", strategy=build_strategy("cascade", {}), second="dear", verifier=None)
    judged = replace(vote, name="judged", strategy=build_strategy("genrm", {}), second="dear", verifier=None)

    def expected_after(*bought: tuple[str, int]) -> float:
        meter = Meter({name: RecordedModel(name) for name in (vote.policy, "dear")})
        reads = {name: np.full(2, 10.0) for name in (vote.policy, "dear")}
        costs = ExpectedCosts([vote, both, judged], meter, Unit.TOKENS, reads)
        for name, tokens in bought:
            costs.learn(0, name, 4, [written(tokens)] * 4, 4.0 * tokens)
        return costs.predict_one(1, "vote", 4)

    assert expected_after(("vote", 20), ("both", 100)) == expected_after(("vote", 20))
    assert expected_after(("vote", 20), ("judged", 100)) > expected_after(("vote", 20))


def test_measured_speed_is_in_every_prediction_at_once() -> None:
    world = World(make_prompts(2), unit=Unit.GPU_SECONDS)
    costs, meter = world.allocation.problem.costs, world.machine.meter
    before = costs.predict_one(0, "vote", 2)
    (request,) = next(iter(world.machine._arms["vote"].strategy.plan(_task(world))))
    meter.charge(request, Generated((), Usage(completion_tokens=10, busy_seconds=1000.0)))
    after = costs.predict_one(0, "vote", 2)
    assert after > 100 * before
    assert after == pytest.approx(costs.predict(np.array([0]), "vote", 2)[0])


def _task(world: World):
    from apportion.policies.strategy import Task

    arm = world.arms[0]
    return Task(world.prompts[0].messages, arm.policy, None, arm.sampling, "\n", 2, 0, "k")


def test_each_model_has_its_own_length_and_each_prompt_its_own_stretch() -> None:
    lengths = ResponseLengths(3, ["cheap", "dear"], {})
    assert lengths.mean("cheap") == lengths.mean("dear") == FIRST_GUESS_TOKENS
    lengths.learn(0, "cheap", [10] * 4, 4)
    assert lengths.mean("dear") == 10.0, "a model nothing is known of is taken to write as the others"
    lengths.learn(1, "cheap", [30] * 4, 4)
    lengths.learn(1, "dear", [1500] * 4, 4)
    assert lengths.mean("cheap") == 20.0
    assert lengths.mean("dear") == 1500.0
    # Prompt 1 runs long whichever model writes; what is known of it from one tells of the other.
    assert lengths.ratio(0) == pytest.approx((4 * 0.5 + 4) / 8)
    assert lengths.ratio(1) == pytest.approx((4 * 1.5 + 4 * 1.0 + 4) / 12)
    assert lengths.ratio(2) == 1.0


def test_the_mean_is_over_prompts_not_candidates() -> None:
    lengths = ResponseLengths(2, ["m"], {})
    lengths.learn(0, "m", [100], 1)
    for _ in range(9):
        lengths.learn(1, "m", [300], 1)
    assert lengths.mean("m") == 200.0


def test_a_known_length_is_believed_until_it_is_outvoted() -> None:
    lengths = ResponseLengths(2000, ["m"], {"m": 5000.0})
    assert lengths.mean("m") == 5000.0
    lengths.learn(0, "m", [100], 1)
    assert lengths.mean("m") > 4500.0
    for prompt in range(1, 2000):
        lengths.learn(prompt, "m", [100], 1)
    assert lengths.mean("m") < 200.0


def test_a_recorded_pool_is_predicted_well_from_a_few_candidates() -> None:
    """Two arms of which one writes three times as much: the expected cost of each comes near its real one."""
    pool = make_pool(60, {"small": 10, "large": 10}, seed=4)
    table = Table(pool, Unit.TOKENS, {name: default_select(deck) for name, deck in pool.decks.items()}, False)
    meter = Meter({name: RecordedModel(name) for name in table.names})
    costs = ExpectedCosts(table.arms, meter, Unit.TOKENS, dict.fromkeys(table.names, np.zeros(60)))
    for prompt in range(60):
        rows = [table.drafts[table.offset["small"] + prompt * 10 + at] for at in range(4)]
        costs.learn(prompt, "small", 4, [_candidate(d) for d in rows], float(sum(d.tokens for d in rows)))
    rows = [table.drafts[table.offset["large"] + at] for at in range(4)]
    costs.learn(0, "large", 4, [_candidate(d) for d in rows], float(sum(d.tokens for d in rows)))
    for name, most in (("small", 0.15), ("large", 0.35)):
        deck = pool.deck(name)
        real = np.bincount(deck.owner, weights=deck.tokens) / 10
        expected = costs.predict(np.arange(60), name, 1)
        assert np.abs(expected.mean() / real.mean() - 1.0) < most
        assert np.corrcoef(expected, real)[0, 1] > 0.85


def _candidate(draft: Draft) -> Candidate:
    return Candidate("q", 0, "?", 0, draft, "1", None)


def test_a_prompts_expectation_is_for_what_its_purchase_holds() -> None:
    world = World(make_prompts(4), budget=1e6, script=[Purchase("vote", 2), Purchase("best", 2)])
    machine = world.run()
    costs = world.allocation.problem.costs
    spent = sum(cost for _, _, _, cost in world.allocation.seen)
    assert machine.ledger.spent == pytest.approx(spent)
    predicted = sum(costs.predict(np.arange(4), arm, 2).sum() for arm in ("vote", "best"))
    assert predicted == pytest.approx(spent, rel=0.3)
