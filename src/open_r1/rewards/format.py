"""The format reward: each tag once and in its place. (As in R1-V and VLM-R1, with their loopholes closed)"""

from open_r1.data.record import Record
from open_r1.rewards.base import is_direct
from open_r1.rewards.parsing.answer import has_answer_format, has_think_format


def format_reward(completion: str, record: Record) -> float:
    """1.0 for `<think>..</think><answer>..</answer>`, or `<answer>..</answer>` in direct mode; else 0.0.

    The mode is the record's extra field `prompt_mode` ("think" or "direct"; default "think").

    >>> format_reward("<think>a</think>\\n<answer>b</answer>\\n", Record("1", (), "", (), "b"))
    1.0
    >>> format_reward("<answer>b</answer>", Record("1", (), "", (), "b", {"prompt_mode": "direct"}))
    1.0
    """
    return float(has_answer_format(completion) if is_direct(record) else has_think_format(completion))
