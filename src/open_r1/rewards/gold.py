"""The completion of a gold answer and its score, which shows whether a row is usable. (torch-free)"""

from open_r1.data.record import Record
from open_r1.rewards.base import Method, gold_text, is_direct
from open_r1.rewards.parsing.answer import extract_answer, with_answer
from open_r1.rewards.pictures import in_pixels
from open_r1.rewards.registry import get_method, method_of


def _method(record: Record, method: str | None) -> Method:
    """The method of this name, or else the record's own."""
    return method_of(record) if method in (None, record.accu_reward_method) else get_method(method)


def gold_answer(record: Record, method: str | None = None) -> str:
    """The text of a perfect answer for `method` (default: the record's own); places on a picture are as the record's
    space writes them. Raises DataError for a gold that the method cannot use.

    >>> extra = {"model_family": "qwen3_vl", "image_wh": (640, 425)}
    >>> gold_answer(Record("1", (), "", (), "[64, 0, 128, 425]", extra, accu_reward_method="rec"))
    '[100, 0, 200, 1000]'
    """
    return _method(record, method).answer(record)


def gold_completion(record: Record, method: str | None = None) -> str:
    """A perfect completion with the gold answer, for `method` (default: the record's own).

    A solution that holds `<answer>` tags keeps what stands around its answer.

    >>> gold_completion(Record("1", (), "", (), "3"))
    '<think>\\n...\\n</think>\\n<answer>3</answer>'
    """
    answer = gold_answer(record, method)
    if extract_answer(record.solution) is not None:
        return record.solution if answer == gold_text(record) else with_answer(record.solution, answer)
    thinking = _method(record, method).thinking(record)
    return f"<think>\n{thinking}\n</think>\n<answer>{answer}</answer>"


def in_format(answer: str, record: Record, thinking: str = "...") -> str:
    """A completion in the format that the record's prompt mode asks for.

    >>> in_format("3", Record("1", (), "", (), "3"))
    '<think>...</think><answer>3</answer>'
    """
    return f"<answer>{answer}</answer>" if is_direct(record) else f"<think>{thinking}</think><answer>{answer}</answer>"


def gold_score(record: Record, method: str | None = None) -> tuple[float, float]:
    """(score, maximum) of the gold answer by `method` (default: the record's own); a row that scores less is unusable.

    The maximum is `gold_maximum` of the record where the method has one.

    Raises DataError for a gold that the method cannot use, or a row with an unknown method.

    >>> gold_score(Record("1", (), "", (), "(B)"), "mcq")
    (1.0, 1.0)
    """
    grader = _method(record, method)
    placed = in_pixels(record)
    best = grader.gold_maximum(record) if grader.gold_maximum else grader.maximum
    return grader.score(gold_completion(placed, method), placed), best
