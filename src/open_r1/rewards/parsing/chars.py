"""Reads decoded messages: the letters that a completion spells out in `<chars>` while it thinks, and its answer.

Case does not count, nor whether words are kept apart by `_` or by spaces.
"""

from open_r1.rewards.parsing.answer import final_text, without_markup

MAX_MESSAGE_CHARS = 4000  # a longer spelling is no message
_TAGS = ("<think>", "</think>", "<chars>", "</chars>")


def parse_chars(completion: str) -> str | None:
    """What stands in the one `<chars>...</chars>` inside the one `<think>...</think>`, without space, in lower case.

    None where a tag is missing, repeated, nested, out of order or outside the thinking, where nothing stands between
    them, and for more than MAX_CHARS characters.

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
    """The message that a completion answers with (`answer.final_text`), in lower case, `_` between words.

    >>> parse_message("<answer>Cat dog</answer>"), parse_message("<answer>CAT</answer>"), parse_message("<think>cat")
    ('cat_dog', 'cat', None)
    """
    return same_case(final_text(completion)[: MAX_MESSAGE_CHARS + 1]) or None


def same_case(text: str) -> str:
    """A message as it compares.

    >>> same_case(" Cat  dog "), same_case("cat_dog")
    ('cat_dog', 'cat_dog')
    """
    return "_".join(without_markup(text).casefold().split())
