"""What verifiable methods say of an answer that a judge graded: right, wrong, or that they cannot tell. (torch-free)

Every method of `VERIFIABLE` is asked whose form the gold has: whatever is added there is asked too. A gold may have
several forms ([1, 2, 30, 40] is a box, a list of integers and a formula), so their verdict counts where all that read
the answer say the same.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.rewards.base import Method
from open_r1.rewards.methods import VERIFIABLE
from open_r1.rewards.parsing.answer import final_text
from open_r1.rewards.pictures import in_pixels

RIGHT_SHARE, WRONG_SHARE = 0.75, 0.25  # shares of a method's range from, and up to, which it has a clear verdict
NEARLY = 1e-6


def gold_verdict(completion: str, record: Record) -> bool | None:
    """Whether a completion is right by the methods that read the gold's form; None where none can tell.

    - Golds of a form (letters, numbers, formulas, boxes, points, lists, ...): what all methods say that read the
      completion; of a graded one (an IoU) what is clear.
    - Golds of words: True where a method that compares words pays all it can. Other words may be right too.

    >>> row = Record("1", (), "", (), "7")
    >>> gold_verdict("seven of them", row), gold_verdict("8", row), gold_verdict("a few", row)
    (True, False, None)
    >>> gold_verdict("The answer is a red car.", Record("1", (), "", (), "a red car"))
    True
    """
    asked = {name: replace(record, accu_reward_method=name) for name in VERIFIABLE}
    forms = [name for name in asked if has_gold_form(VERIFIABLE[name], asked[name])]
    if forms:
        places = _gold_places([VERIFIABLE[name] for name in forms], record)
        said = {_clear_verdict(VERIFIABLE[name], completion, asked[name], places) for name in forms} - {None}
        return said.pop() if len(said) == 1 else None
    return True if any(_says_gold(VERIFIABLE[name], completion, asked[name]) for name in asked) else None


def verifiable_forms(record: Record) -> list[str]:
    """The methods whose form the gold of a row has, by name."""
    return [name for name, method in VERIFIABLE.items() if has_gold_form(method, record)]


def has_gold_form(method: Method, record: Record) -> bool:
    """Whether a method reads the gold as more than words: it does not refuse it, and pays it all that it can.

    A method with a scale of its own (`area`: -3 to 3) pays for nearness, which is no verdict.
    """
    if (method.minimum, method.maximum) != (0.0, 1.0) or method.is_remote:
        return False
    try:
        if method.has_form is not None and not method.has_form(record):
            return False
        placed = in_pixels(record)
        gold = f"<answer>{method.answer(placed)}</answer>"
        return _share(method, gold, placed) == 1 and method.parse(gold, placed) is not None
    except DataError:  # its refusal of a gold of another form
        return False


def _says_gold(method: Method, completion: str, record: Record) -> bool:
    """Whether a method that takes any words as gold finds them in a completion, all of them."""
    try:
        return method.has_form is not None and _share(method, completion, record) == 1
    except DataError:  # it takes other words only
        return False


def _gold_places(forms: Sequence[Method], record: Record) -> set[str]:
    """The gold as the record's space writes it, where it may be a place: a right answer has other numbers then."""
    try:
        return {method.answer(record) for method in forms if method.places is not None}
    except DataError:  # no space is known
        return set()


def _clear_verdict(method: Method, completion: str, record: Record, places: Collection[str]) -> bool | None:
    """What one method says; None where it pays neither much nor little, or little for an answer of another form.

    One that reads no places compares with the gold as it is, and as a place is written.
    """
    if method.places is None and _clear_verdict_on(method, completion, record) is False:
        said = {_clear_verdict_on(method, completion, replace(record, solution=place)) for place in places}
        return True if True in said else False if said <= {False} else None
    return _clear_verdict_on(method, completion, record)


def _clear_verdict_on(method: Method, completion: str, record: Record) -> bool | None:
    """What one method says by the record's gold as it is written."""
    try:
        share = _share(method, completion, record)
        if share >= RIGHT_SHARE:
            return True
        return False if share <= WRONG_SHARE and _answers_in_form(method, completion, record) else None
    except DataError:  # a row of the judge's that does not say in which space boxes are, which it need not
        return None


def _answers_in_form(method: Method, completion: str, record: Record) -> bool:
    """Whether a method reads a completion as it reads golds: an answer in prose may be right in its own way."""
    if method.has_form is None:
        return method.parse(completion, record) is not None
    answer = final_text(completion)
    return bool(answer) and method.has_form(replace(record, solution=answer))


def _share(method: Method, completion: str, record: Record) -> float:
    """The share of the gold's score that a completion earns, in [0, 1]; 1.0 also a hair below it."""
    best = method.gold_maximum(record) if method.gold_maximum else method.maximum
    share = method.score(completion, record) / best
    return 1.0 if share > 1 - NEARLY else share
