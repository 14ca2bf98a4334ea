"""A vLLM that runs in this process, and requests to it: what they end with, and what their failures mean."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from apportion.actors.spec import ModelSpec
from apportion.actors.vllm_args import OwnArgs
from apportion.actors.vllm_meter import BusyMeter
from apportion.actors.vllm_watch import Watch
from apportion.errors import BatchError, EngineError

CLOSE_SECONDS = 1.0
# Nothing is in flight that anybody waits for; after this vLLM kills its processes.

CAUSE = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception)): (.+)$", re.MULTILINE)
# The last line of a traceback.

T = TypeVar("T")


@dataclass(slots=True)
class Running:
    """A vLLM that runs. `llm` is its AsyncLLM; `context` the tokens a sequence may hold."""

    spec: ModelSpec
    own: OwnArgs
    llm: Any
    meter: BusyMeter
    context: int
    log: Path
    watch: Watch
    requests: int = 0

    def next_id(self) -> str:
        """A name for a request."""
        self.requests += 1
        return str(self.requests)

    async def last(self, ask: Callable[[str], AsyncIterator[Any]]) -> Any:
        """The last output of the request that `ask` sends by the name it is given; `meter` waits for its end."""
        result: Any = None
        self.meter.begin()
        try:
            async for output in ask(self.next_id()):
                result = output
        except asyncio.CancelledError:
            self.meter.drop()
            raise
        except Exception as error:
            self.meter.drop()
            raise self.failure(error) from error
        return result

    def failure(self, error: Exception) -> EngineError:
        """What an error of vLLM means to whoever sent the request."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        if isinstance(error, EngineError):
            return error
        if isinstance(error, EngineDeadError) or self.llm is None or self.llm.errored:
            why = cause_in(self.log) or str(error)
            return BatchError(f"the vLLM engine of model {self.spec.name!r} died: {why}", broken=True)
        cause = error.__cause__ or error
        if isinstance(cause, VLLMClientError):
            return EngineError(f"vLLM refused a request to model {self.spec.name!r}: {cause}")
        return BatchError(f"model {self.spec.name!r} failed on a request: {type(cause).__name__}: {cause}")

    def close(self) -> None:
        """Stop the engine's processes and forget its log."""
        llm, self.llm = self.llm, None
        if llm is not None:
            llm.shutdown(timeout=CLOSE_SECONDS)
            self.watch.end()
        shutil.rmtree(self.log.parent, ignore_errors=True)


async def together(parts: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all parts of a request end with. Cancelled, or where one fails, all of them are taken out of vLLM."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def cause_in(log: Path) -> str | None:
    """The first error that ended a traceback in a log of vLLM's; those that follow are its echoes."""
    if not log.is_file():
        return None
    found = CAUSE.search(log.read_text(errors="replace"))
    return f"{found[1]}: {found[2]}" if found else None
