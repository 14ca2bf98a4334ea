"""QAlign: where chains cut and what they keep, that their states have the right distribution, and how they go on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.errors import ConfigError
from apportion.policies import conformance
from apportion.policies.aggregate import logit
from apportion.policies.qalign import LEAST_WEIGHT, QAlign, cuts
from apportion.policies.registry import build_strategy
from apportion.policies.strategy import Lengths, Task
from apportion.types import (
    Completion,
    Draft,
    Finish,
    Generate,
    Generated,
    LogprobStats,
    Reply,
    Request,
    Score,
    Scored,
    Usage,
)

# How to read a table: a row a round of one chain; what is kept of its state, what is written after that, the score of
# the two together, and the state that follows. A score ten thousand times the odds of the state's is all but certainly
# accepted, and one of a ten thousandth is all but certainly not.
CLIMBS_AND_STAYS = """
kept          | written         | score   | state
              | one two three   | .00001  | one two three
one two       | four five       | .5      | one two four five
one two four  | six             | .00001  | one two four five
              | seven           | .00001  | one two four five
one           | eight           | .99999  | one eight
one           | nine            | .5      | one eight
"""
CLIMBS = "k230"
"""The task with this key cuts as the table says."""

WRITING_ON_AT_A_WORD_IS_REJECTED = """
kept          | written         | score   | state
              | one two three   | .00001  | one two three
one two       | -fold           | .99999  | one two three
one two       | five            | .99999  | one two five
"""


@dataclass
class Words:
    """Follows a table for one chain, and checks what is kept."""

    table: str
    at: int = -1

    @property
    def rows(self) -> list[list[str]]:
        return [[cell.strip() for cell in line.split("|")] for line in self.table.strip().splitlines()[1:]]

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        (request,) = requests
        if isinstance(request, Generate):
            self.at += 1
            kept, written, *_ = self.rows[self.at]
            assert request.prefix == kept
            text = written if not kept or written.startswith("-") else f" {written}"
            return (Generated((Completion(text, len(text), Finish.END),), Usage(1, 1, 1)),)
        assert isinstance(request, Score)
        _, written, score, _ = self.rows[self.at]
        assert request.responses[-1][0].endswith(written)
        return (Scored(tuple((float(score),) for _ in request.responses), Usage(1, 0, 1)),)


TOLERANCE = 0.045
"""In total variation, of 16,000 states over 26 responses: three times as many would halve it."""


@dataclass
class Toy:
    """A language of three tokens and at most three of them: `a` and `b` begin words, and `x` writes on at one.

    Its probabilities and rewards are known, so that the target of a chain is, too.
    """

    generates: list[Generate] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)
    tokens: int = 0

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        return tuple(self._one(request) for request in requests)

    def _one(self, request: Request) -> Reply:
        if isinstance(request, Generate):
            self.generates.append(request)
            return Generated(tuple(self._written(request.prefix, seed) for seed in request.seeds), Usage(1, 1, 1))
        assert isinstance(request, Score)
        self.scored += [steps[0] for steps in request.responses]
        return Scored(tuple((reward(steps[0]),) for steps in request.responses), Usage(1, 0, 1))

    def _written(self, prefix: str, seed: int) -> Completion:
        text = prefix
        for place in range(len(letters(prefix)), 3):
            chance = conformance.draw(seed, place)
            for each, share in shares(text).items():
                token = each
                chance -= share
                if chance < 0.0:
                    break
            if not token:
                break
            text += token
        self.tokens += len(text) - len(prefix)
        return Completion(text[len(prefix) :], len(text) - len(prefix), Finish.END, LogprobStats(-1.0, 1.0, 2.0))


def letters(text: str) -> str:
    return text.replace(" ", "")


def shares(text: str) -> dict[str, float]:
    """What the next token is, "" for the end."""
    if not text:
        return {"a": 0.7, "b": 0.3}
    return {"": 0.35, " a": 0.15, " b": 0.3, "x": 0.2}


def reward(text: str) -> float:
    return 0.1 + 0.8 * conformance.draw(0, text)


def responses() -> dict[str, float]:
    """Every response of the toy language and its probability."""
    found, open_texts = dict[str, float](), {"": 1.0}
    while open_texts:
        text, chance = open_texts.popitem()
        for token, share in ({"": 1.0} if len(letters(text)) == 3 else shares(text)).items():
            if token:
                open_texts[text + token] = chance * share
            else:
                found[text] = chance * share
    return found


def normal(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {text: weight / total for text, weight in weights.items()}


def distance(left: dict[str, float], right: dict[str, float]) -> float:
    """Total variation."""
    return sum(abs(left.get(text, 0.0) - right.get(text, 0.0)) for text in {*left, *right}) / 2.0


def toy_task(n: int, earlier: tuple[Draft, ...] = (), key: str = "key") -> Task:
    whole = conformance.task(n, drawn=len(earlier), verified=True, earlier=earlier)
    return replace(whole, step_separator="", key=key)


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_states_go_to_the_policy_times_the_exponential_of_the_reward(beta: float) -> None:
    target = normal({text: p * math.exp(logit(reward(text)) / beta) for text, p in responses().items()})
    states = conformance.drive(QAlign(chains=4, beta=beta), toy_task(16_000), Toy())
    seen = normal(Counter(draft.text for draft in states[400:]))
    assert distance(seen, target) < TOLERANCE
    # The tolerance tells the target from that of chains without the ratio of lengths, or without a reward.
    without_lengths = normal({text: p * len(cuts(text)) for text, p in target.items()})
    assert distance(target, without_lengths) > 2.0 * TOLERANCE
    assert distance(target, responses()) > 2.0 * TOLERANCE


@pytest.mark.parametrize(("table", "key"), [(CLIMBS_AND_STAYS, CLIMBS), (WRITING_ON_AT_A_WORD_IS_REJECTED, "k6")])
def test_schedule(table: str, key: str) -> None:
    world = Words(table)
    drafts = conformance.drive(QAlign(chains=1), toy_task(len(world.rows), key=key), world)
    assert [draft.text for draft in drafts] == [row[-1] for row in world.rows]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", [""]),
        ("one", [""]),
        ("one two", ["", "one"]),
        ("one.\ntwo three", ["", "one.\n", "one.\ntwo"]),
        ("one\n\n  two ", ["", "one\n\n"]),
        (" one\ttwo", ["", " one"]),
    ],
)
def test_a_response_is_cut_where_a_further_word_begins(text: str, kept: list[str]) -> None:
    assert [text[:at] for at in cuts(text)] == kept


@given(st.text(" \nab", max_size=30))
def test_a_cut_does_not_depend_on_what_is_written_after_it_begins(text: str) -> None:
    for at in cuts(text)[1:]:
        assert text[:at].strip()
        # The next word, alone, is cut at the same place.
        assert at in cuts(
            text[:at] + text[at:].split()[0] if text[at - 1] == "\n" else f"{text[:at]} {text[at:].split()[0]}"
        )


def test_chains_go_on_across_purchases() -> None:
    strategy = QAlign(chains=2)
    whole = conformance.drive(strategy, toy_task(12), Toy())
    earlier: tuple[Draft, ...] = ()
    later = Toy()
    for n in (2, 6, 4):
        earlier += conformance.drive(strategy, toy_task(n, earlier), later)
    told = [(draft.text, draft.tokens, draft.step_scores, draft.group) for draft in whole]
    assert [(draft.text, draft.tokens, draft.step_scores, draft.group) for draft in earlier] == told
    assert [draft.group for draft in whole] == [0, 1] * 6
    assert len(set(later.generates)) == len(later.generates)
    assert sum(not request.prefix and len(request.seeds) == 2 for request in later.generates) == 1


def test_what_was_cut_off_before_its_score_is_scored_by_the_next_purchase() -> None:
    strategy = QAlign(chains=2)
    begun = conformance.drive(strategy, toy_task(4), Toy(), cut_at=1)
    assert [draft.step_scores for draft in begun] == [None, None]
    world = Toy()
    states = conformance.drive(strategy, toy_task(4, begun), world)
    assert {draft.text for draft in begun} <= set(world.scored)
    assert [draft.text for draft in states] == [d.text for d in conformance.drive(strategy, toy_task(6), Toy())[2:]]


@pytest.mark.parametrize(("cut_at", "states"), [(0, 0), (1, 2), (2, 2), (3, 2), (4, 4), (5, 4), (6, 6), (7, 6)])
def test_cut_off_returns_whole_rounds(cut_at: int, states: int) -> None:
    whole = conformance.drive(QAlign(chains=2), toy_task(8), Toy())
    left = conformance.drive(QAlign(chains=2), toy_task(8), Toy(), cut_at)
    assert [draft.text for draft in left] == [draft.text for draft in whole[:states]]
    assert all(draft.finish is Finish.END for draft in left)


def test_a_suffix_is_asked_for_within_what_is_left_of_max_tokens() -> None:
    world = Toy()
    conformance.drive(QAlign(chains=4), toy_task(80), world)
    for request in world.generates:
        assert request.sampling.max_tokens == 1000 - len(request.prefix)
    assert {len(letters(request.prefix)) for request in world.generates} == {0, 1, 2}


def test_tokens_and_statistics_of_what_is_kept_are_its_share() -> None:
    before = Draft("aaaa bbbbb", ("aaaa bbbbb",), 20, Finish.END, LogprobStats(-1.0, 1.0, 2.0), (0.00001,))

    class Once:
        def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
            if isinstance(requests[0], Generate):
                assert (requests[0].prefix, requests[0].sampling.max_tokens) == ("aaaa", 992)
                stats = LogprobStats(-4.0, 1.0, 2.0)
                return (Generated((Completion(" c", 4, Finish.LENGTH, stats),), Usage(1, 4, 1)),)
            return (Scored(((0.9,),), Usage(1, 0, 1)),)

    (draft,) = conformance.drive(QAlign(chains=1), toy_task(1, (before,), key="k0"), Once())
    assert (draft.text, draft.tokens, draft.finish) == ("aaaa c", 12, Finish.LENGTH)
    assert draft.stats is not None
    assert draft.stats.mean_logprob == pytest.approx(-2.0)
    assert not draft.stats.exact


def test_repeats_share_their_weight() -> None:
    drafts = conformance.drive(QAlign(chains=1), toy_task(6, key=CLIMBS), Words(CLIMBS_AND_STAYS))
    three, five, eight = (draft.weight for draft in (drafts[0], drafts[1], drafts[4]))
    # "one" (3 characters) is held by all six, " two" by four, " three" by one and " four five" by three.
    assert three == pytest.approx((3 / 6 + 4 / 4 + 6) / 13)
    assert five == pytest.approx((3 / 6 + 4 / 4 + 10 / 3) / 17)
    assert eight == pytest.approx((3 / 6 + 6 / 2) / 9)
    assert [draft.weight for draft in drafts] == [three, five, five, five, eight, eight]


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
def test_a_token_counts_once_as_evidence_over_all_purchases(chains: int, first: int, second: int) -> None:
    world, earlier, strategy = Toy(), tuple[Draft, ...](), QAlign(chains=chains)
    for rounds in (first, second):
        before = world.tokens
        drafts = conformance.drive(strategy, toy_task(rounds * chains, earlier), world)
        counted = sum(draft.weight * draft.tokens for draft in drafts if draft.weight > LEAST_WEIGHT)
        assert counted <= world.tokens - before + 1e-9
        earlier += drafts


@pytest.mark.parametrize("strategy", [QAlign(), QAlign(chains=1), QAlign(2, 0.1, "min"), QAlign(16)], ids=str)
def test_conforms(strategy: QAlign) -> None:
    conformance.check_strategy(strategy, ns=(1, 2, 4, 16, 64))


def test_a_move_is_predicted_to_write_half_of_a_response_and_read_the_other() -> None:
    lengths = Lengths(100.0, 60.0, 3.0)
    first, whole = (QAlign().workload(n, lengths, verified=True) for n in (4, 16))
    assert (first.prompt_tokens, first.completion_tokens) == (100.0, 4 * 60.0)
    assert (whole.prompt_tokens, whole.completion_tokens) == (100.0 + 12 * 30.0, 4 * 60.0 + 12 * 30.0)
    assert whole.unshared_prompt_tokens == 16 * 100.0 + 12 * 30.0
    assert whole.verifier_tokens == 100.0 + 16 * 60.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chains": 0}, "qalign.chains is 0; it must be 1 or more"),
        ({"beta": 0}, "qalign.beta is 0; it must be above 0 and finite"),
        ({"beta": float("inf")}, "qalign.beta is inf"),
        ({"aggregate_search": "first"}, "qalign.aggregate_search is 'first'"),
        ({"chain": 2}, "did you mean 'chains'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_strategy("qalign", settings)


@pytest.mark.parametrize(("n", "fix"), [(0, "use n: 4 or 8"), (3, "use n: 4 or 8"), (10, "use n: 8 or 12")])
def test_states_are_shared_equally(n: int, fix: str) -> None:
    assert QAlign().check(8) is None
    assert fix in str(QAlign().check(n))
