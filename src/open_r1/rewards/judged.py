"""Whether a run may ask the judge, by any door, and the facts about the judge that are then recorded. (torch-free)

The doors: the accuracy method of a file (--reward_method, the task's), a row's own `accu_reward_method`, each asked
by the rewards of `BY_METHOD`, as the score of an evaluation is; and a user's own code, which may call anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from open_r1.data.jsonl_index import decode_row
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.rewards.custom import user_file
from open_r1.rewards.judge.method import check_judge
from open_r1.rewards.judge.settings import ENDPOINT, judge_among, judge_facts
from open_r1.rewards.registry import BY_METHOD, METHODS, is_remote

REMOTE = frozenset(name for name, method in METHODS.items() if method.is_remote)
_BOM = b"\xef\xbb\xbf"


def facts_of_judge(
    records: Sequence[Record], rewards: Iterable[str], code: Iterable[str] = ()
) -> dict[str, str | None]:
    """`judge_facts` of a run that may ask the judge about these rows, {} of another. `rewards` are names as
    `load_reward` takes them, `code` those of tasks, tools and environments."""
    names = list(rewards)
    own_code = any(user_file(name)[0] for name in (*names, *code))
    return judge_facts() if own_code or (BY_METHOD & set(names) and has_judged_rows(records)) else {}


def recorded_judge(facts: Mapping[str, str | None]) -> dict[str, Any]:
    """What an evaluation records of the judge with these facts: `judge`, its settings, and `judge_endpoint`."""
    settings = {f"${name}": value for name, value in judge_among(facts).items()}
    place = settings.pop(ENDPOINT, None)
    return {"judge": settings, "judge_endpoint": place} if settings else {}


def try_judge_of_rows(records: Sequence[Record], rewards: Iterable[str]) -> None:
    """Tries the judge that rows themselves name, where one of these rewards asks it; that of a flag is tried when the
    flag is read. Raises UsageError where it is not set up or gives no verdict."""
    if not BY_METHOD & set(rewards) or not rows_name_judge(records):
        return
    try:
        check_judge()
    except ValueError as error:
        raise UsageError(f"accu_reward_method: got llm in rows of the data: {error}") from error


def has_judged_rows(records: Sequence[Record]) -> bool:
    """Whether a judge grades rows: of a dataset in files, whether it may grade any row of them, also where `records`
    are some of their rows."""
    return any(source.method in REMOTE for source in getattr(records, "sources", ())) or rows_name_judge(records)


def rows_name_judge(records: Sequence[Record]) -> bool:
    """Whether rows, of a dataset any in its files, name a judge as their own method."""
    if (sources := getattr(records, "sources", None)) is None:
        return any(is_remote("accuracy", record) for record in records)
    return any(_names_judge(source.lines) for source in sources)


def _names_judge(path: str) -> bool:
    """Whether a row of a JSONL file names a judge as its own method."""
    marks = [f'"{name}"'.encode() for name in REMOTE]
    with open(path, "rb") as file:
        lines = (line.removeprefix(_BOM) for line in file if any(mark in line for mark in marks))
        rows = (decode_row(line, path) for line in lines)
        return any(isinstance(row, dict) and row.get("accu_reward_method") in REMOTE for row in rows)
