"""The generator: deterministic, arithmetically right, bounded, and splits that cannot overlap."""

import json
import random
import re

import pytest

from apportion.lab.make_data import ROWS, dataset
from apportion.lab.paths import lab_path
from apportion.lab.stories import (
    MAX_DISTRACTORS,
    MAX_OPS,
    OPERAND_SIZES,
    VALUE_FACTOR,
    Story,
    draw_in_split,
    draw_story,
    split_of,
    training_stories,
)

STEP_LINE = re.compile(r"(\d+) ([+\-*]) (\d+) = (\d+)")


def drawn(count: int, seed: int = 0) -> list[Story]:
    rng = random.Random(seed)
    return [
        draw_story(rng, rng.randint(1, MAX_OPS), rng.choice(OPERAND_SIZES), rng.randint(0, MAX_DISTRACTORS))
        for _ in range(count)
    ]


def chain_of(problem: str) -> str:
    """The canonical chain read back from the English, by the protagonist's pronoun."""
    start, *sentences = re.findall(r"[^.?]+[.?]", problem)
    pronoun = {"Ann": "She", "Cara": "She", "Eve": "She", "Hana": "She"}.get(start.split()[0], "He")
    chain = [start.split()[2]]
    for sentence in sentences:
        words = sentence.strip(" .?").split()
        if words[0] != pronoun:
            continue
        if words[1] in ("doubles", "triples"):
            chain.append("*2" if words[1] == "doubles" else "*3")
        else:
            sign = "+" if words[1] in ("buys", "finds", "gets", "wins", "makes") else "-"
            chain.append(sign + next(word for word in words if word.isdigit()))
    return " ".join(chain)


def test_same_seed_same_stories() -> None:
    assert drawn(50, seed=3) == drawn(50, seed=3)
    assert drawn(50, seed=3) != drawn(50, seed=4)


def test_solutions_are_right_and_bounded() -> None:
    for story in drawn(500):
        *steps, last = story.solution.split("\n")
        assert len(steps) == story.ops
        value = int(story.chain.split()[0])
        for line in steps:
            left, operator, right, result = STEP_LINE.fullmatch(line).groups()  # type: ignore[union-attr]
            assert int(left) == value
            value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[operator](value, int(right))
            assert int(result) == value
            assert 0 <= value <= VALUE_FACTOR * story.operand_max
        assert last == f"Answer: {value}" == f"Answer: {story.answer}"


def test_the_english_says_what_the_chain_says() -> None:
    for story in drawn(300, seed=1):
        assert chain_of(story.problem) == story.chain
        assert story.problem.count(".") == story.ops + story.distractors + 1


def test_split_ignores_wording_and_is_respected() -> None:
    rng = random.Random(5)
    for split in ("train", "calibration", "test"):
        for _ in range(20):
            story = draw_in_split(rng, split, rng.randint(1, 4), 20, 1)
            assert story.split == split == split_of(chain_of(story.problem))
    stream = training_stories(random.Random(6))
    assert all(next(stream).split == "train" for _ in range(200))


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_shipped_data_is_what_the_script_makes(split: str) -> None:
    rows = [json.loads(line) for line in lab_path(f"lab:{split}").read_text().splitlines()]
    made = dataset(split)  # type: ignore[arg-type]
    assert len(rows) == ROWS
    assert rows == [story.row(f"{split}-{index:04d}") for index, story in enumerate(made)]
    assert {split_of(chain_of(row["problem"])) for row in rows} == {split}
    assert len({story.chain for story in made}) == ROWS
