"""Reads decoded messages: the letters in `<chars>` inside the thinking, and the answer.

Case is ignored, and words may be separated by `_` or by spaces.
"""

from open_r1.rewards.parsing.answer import final_text, without_markup

MAX_MESSAGE_CHARS = 4000  # a longer spelling is no message
_TAGS = ("<think>", "</think>", "<chars>", "</chars>")


def parse_chars(completion: str) -> str | None:
    """The content of the one `<chars>...</chars>` inside the one `<think>...</think>`, lower case, without spaces.

    None where a tag is missing, repeated, nested, out of order or outside the thinking, for empty content, and for
    more than MAX_MESSAGE_CHARS characters.

    >>> parse_chars("<think> <chars> C a t _ d o g </chars> </think> <answer>cat_dog</answer>")
    'cat_dog'
    >>> parse_chars("<think><chars>c a t</chars><chars>d o g</chars></think>"), parse_chars("<chars>c a t</chars>")
    (None, None)
    """
    places = [completion.find(tag) for tag in _TAGS]
    begin, end = places[2] + len("<chars>"), places[3]
    in_order = 0 <= places[0] < places[2] < places[3] < places[1]
    if not in_order or end - begin > MAX_MESSAGE_CHARS or any(completion.count(tag) != 1 for tag in _TAGS):
        return None
    return "".join(completion[begin:end].casefold().split()) or None


def parse_message(completion: str) -> str | None:
    """The message in a completion's final text, lower case, `_` between words; None for an empty one.

    >>> parse_message("<answer>Cat dog</answer>"), parse_message("<answer>CAT</answer>"), parse_message("<think>cat")
    ('cat_dog', 'cat', None)
    """
    return normalize_message(final_text(completion)[: MAX_MESSAGE_CHARS + 1]) or None


def normalize_message(text: str) -> str:
    """A message in lower case with `_` between words, for comparing.

    >>> normalize_message(" Cat  dog "), normalize_message("cat_dog")
    ('cat_dog', 'cat_dog')
    """
    return "_".join(without_markup(text).casefold().split())
