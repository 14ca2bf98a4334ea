"""A reply that cannot be right costs its request, and never reaches the journal."""

from __future__ import annotations

import pytest

from apportion.codec import decode_reply, encode_reply
from apportion.errors import EngineError
from apportion.scheduler.replies import checked
from apportion.types import (
    Completion,
    Embed,
    Embedded,
    Finish,
    Generate,
    Generated,
    LogprobStats,
    Message,
    Reply,
    Sampling,
    Score,
    Scored,
    Usage,
)

ASKED = (Message("user", "q"),)
GENERATE = Generate("small", ASKED, (1, 2), Sampling())
SCORE = Score("prm", ASKED, (("a", "b"), ("c",)))
THREE = Score("prm", ASKED, (("a", "b", "c"),))
EMBED = Embed("small", ASKED)
USAGE = Usage(3, 4, 5, 0, 0.1)
DONE = Completion("x", 2, Finish.END, LogprobStats(-1.0, 1.0, 2.0))


@pytest.mark.parametrize(
    ("request_", "reply", "reason"),
    [
        (GENERATE, Generated((DONE,), USAGE), "gave 1 completions for 2 seeds"),
        (GENERATE, Scored(((0.5,),), USAGE), "answered a Generate with a Scored"),
        (GENERATE, Generated((DONE, DONE), Usage(-1)), "usage that cannot be"),
        (GENERATE, Generated((DONE, DONE), Usage(busy_seconds=float("nan"))), "usage that cannot be"),
        (EMBED, Scored(((0.5,),), USAGE), "answered a Embed with a Scored"),
        (EMBED, Embedded((), USAGE), "hidden state of 0 numbers"),
        (EMBED, Embedded((0.5, float("inf")), USAGE), "not all of them finite"),
        (EMBED, Embedded((0.5, 1e5), USAGE), "beyond those of a 16-bit float"),
        (SCORE, Scored(((0.5, 0.5),), USAGE), "scored 1 of 2 responses"),
        (THREE, Scored(((0.5, 0.5),), USAGE), "gave 2 scores for 3 steps"),
        (SCORE, Scored(((0.5, float("nan")), (0.5,)), USAGE), "outside of"),
        (SCORE, Scored(((0.5, 1.5), (0.5,)), USAGE), "outside of"),
    ],
)
def test_what_cannot_be_right_is_the_engines_fault(request_: Generate | Score, reply: Reply, reason: str) -> None:
    with pytest.raises(EngineError, match=reason) as caught:
        checked(request_, reply)
    # What was done for it is charged, unless it is the usage that cannot be.
    assert caught.value.usage == (USAGE if reply.usage == USAGE else None)


def test_a_hidden_state_is_known_as_the_journal_keeps_it() -> None:
    """Else a job that is resumed would guess otherwise, and grant otherwise."""
    reply = checked(EMBED, Embedded((0.1, -1 / 3, 1234.5678), USAGE))
    assert decode_reply(encode_reply(reply)) == reply
    assert isinstance(reply, Embedded)
    assert reply.vector == pytest.approx((0.1, -1 / 3, 1234.5678), rel=1e-3)


def test_sound_replies_pass_unchanged() -> None:
    assert checked(GENERATE, Generated((DONE, DONE), USAGE)) == Generated((DONE, DONE), USAGE)
    unread = Scored(((), (0.25,)), USAGE)
    assert checked(SCORE, unread) == unread
    whole = Scored(((0.75,),), USAGE)
    assert checked(THREE, whole) == whole, "an outcome reward model scores a response of three steps once"


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    broken = Completion("a\ud83d b", 2, Finish.END)
    reply = checked(GENERATE, Generated((broken, DONE), USAGE))
    assert isinstance(reply, Generated)
    assert reply.completions[0].text == "a? b"


def test_statistics_that_are_no_numbers_are_dropped_and_the_text_is_kept() -> None:
    odd = Completion("x", 2, Finish.END, LogprobStats(float("nan"), 1.0, 2.0))
    reply = checked(GENERATE, Generated((odd, DONE), USAGE))
    assert reply == Generated((Completion("x", 2, Finish.END), DONE), USAGE)
