"""Seeded generator of multi-step integer arithmetic told in short English.

Invariants: every running value is a whole number in [0, VALUE_FACTOR * operand_max]; a solution is one step a line and
a last line `Answer: N`; which split a story belongs to is a function of its numbers and operations alone (never of its
wording), so the splits are disjoint however many stories are drawn and from whatever seed.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "calibration", "test"]

MAX_OPS = 12
OPERAND_SIZES = (20, 100, 400)
MAX_DISTRACTORS = 3

VALUE_FACTOR = 5
# Running values stay within this many times the largest operand, so that digits, not growth, set the difficulty.

MULTIPLY_SHARE = 0.1
# Multiplications are rare: twelve doublings would leave any bound.

HELD_OUT_PERCENT = 10
# Of all chains, for test and for calibration each; one-operation stories are few, so a smaller share would run out.

NAMES = {"Ann": "She", "Ben": "He", "Cara": "She", "Dan": "He", "Eve": "She", "Finn": "He", "Gus": "He", "Hana": "She"}
ITEMS = ("boxes", "cups", "pens", "books", "coins", "cards", "stamps", "shells")
ADDING = ("buys {} more", "finds {} more", "gets {} more", "wins {}", "makes {}")
TAKING = ("sells {}", "loses {}", "gives away {}", "breaks {}", "uses {}")
MULTIPLYING = {2: "doubles them", 3: "triples them"}
DISTRACTING = ("has", "wants", "sees")


@dataclass(frozen=True, slots=True)
class Story:
    """One problem with its only solution and the knobs that made it."""

    problem: str
    answer: str
    solution: str
    chain: str
    ops: int
    operand_max: int
    distractors: int

    @property
    def split(self) -> Split:
        """The split this story's numbers and operations belong to."""
        return split_of(self.chain)

    def row(self, row_id: str) -> dict[str, str | int]:
        """The story as a dataset row."""
        return {
            "id": row_id,
            "problem": self.problem,
            "answer": self.answer,
            "solution": self.solution,
            "ops": self.ops,
            "operand_max": self.operand_max,
            "distractors": self.distractors,
        }


def split_of(chain: str) -> Split:
    """The split of a canonical chain such as `12 +5 -3 *2`: a hash of it, so no draw can move it."""
    bucket = int.from_bytes(hashlib.sha256(chain.encode()).digest()[:8], "big") % 100
    if bucket < HELD_OUT_PERCENT:
        return "test"
    return "calibration" if bucket < 2 * HELD_OUT_PERCENT else "train"


def draw_chain(rng: random.Random, ops: int, operand_max: int) -> tuple[int, list[tuple[str, int]]]:
    """A start value and `ops` (operator, operand) pairs whose running value never leaves its bounds."""
    ceiling = VALUE_FACTOR * operand_max
    start = value = rng.randint(1, operand_max)
    steps: list[tuple[str, int]] = []
    for _ in range(ops):
        operator = "*" if rng.random() < MULTIPLY_SHARE else rng.choice("+-")
        if operator == "*":
            factor = rng.choice((2, 3))
            if value == 0 or value * factor > ceiling:
                operator = "-"
            else:
                steps.append(("*", factor))
                value *= factor
                continue
        room = value if operator == "-" else ceiling - value
        if room < 1:
            operator, room = ("+", ceiling - value) if operator == "-" else ("-", value)
        operand = rng.randint(1, min(operand_max, room))
        steps.append((operator, operand))
        value += operand if operator == "+" else -operand
    return start, steps


def solve_chain(start: int, steps: list[tuple[str, int]]) -> tuple[list[str], int]:
    """The solution's step lines and the final value."""
    lines: list[str] = []
    value = start
    for operator, operand in steps:
        result = {"+": value + operand, "-": value - operand, "*": value * operand}[operator]
        lines.append(f"{value} {operator} {operand} = {result}")
        value = result
    return lines, value


def draw_story(rng: random.Random, ops: int, operand_max: int, distractors: int) -> Story:
    """A story of any split."""
    start, steps = draw_chain(rng, ops, operand_max)
    who = rng.choice(list(NAMES))
    item = rng.choice(ITEMS)
    pronoun = NAMES[who]
    sentences: list[str] = []
    for operator, operand in steps:
        if operator == "*":
            told = MULTIPLYING[operand]
        else:
            told = rng.choice(ADDING if operator == "+" else TAKING).format(operand)
        sentences.append(f"{pronoun} {told}.")
    for _ in range(distractors):
        # Of the other pronoun, so that "She" or "He" can only mean the protagonist.
        other = rng.choice([name for name, theirs in NAMES.items() if theirs != pronoun])
        thing = rng.choice([one for one in ITEMS if one != item])
        noise = f"{other} {rng.choice(DISTRACTING)} {rng.randint(1, operand_max)} {thing}."
        sentences.insert(rng.randint(0, len(sentences)), noise)
    problem = " ".join([f"{who} has {start} {item}.", *sentences, f"How many {item} does {who} have now?"])
    lines, answer = solve_chain(start, steps)
    chain = " ".join([str(start), *(f"{operator}{operand}" for operator, operand in steps)])
    return Story(problem, str(answer), "\n".join([*lines, f"Answer: {answer}"]), chain, ops, operand_max, distractors)


def draw_in_split(rng: random.Random, split: Split, ops: int, operand_max: int, distractors: int) -> Story:
    """A story of one split, by drawing until one belongs to it."""
    while True:
        story = draw_story(rng, ops, operand_max, distractors)
        if story.split == split:
            return story


def training_stories(rng: random.Random, max_ops: int = MAX_OPS) -> Iterator[Story]:
    """An endless stream of training stories over all knobs, up to `max_ops` operations."""
    while True:
        ops = rng.randint(1, max_ops)
        yield draw_in_split(rng, "train", ops, rng.choice(OPERAND_SIZES), rng.randint(0, MAX_DISTRACTORS))
