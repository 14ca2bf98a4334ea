"""Responses against simulation: what the selector would answer after k more candidates drawn from the belief itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from apportion.difficulty.arms import ArmResponses
from apportion.difficulty.belief import CONCENTRATIONS, World, believe
from apportion.difficulty.evidence import Evidence
from apportion.difficulty.grid import PASS
from apportion.difficulty.race import Weights
from apportion.difficulty.standing import Scene
from apportion.errors import ConfigError
from apportion.policies.arm import Arm
from apportion.policies.best_of_n import BestOfN
from apportion.types import Candidate, Draft, Finish, Sampling

AMOUNTS = (1, 2, 4, 8)
DRAWS = 4000
WEIGHTS = Weights(1.2, 0.25, 0.7, 0.35)


def arm(select="majority", amounts=AMOUNTS):
    return Arm("a", BestOfN(), "m", None, select, "last", amounts, Sampling())


def scene_of(answers, scores=None, world=None):
    world = world or World(lifts=np.zeros(1), unparsed=0.0)
    evidence = Evidence(1, 1)
    for at, answer in enumerate(answers):
        score = None if scores is None else scores[at]
        evidence.add(0, 0, [Candidate("0", at, "a", 0, Draft("", (), 1, Finish.END), answer, score)])
    rows = evidence.rows(slice(0, 1))
    return Scene(rows, believe(rows, world), world.prior)


def responses(select="majority", objective="accuracy", scored=False, lift=0.0):
    made = ArmResponses((arm(select),), objective)
    made.make(scored, np.array([lift]), np.ones(1), WEIGHTS)
    return made


def continued(scene, answers, k, rng):
    """One future drawn from the belief: who is right, the pass rate, and k more answers from the restaurant."""
    joint, concentration = scene.belief.joint[0], scene.belief.concentration[0]
    at = rng.choice(joint.size, p=joint.ravel())
    hypothesis, rate = divmod(at, len(PASS))
    order = list(dict.fromkeys(answers))
    right = order[hypothesis] if hypothesis < len(order) else "unseen right"
    wrong = Counter(answer for answer in answers if answer != right)
    alpha = concentration[hypothesis]
    if not answers:
        alpha = rng.choice(CONCENTRATIONS, p=World(lifts=np.zeros(1)).prior.sum(axis=0))
    future = []
    for _ in range(k):
        if rng.random() < PASS[rate]:
            future.append(right)
            continue
        seated = sum(wrong.values())
        if rng.random() < alpha / (alpha + seated):
            answer = f"new {len(wrong)}"
        else:
            answer = list(wrong)[rng.choice(len(wrong), p=np.array(list(wrong.values())) / seated)]
        wrong[answer] += 1
        future.append(answer)
    return right, future


def vote(answers, right):
    votes = Counter(answers)
    best = [answer for answer, count in votes.items() if count == max(votes.values())]
    return (right in best) / len(best) if best else 0.0


@pytest.mark.parametrize("answers", ["", "a", "ab", "aa", "aab", "aabb", "aabc", "abcd", "aaabbc", "aaaa"])
def test_the_majority_response_agrees_with_simulated_votes(answers):
    rng = np.random.default_rng(0)
    answers = list(answers)
    scene = scene_of(answers)
    value = responses().value(scene)[0]
    for column, k in ((1, 2), (3, 8)):
        played = []
        for _ in range(DRAWS):
            right, future = continued(scene, answers, k, rng)
            played.append(vote(answers + future, right))
        # Closed forms blur three-way finishes and the concentration; two deviations of the simulation are 0.016.
        assert value[column] == pytest.approx(np.mean(played), abs=0.045)


def test_the_present_value_is_that_of_the_leader_and_ties_are_shared():
    last = np.zeros(1, dtype=np.int16)
    made = responses()
    clear, tied = scene_of("aab"), scene_of("ab")
    assert made.present(clear, last)[0] == pytest.approx(clear.belief.right[0, 0])
    assert made.present(tied, last)[0] == pytest.approx(tied.belief.right[0, :2].mean())
    assert made.present(scene_of(""), last)[0] == 0.0


def test_one_more_vote_cannot_change_a_clear_lead():
    scene = scene_of("aaab")
    value = responses().value(scene)[0]
    assert value[0] == pytest.approx(responses().present(scene, np.zeros(1, dtype=np.int16))[0], abs=1e-4)


@pytest.mark.parametrize("select", ["weighted", "max_score"])
def test_responses_by_score_agree_with_simulated_choices(select):
    rng = np.random.default_rng(1)
    answers, scores = ["a", "b", "a"], [0.5, 0.8, 0.45]
    scene = scene_of(answers, scores)
    value = responses(select, scored=True).value(scene)[0]
    for column, k in ((0, 1), (3, 8)):
        played = []
        for _ in range(DRAWS):
            right, future = continued(scene, answers, k, rng)
            drawn = [
                np.clip(rng.normal(*((0.7, 0.15) if answer == right else (0.4, 0.2))), 0.0, 1.0) for answer in future
            ]
            total, best = Counter(), Counter()
            for answer, score in zip(answers + future, scores + drawn, strict=True):
                total[answer] += score
                best[answer] = max(best[answer], score)
            chosen = (total if select == "weighted" else best).most_common(1)[0][0]
            played.append(chosen == right)
        assert value[column] == pytest.approx(np.mean(played), abs=0.06)


def test_coverage_is_one_less_what_stays_unseen():
    scene = scene_of("ab")
    value = responses(objective="coverage").value(scene)[0]
    unseen = scene.belief.joint[0, -1]
    assert value == pytest.approx([1 - unseen @ (1 - PASS) ** k for k in AMOUNTS])
    assert responses(objective="coverage").present(scene, np.zeros(1, dtype=np.int16))[0] == pytest.approx(
        1 - unseen.sum()
    )


def test_a_better_arm_promises_more_and_shared_ancestors_promise_less():
    scene = scene_of("ab")
    plain, lifted = responses().value(scene)[0], responses(lift=1.5).value(scene)[0]
    assert (lifted > plain).all()
    bundled = ArmResponses((arm(),), "accuracy")
    bundled.make(False, np.zeros(1), np.full(1, 0.25), WEIGHTS)
    assert bundled.value(scene)[0][-1] < plain[-1]


def test_an_unknown_objective_is_named():
    with pytest.raises(ConfigError, match=r"objective 'coverge' is unknown: did you mean 'coverage'"):
        ArmResponses((arm(),), "coverge")


def test_many_prompts_at_once_are_each_as_alone():
    groups = ["", "a", "aab", "abcdef", "aabbccdd"]
    world = World(lifts=np.zeros(1), unparsed=0.0)
    evidence = Evidence(len(groups), 1)
    for prompt, group in enumerate(groups):
        drafts = [Candidate("0", at, "a", 0, Draft("", (), 1, Finish.END), answer) for at, answer in enumerate(group)]
        evidence.add(prompt, 0, drafts)
    rows = evidence.rows(slice(0, len(groups)))
    together = responses().value(Scene(rows, believe(rows, world), world.prior))
    for prompt, group in enumerate(groups):
        assert together[prompt] == pytest.approx(responses().value(scene_of(list(group)))[0], abs=1e-5)


def test_scores_count_only_once_there_are_some():
    made, scene = responses("weighted", scored=False), scene_of("aab")
    assert made.value(scene) == pytest.approx(responses("majority").value(scene))
    fitted = replace(World(lifts=np.zeros(1)), unparsed=0.0)
    assert scene_of("aab", world=fitted).belief.right[0] == pytest.approx(scene.belief.right[0])
