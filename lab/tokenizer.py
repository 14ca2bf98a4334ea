"""The lab's tokenizer: Qwen2's own kind (byte-level BPE), with just enough merges for the stories' words.

One token a word of the stories with its leading space, one a digit, one a byte of anything else. Invariants:
`decode(encode(text)) == text` for any text in Unicode's composed form; all lab models ship the same `tokenizer.json`.

It is Qwen2's kind because transformers 5 builds that class for every model of this type, whatever the tokenizer's
files ask for: the splitting rule below must be Qwen2's, character for character.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from apportion.lab.stories import ADDING, DISTRACTING, ITEMS, MULTIPLYING, NAMES, TAKING

EOS: Final = "<|endoftext|>"
PAD: Final = "<pad>"
STEP: Final = "<extra_0>"
SPECIALS: Final = (EOS, PAD, STEP)

CONTEXT: Final = 512

QWEN2_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPACE: Final = "\u0120"
# How byte-level BPE writes a space.

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] != 'assistant' %}{{ '\\n' }}{% endif %}{% endfor %}"
)


def words() -> list[str]:
    """Every token of more than one character, as BPE writes it, in a fixed order."""
    told = " ".join([*ADDING, *TAKING, *MULTIPLYING.values(), *DISTRACTING, *ITEMS, *NAMES.values()]).replace("{}", "")
    spaced = sorted({*told.split(), *NAMES, "How", "many", "does", "have", "now", "+", "-", "*", "="})
    return [*(f"{SPACE}{word}" for word in spaced), *NAMES, "Answer"]


def learn_merges(targets: list[str]) -> list[tuple[str, str]]:
    """The merges that make each target one token: byte-pair encoding run to the end, ties in alphabetical order."""
    pieces = [list(word) for word in targets]
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in pieces):
        pairs = Counter(pair for word in pieces for pair in pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = [_merged(word, best) for word in pieces]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def build() -> Tokenizer:
    """The tokenizer itself."""
    merges = learn_merges(words())
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *dict.fromkeys(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that is one."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"{token!r} is no token of this tokenizer; use encode() for text")
    return int(found)


def save(folder: Path, context: int = CONTEXT) -> None:
    """Write tokenizer.json and its configuration into the folder of a model with this context."""
    folder.mkdir(parents=True, exist_ok=True)
    build().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": context,
        "eos_token": EOS,
        "pad_token": PAD,
        "bos_token": None,
        "unk_token": None,
        "additional_special_tokens": [STEP],
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
