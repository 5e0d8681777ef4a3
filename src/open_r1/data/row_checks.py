"""Refuses rows whose turns are out of order, or that hold earlier turns, hidden options or a second gold answer."""

from itertools import pairwise

from open_r1.data.gold_answers import ANSWER_NAMES, CONVERT, only_answer, solution_text
from open_r1.errors import data_error, shorten

OPTION_NAMES = ("options", "choices")  # what a question of another project may keep beside its text


def check_no_history(row: dict, where: str, remedy: str) -> None:
    """Raises DataError for earlier turns beside the question."""
    if history := row.get("history"):
        got = f"earlier turns, {shorten(history, 60)}"
        raise data_error(where, "history", got, "a conversation in 'messages'", remedy)


def check_options_shown(row: dict, text: str, where: str) -> None:
    """Raises DataError for options that the question does not show."""
    for name in OPTION_NAMES:
        options = row.get(name)
        values = list(options.values()) if isinstance(options, dict) else options
        if (isinstance(values, str) and values) or (
            isinstance(values, list) and not all(str(v) in text for v in values)
        ):
            got = f"{shorten(options)}, which the question does not show"
            raise data_error(where, name, got, "options within the question", f"convert the file: {CONVERT}")


def check_one_gold(row: dict, gold: str, name: str, where: str) -> None:
    """Raises DataError for a `solution` that differs from the last turn of the assistant."""
    for field in ANSWER_NAMES[:1]:
        if (
            row.get(field) is not None
            and (other := solution_text(only_answer(row[field], field, where), field, where)) != gold
        ):
            got = f"{shorten(other, 60)}, and {shorten(gold, 60)} in the last turn of {name!r}"
            remedy = "remove the field, or that turn: the field is then the gold answer"
            raise data_error(where, field, got, "one gold answer", remedy)


def check_turn_order(roles: list[str], name: str, where: str) -> None:
    """Raises DataError where the roles are not [system,] user, ..., user or tool, assistant."""
    if roles in (["user", "assistant"], ["system", "user", "assistant"]):
        return
    got = shorten(roles)
    if "system" in roles[1:]:
        raise data_error(where, name, got, "a system turn in the first place only", "move its text there")
    if "user" not in roles:
        raise data_error(where, name, got, "a human (user) turn", "add the question")
    if roles[-1] != "assistant":
        raise data_error(where, name, got, "a final gpt (assistant) turn", "add the answer: it becomes the solution")
    if roles[-2] not in ("user", "tool"):
        raise data_error(where, name, got, "a human (user) turn before the final answer", "join the last two answers")
    for before, role in pairwise(roles):
        if role == "tool" and before not in ("assistant", "tool"):
            remedy = "add the call that it answers"
            raise data_error(where, name, got, "a tool turn behind a gpt (assistant) turn only", remedy)
