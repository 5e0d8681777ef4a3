"""Gives an embedded model's tokenizer further merges, so that texts it was not made for become fewer tokens.

All tokens and merges that it has keep their ids and ranks; a new token's embedding begins as the mean of the tokens
that it is made of.
"""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from transformers import PreTrainedModel, Qwen2Tokenizer

Word = tuple[str, ...]  # a piece of text as symbols of the byte-level alphabet


def longer_tokenizer(tokenizer: Qwen2Tokenizer, texts: Sequence[str]) -> Qwen2Tokenizer:
    """The tokenizer with merges until each word of `texts` is one token."""
    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    vocab = state["model"]["vocab"] | {token["content"]: token["id"] for token in state["added_tokens"]}
    words: Counter[Word] = Counter()
    for text in texts:
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(text):
            words[tuple(token.value for token in backend.model.tokenize(word))] += 1
    merges = further_merges(words)
    vocab |= {token: len(vocab) + number for number, token in enumerate(dict.fromkeys(map("".join, merges)))}
    special = [token["content"] for token in state["added_tokens"] if token["content"] != tokenizer.pad_token]
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=[tuple(pair) for pair in state["model"]["merges"]] + merges,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        extra_special_tokens=special,
    )


def further_merges(words: Counter[Word]) -> list[tuple[str, str]]:
    """The merges of byte-pair encoding, the most frequent pair first, that make each word one symbol.

    >>> further_merges(Counter({("a", "b", "c"): 2, ("b", "c"): 1}))
    [('b', 'c'), ('a', 'bc')]
    """
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for word, count in words.items() for pair in [*pairwise(word)] * count):
        pair = max(pairs, key=lambda one: (pairs[one], one))
        merges.append(pair)
        joined: Counter[Word] = Counter()
        for word, count in words.items():
            joined[merged(word, pair)] += count
        words = joined
    return merges


def merged(word: Word, pair: tuple[str, str]) -> Word:
    """A word with each occurrence of a pair as one symbol.

    >>> merged(("a", "b", "a", "b", "b"), ("a", "b"))
    ('ab', 'ab', 'b')
    """
    symbols: list[str] = []
    for symbol in word:
        if symbols and (symbols[-1], symbol) == pair:
            symbols[-1] += symbol
        else:
            symbols.append(symbol)
    return tuple(symbols)


@torch.no_grad()
def lengthen_embeddings(model: PreTrainedModel, before: Qwen2Tokenizer, after: Qwen2Tokenizer) -> None:
    """Adds an embedding for each new token of `after` to a model of `before`."""
    model.resize_token_embeddings(len(after), mean_resizing=False)
    embeddings = model.get_input_embeddings().weight
    for number in range(len(before), len(after)):
        parts = before(after.decode([number]), add_special_tokens=False)["input_ids"]
        embeddings[number] = embeddings[parts].mean(0)
