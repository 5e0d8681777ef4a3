"""Maps the fields of foreign rows to ours: `--fields problem=question,solution=reward.ground_truth`. (torch-free)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from open_r1.errors import Problem, UsageError, nearest_hint

IMAGE_FIELDS, VIDEO_FIELDS = ("image", "images"), ("video", "videos")  # a row has one of each
# our fields that a mapping may name
ROW_FIELDS = ("id", *IMAGE_FIELDS, *VIDEO_FIELDS, "problem", "solution", "conversations", "messages", "options")
MEDIA_FIELDS = (IMAGE_FIELDS, VIDEO_FIELDS)


@dataclass(frozen=True)
class Renaming:
    """Our field -> its name in foreign rows; a dot leads into an object (`reward.ground_truth`). `flag` says so."""

    fields: Mapping[str, str] = field(default_factory=dict)
    flag: str = "--fields"


AS_NAMED = Renaming()
_UNSEEN = "but no row has a field"


def renaming_of(text: str | None, flag: str = "--fields") -> Renaming:
    """The renaming that a flag names as `ours=theirs,...`.

    Raises UsageError for what is no such list, for a field that is none of `ROW_FIELDS`, and for one named twice.

    >>> renaming_of("problem=question,solution=reward_model.ground_truth").fields
    {'problem': 'question', 'solution': 'reward_model.ground_truth'}
    """
    names: dict[str, str] = {}
    for part in (text or "").split(",") if text else ():
        ours, _, theirs = (side.strip() for side in part.partition("="))
        if not ours or not theirs:
            raise UsageError(f"{flag}: got {text!r}, expected OURS=THEIRS,..., as in problem=question,solution=answer")
        if ours not in ROW_FIELDS:
            hint = f"write {theirs}={ours}" if theirs in ROW_FIELDS else nearest_hint(ours, dict.fromkeys(ROW_FIELDS))
            raise UsageError(f"{flag}: got {ours!r} before '=', expected one of {', '.join(ROW_FIELDS)}; {hint}")
        if ours in names or any({ours, *names} >= set(fields) for fields in MEDIA_FIELDS):
            raise UsageError(f"{flag}: got {ours} beside {', '.join(names)}, expected each field once; remove one")
        names[ours] = theirs
    return Renaming(names, flag)


def renamed(row: Any, fields: Mapping[str, str]) -> Any:
    """The row under our names; what is no object stays as it is.

    What is taken stands under its new name alone, and in place of a field of that name; what is missing stays so.

    >>> renamed({"q": "1+1?", "answer": 2, "r": {"gt": "3"}}, {"problem": "q", "solution": "r.gt", "image": "img"})
    {'answer': 2, 'r': {'gt': '3'}, 'problem': '1+1?', 'solution': '3'}
    """
    if not fields or not isinstance(row, Mapping):
        return row
    taken = {ours: value_at(row, theirs) for ours, theirs in fields.items() if has_field(row, theirs)}
    replaced = {*taken, *(fields[ours] for ours in taken)}
    replaced |= {name for names in MEDIA_FIELDS if taken.keys() & {*names} for name in names}
    return {key: value for key, value in row.items() if key not in replaced} | taken


def has_field(row: Any, path: str) -> bool:
    """Whether a row has a field, or a field within objects.

    >>> has_field({"a": {"b": None}}, "a.b"), has_field({"a": 1}, "a.b")
    (True, False)
    """
    first, _, rest = path.partition(".")
    if not isinstance(row, Mapping):
        return False
    return path in row or (bool(rest) and has_field(row.get(first), rest))


class UnseenFields:
    """The fields of a renaming that no row of a file had so far, and the names that its rows have instead."""

    def __init__(self, fields: Mapping[str, str]):
        # `solution=solution` is a choice among gold answers: rows without it are refused one by one
        self._missing = {ours: theirs for ours, theirs in fields.items() if ours != theirs}
        self._names: dict[str, None] = {}

    def see(self, row: Any) -> None:
        """Takes note of one row, under its own names."""
        if not self._missing or not isinstance(row, Mapping):
            return
        self._missing = {ours: theirs for ours, theirs in self._missing.items() if not has_field(row, theirs)}
        for name, value in row.items() if self._missing else ():
            self._names[name] = None
            inner = value if isinstance(value, Mapping) else ()
            self._names.update(dict.fromkeys(f"{name}.{key}" for key in inner))

    def problems(self, path: str, flag: str = "--fields") -> list[Problem]:
        """The problem of each field that no row of the file has; none where no row was seen.

        >>> unseen = UnseenFields({"problem": "questoin"})
        >>> unseen.see({"question": "How many?"})
        >>> print(*unseen.problems("a.jsonl"))
        a.jsonl: --fields: got problem=questoin, but no row has a field 'questoin', expected one of question; did you \
mean 'question'?
        """
        names = self._names
        return [
            Problem(
                path,
                flag,
                f"{ours}={theirs}, {_UNSEEN} {theirs!r}",
                f"one of {', '.join(list(names)[:20])}",
                nearest_hint(theirs, names),
            )
            for ours, theirs in self._missing.items()
            if names
        ]


def of_all_files(found: Sequence[list[Problem]]) -> list[list[Problem]]:
    """The problems of each file; a field that no row of any file has hides those of the rows, which follow from it.

    A field of one file alone is no problem: the others may have our names.
    """
    unseen = [{problem.got for problem in problems if _UNSEEN in problem.got} for problems in found]
    wrong = set.intersection(*unseen) if unseen else set()
    if wrong:
        return [[problem for problem in problems if problem.got in wrong] for problems in found]
    return [[problem for problem in problems if _UNSEEN not in problem.got] for problems in found]


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The value of a field that the row has.

    >>> value_at({"a": {"b": 1}}, "a.b"), value_at({"a.b": 2}, "a.b")
    (1, 2)
    """
    if path in row:
        return row[path]
    first, _, rest = path.partition(".")
    return value_at(row[first], rest)
