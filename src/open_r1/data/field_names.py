"""Maps the fields of foreign rows to ours: `--fields problem=question,solution=reward.ground_truth`. (torch-free)"""

from collections.abc import Mapping
from typing import Any

from open_r1.errors import UsageError, nearest_hint

# our fields that a mapping may name
ROW_FIELDS = ("id", "image", "images", "problem", "solution", "conversations", "messages", "options")
IMAGE_FIELDS = ("image", "images")


def field_names(text: str | None, flag: str = "--fields") -> dict[str, str]:
    """Our field -> its name in the rows, of `ours=theirs,...`; a dot in a name leads into an object.

    Raises UsageError for what is no such list, for a field that is none of `ROW_FIELDS`, and for one named twice.

    >>> field_names("problem=question,solution=reward_model.ground_truth")
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
        if ours in names or {ours, *names} >= set(IMAGE_FIELDS):
            raise UsageError(f"{flag}: got {ours} beside {', '.join(names)}, expected each field once; remove one")
        names[ours] = theirs
    return names


def renamed(row: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """The row under our names. What is taken stands under its new name alone, and in place of a field of that name;
    what the row does not have stays absent.

    >>> renamed({"q": "1+1?", "answer": 2, "r": {"gt": "3"}}, {"problem": "q", "solution": "r.gt", "image": "img"})
    {'answer': 2, 'r': {'gt': '3'}, 'problem': '1+1?', 'solution': '3'}
    """
    if not fields:
        return dict(row)
    replaced = {*fields.values(), *fields} | (set(IMAGE_FIELDS) if fields.keys() & set(IMAGE_FIELDS) else set())
    kept = {key: value for key, value in row.items() if key not in replaced}
    return kept | {ours: value_at(row, theirs) for ours, theirs in fields.items() if has_field(row, theirs)}


def has_field(row: Any, path: str) -> bool:
    """Whether a row has a field, or a field within objects.

    >>> has_field({"a": {"b": None}}, "a.b"), has_field({"a": 1}, "a.b")
    (True, False)
    """
    first, _, rest = path.partition(".")
    if not isinstance(row, Mapping):
        return False
    return path in row or (bool(rest) and has_field(row.get(first), rest))


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The value of a field that the row has.

    >>> value_at({"a": {"b": 1}}, "a.b"), value_at({"a.b": 2}, "a.b")
    (1, 2)
    """
    if path in row:
        return row[path]
    first, _, rest = path.partition(".")
    return value_at(row[first], rest)
