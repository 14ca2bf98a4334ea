"""A world in which a search goes as a table says, and a run in it.

A beam is named by its path: `cab` is the second child of the first child of the third first step, and a `z` is the
greedy step. A dot marks a beam that ended its turn. `expanded` says which prefixes were asked to continue, and by how
many.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from apportion.policies import conformance
from apportion.policies.strategy import Strategy
from apportion.types import Completion, Draft, Finish, Generate, Generated, LogprobStats, Reply, Request, Scored, Usage

TOKENS = 10
"""of every step"""


@dataclass
class Script:
    """A world that follows a table and writes down what was asked of it."""

    table: str
    scores: dict[str, float] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    asked: list[dict[str, int]] = field(default_factory=list)
    rolled: list[list[str]] = field(default_factory=list)
    stops: list[tuple[str, ...]] = field(default_factory=list)
    scored: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path, dot, score in re.findall(r"([a-z]+)(\.?):(\.\d+)", self.table):
            self.scores[path] = float(score)
            if dot:
                self.ended.add(path)

    @property
    def rows(self) -> list[tuple[list[str], dict[str, int]]]:
        """What each round scores, and what it expands."""
        rows = []
        for line in self.table.strip().splitlines()[1:-1]:
            *_, written, expanded = line.split("|")
            wide = {path: int(width) for path, width in re.findall(r"([a-z]+)\*(\d)", expanded)}
            rows.append((re.findall(r"([a-z]+)\.?:", written), wide))
        return rows

    @property
    def finals(self) -> list[tuple[str, float]]:
        return [(path, float(score)) for path, score in re.findall(r"([a-z]+) (\.\d+)", self.table.split("finals:")[1])]

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        generates = [request for request in requests if isinstance(request, Generate)]
        if any(request.sampling.temperature == 0.0 for request in generates):
            assert all(request.sampling.temperature == 0.0 and len(request.seeds) == 1 for request in generates)
            self.rolled.append([request.prefix.replace("\n", "") for request in generates])
        elif generates:
            self.asked.append({request.prefix.replace("\n", ""): len(request.seeds) for request in generates})
            self.stops.append(generates[0].sampling.stop)
        return tuple(self._one(request) for request in requests)

    def _one(self, request: Request) -> Reply:
        usage = Usage(1, 1, 1)
        if isinstance(request, Generate):
            path = request.prefix.replace("\n", "")
            first = "z" if request.sampling.temperature == 0.0 else "a"
            names = [path + chr(ord(first) + at) for at in range(len(request.seeds))]
            return Generated(tuple(self._piece(name) for name in names), usage)
        self.scored.append(["".join(steps) for steps in request.responses])
        # Only the last step's score decides, so the earlier ones are anything.
        return Scored(tuple((*[0.5] * (len(s) - 1), self.scores["".join(s)]) for s in request.responses), usage)

    def _piece(self, name: str) -> Completion:
        ended = name in self.ended
        stats = LogprobStats(-0.1 * len(name), 0.2, 1.0)
        return Completion(name[-1] + ("" if ended else "\n"), TOKENS, Finish.END if ended else Finish.STOP, stats)


def run(strategy: Strategy, world: conformance.Answers, n: int, cut_at: int | None = None) -> tuple[Draft, ...]:
    """The drafts of a search in a world; at the yield numbered `cut_at` the budget ends."""
    return conformance.drive(strategy, conformance.task(n, verified=True), world, cut_at)


def check_schedule(strategy: Strategy, table: str) -> None:
    """A search of four goes as its table says, each round scores once what was written, and its finals have ended."""
    script = Script(table)
    drafts = run(strategy, script, 4)
    assert script.asked == [{"": 4}, *[expanded for _, expanded in script.rows if expanded]]
    assert script.scored == [written for written, _ in script.rows]
    assert [(name(draft), draft.step_scores[-1]) for draft in drafts if draft.step_scores] == script.finals
    assert all(draft.finish is Finish.END for draft in drafts)


def name(draft: Draft) -> str:
    """The path of a final."""
    return "".join(draft.steps)


def last_scores(drafts: tuple[Draft, ...]) -> dict[str, float | None]:
    """Path to the score of its last step, None where it was not scored."""
    return {name(draft): draft.step_scores[-1] if draft.step_scores else None for draft in drafts}
