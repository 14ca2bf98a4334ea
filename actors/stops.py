"""Knowing when a completion has ended: end tokens, stop strings, cheaply.

Stop strings are searched in text, which is dear for each token. But a token can complete a stop string only if its own
text holds the stop's last character (or part of a character), so one table look-up for all rows says which to decode.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from apportion.actors.tokens import ChatTokenizer

UNDECODED = "\ufffd"
# What the bytes of an unfinished character decode to.


class StopTable:
    """Which tokens may end a completion, for every set of stop strings seen so far."""

    def __init__(self, tokenizer: ChatTokenizer, vocabulary: int, end_ids: Sequence[int], device: torch.device) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._end_ids = list(end_ids)
        self._device = device
        self._texts: list[str] | None = None
        self._kinds: dict[tuple[str, ...], int] = {}
        self.table = torch.zeros(0, vocabulary, dtype=torch.bool, device=device)
        """[kinds, vocabulary]: the tokens after which a row of that kind must be looked at"""

    def kind(self, stops: tuple[str, ...]) -> int:
        """The row of `table` for a set of stop strings."""
        known = self._kinds.get(stops)
        if known is not None:
            return known
        row = torch.zeros(1, self._vocabulary, dtype=torch.bool, device=self._device)
        row[0, self._end_ids] = True
        last = {stop[-1] for stop in stops if stop}
        if last:
            if self._texts is None:
                self._texts = self._tokenizer.vocabulary_texts(self._vocabulary)
            may = [index for index, text in enumerate(self._texts) if UNDECODED in text or not last.isdisjoint(text)]
            row[0, may] = True
        self.table = torch.cat((self.table, row))
        self._kinds[stops] = len(self._kinds)
        return self._kinds[stops]
