"""Reads the option that the last sentence of an answer names by its text: "The image shows a dog." (torch-free)"""

import re

from open_r1.rewards.parsing.answer import fold_case
from open_r1.rewards.parsing.option_texts import Choice, OptionTexts
from open_r1.rewards.parsing.statement import is_open, sentences

_LEAST_LETTERS = 3  # of an option's text in words; numbers and formulas stand in any sentence
_MAX_SENTENCE = 300

_WORD = re.compile(r"[^\W_]+")
_INTRODUCED = re.compile(  # an option's text stands where a noun or an adjective begins
    r"\w+ (?:a|an|the|is|are|s|be|as|of|to|by|for|with|in|on|shows?|suggests?|indicates?|represents?|depicts?|means?"
    r"|called|likely|has|have|from|was|were|this|it) $"
)
_DENIED = re.compile(
    r"\b(?:not|no|never|nor|neither|without|unlike|except|than|instead of|if|whether|between|cannot"
    r"|(?:is|are|was|does|do|can)n t) (?:\w+ ){0,4}$"
)
_DISMISSED = re.compile(
    r" ?(?:\w+ ){0,2}(?:is|are|was|were|would be) (?:\w+ )?"
    r"(?:not|wrong|incorrect|false|unlikely|less likely|ruled out)\b"
)
_NO_ANSWER = re.compile(r"\?\W{0,3}$|\b(?:can(?:not|'t)|unable|sorry|insufficient|unclear|not sure)\b")


def named_by_text(text: str, texts: OptionTexts) -> Choice | None:
    """The only option whose text the last sentence names, and does not deny; None for none or several.

    >>> texts = OptionTexts.of(["cat", "dog", "hot dog"])
    >>> [named_by_text(text, texts).letters for text in ("It shows a dog.", "It's a hot dog!")]
    ['B', 'C']
    >>> [named_by_text(text, texts) for text in ("A dog and a cat.", "It is not a dog.", "Is it a dog?", "big dog")]
    [None, None, None, None]
    """
    said = (sentences(text) or [""])[-1]
    if len(said) > _MAX_SENTENCE or is_open(said) or _NO_ANSWER.search(fold_case(text[-_MAX_SENTENCE:])):
        return None
    plain, letters, is_introduced = f" {_words(said)} ", [], True
    for letter, words in sorted(_named(texts).items(), key=lambda item: -len(item[1])):  # "hot dog" before "dog"
        before, named, after = plain.partition(f" {words} ")
        if named:
            if not _DENIED.search(f"{before} ") and not _DISMISSED.match(after):
                letters.append(letter)
                is_introduced &= bool(_INTRODUCED.search(f"{before} "))
            plain = plain.replace(named, " , ")
    return Choice(letters[0]) if len(letters) == 1 and is_introduced else None


def _words(text: str) -> str:
    return " ".join(_WORD.findall(fold_case(text)))


def _named(texts: OptionTexts) -> dict[str, str]:
    """The words of the options that have letters enough, by option; nothing where two options have the same."""
    words = {letter: _words(key) for letter, key in texts.keys.items()}
    named = {letter: said for letter, said in words.items() if sum(map(str.isalpha, said)) >= _LEAST_LETTERS}
    return named if len(set(named.values())) == len(named) else {}
