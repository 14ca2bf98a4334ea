"""A world of two models for strategies that ask both, by table: what is written, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from apportion.policies import conformance
from apportion.policies.strategy import Strategy, Task
from apportion.types import Completion, Draft, Finish, Generate, Generated, LogprobStats, Reply, Request, Scored, Usage

TOKENS = 10
"""of everything that is written"""


@dataclass
class TwoModels:
    """Answers each model's requests in the order they come; `judge` says what is answered to a question.

    `asked` has a line for each yield: the model and what it was asked, `policy*4`, `second(a)*2`, `verifier(a b)`.
    """

    writes: dict[str, Sequence[str]]
    """model to its texts, which it writes one after the other; a text that ends in a newline is a step, not the end"""
    judge: Callable[[str, int], str] | None = None
    """from the question and the number of the verdict to the verdict"""
    scores: dict[str, float] = field(default_factory=dict)
    """of a response by its last step"""
    asked: list[str] = field(default_factory=list)
    questions: list[Generate] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    _written: dict[str, int] = field(default_factory=dict)

    def reply(self, requests: tuple[Request, ...]) -> tuple[Reply, ...]:
        self.asked.append(" ".join(self._said(request) for request in requests))
        return tuple(self._one(request) for request in requests)

    def _said(self, request: Request) -> str:
        if not isinstance(request, Generate):
            return f"{request.model}({' '.join(''.join(steps) for steps in request.responses)})"
        shown = request.prefix.replace("\n", "") if self._own(request) else request.messages[-1].content
        return f"{request.model}({shown})*{len(request.seeds)}"

    def _own(self, request: Generate) -> bool:
        return request.messages == conformance.task(1, verified=False).messages

    def _one(self, request: Request) -> Reply:
        usage = Usage(1, 1, 1)
        if not isinstance(request, Generate):
            return Scored(tuple((*[0.5] * (len(s) - 1), self.scores[s[-1]]) for s in request.responses), usage)
        self.seeds.extend(request.seeds)
        if not self._own(request):
            assert self.judge is not None
            self.questions.append(request)
            texts = [self.judge(request.messages[-1].content, at) for at in range(len(request.seeds))]
            return Generated(tuple(Completion(text, TOKENS, Finish.END) for text in texts), usage)
        return Generated(tuple(self._piece(request.model) for _ in request.seeds), usage)

    def _piece(self, model: str) -> Completion:
        at = self._written.get(model, 0)
        self._written[model] = at + 1
        text = self.writes[model][at]
        finish = Finish.STOP if text.endswith("\n") else Finish.END
        return Completion(text, TOKENS, finish, LogprobStats(-0.1, 0.2, 1.0))


def carry_out(
    strategy: Strategy, world: TwoModels, purchase: Task | int, cut_at: int | None = None
) -> tuple[Draft, ...]:
    """The drafts of a purchase, of `n` without a verifier where only a number is given."""
    if isinstance(purchase, int):
        purchase = conformance.task(purchase, verified=False, second=True)
    return conformance.drive(strategy, purchase, world, cut_at)
