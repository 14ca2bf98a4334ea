"""Every error apportion raises on purpose. A message gives the value, the rule and the next step.

ApportionError
|-- ConfigError          a key, a name or a value in the config (nothing has been spent)
|-- DataError            the dataset as a whole cannot be used (single bad rows are set aside, not raised)
|-- ModelError           a model that is not there, cannot be loaded, or is of the wrong kind
|-- CapacityError        the cluster cannot hold what the config asks for
|-- SubmissionError      a cluster's dashboard that does not answer, refuses the token, or does not know the job
|-- RunDirectoryError    the run directory belongs to another config or another job is writing to it
|-- JournalError         the journal is broken, or replaying it does not give the recorded grants
|-- BudgetError          the budget cannot buy the cheapest purchase, or a ledger law was about to break
|-- ClusterLostError     every replica of a model is gone; run the same command again to resume
`-- EngineError          an engine or scorer failed on a request
    |-- BatchError       the model failed on a batch that held it; a backend tries it again in smaller company
    `-- ReplicaDiedError the actor that ran it died, and it was alone there
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from apportion.types import Usage


class ApportionError(Exception):
    """Base of all errors a user can meet; the command line prints its message without a traceback and exits with 2."""


class ConfigError(ApportionError):
    """A config that cannot be run."""


class DataError(ApportionError):
    """A dataset that cannot be used at all."""


class ModelError(ApportionError):
    """A model that is missing or cannot be loaded."""


class CapacityError(ApportionError):
    """More replicas, CPUs or GPUs than the cluster has."""


class SubmissionError(ApportionError):
    """A job that cannot be submitted to a cluster, or looked at there."""


class RunDirectoryError(ApportionError):
    """A run directory that this job must not write to."""


class JournalError(ApportionError):
    """A journal that cannot be replayed."""


class BudgetError(ApportionError):
    """A budget that buys nothing, or a reservation beyond what is left."""


class ClusterLostError(ApportionError):
    """Nothing is left to run a model on. No request is to blame: the job stops, and can be resumed."""


class EngineError(ApportionError):
    """An engine or scorer that failed on a request. `usage` is what it cost all the same, None for nothing."""

    usage: Usage | None = None

    def charged(self, usage: Usage | None) -> Self:
        """This error, with what the failed work cost."""
        self.usage = usage
        return self


class BatchError(EngineError):
    """A model that failed on a batch: which of its requests is to blame is not known.

    `alone` says that the batch held one request; `broken` that the model will answer nothing any more.
    """

    def __init__(self, message: str, alone: bool = False, broken: bool = False) -> None:
        super().__init__(message)
        self.alone = alone
        self.broken = broken


class ReplicaDiedError(EngineError):
    """The actor process that held the request died, more than once, and in the end it held this request alone."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence naming the nearest known name and all known ones, for error messages."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) if names else 'none'}"
