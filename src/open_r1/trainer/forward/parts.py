"""Cuts a micro-batch into parts that are computed one after the other, by rows or by a budget of tokens."""

from collections.abc import Sequence

from open_r1.rollout.prompts import Prompt


def parts_by_rows(rows: int, size: int | None) -> list[slice]:
    """Parts of `size` rows (None: one part of all).

    >>> parts_by_rows(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = size or rows
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def parts_by_tokens(
    prompts: Sequence[Prompt | None], lengths: Sequence[int], width: int, budget: int, shared: bool
) -> list[slice]:
    """The fewest consecutive parts whose pass has at most `budget` tokens each; rows left out (None) cost nothing.

    `lengths` are the tokens of the completions, which are padded to `width`. `shared`: a group's prompt counts once in
    a part; else a part is a rectangle of its rows and its longest prompt. A group is cut only where it alone is over
    the budget; a row that is over it alone is a part of its own.
    """
    tokens = _packed_tokens if shared else _padded_tokens
    starts = [0]
    for group in _groups(prompts):

        def cost(start: int, end: int) -> int:
            present = [(p, n) for p, n in zip(prompts[start:end], lengths[start:end], strict=True) if p is not None]
            return tokens(present, width)

        if cost(starts[-1], group.stop) <= budget:
            continue
        if cost(starts[-1], group.start):
            starts.append(group.start)
        for row in range(group.start, group.stop):
            if prompts[row] is not None and cost(starts[-1], row) and cost(starts[-1], row + 1) > budget:
                starts.append(row)
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(prompts)], strict=True)]


def _groups(prompts: Sequence[Prompt | None]) -> list[slice]:
    """Neighbouring rows of one prompt, those left out between them included."""
    groups: list[slice] = []
    last: Prompt | None = None
    for row, prompt in enumerate(prompts):
        if groups and (prompt is None or prompt is last or last is None):
            groups[-1] = slice(groups[-1].start, row + 1)
        else:
            groups.append(slice(row, row + 1))
        last = prompt or last
    return groups


def _packed_tokens(rows: Sequence[tuple[Prompt, int]], width: int) -> int:
    """Tokens of packed groups: each prompt once, and its completions."""
    return sum({id(prompt): len(prompt.ids) for prompt, _ in rows}.values()) + sum(length for _, length in rows)


def _padded_tokens(rows: Sequence[tuple[Prompt, int]], width: int) -> int:
    """Tokens of padded rows."""
    return len(rows) * (max((len(prompt.ids) for prompt, _ in rows), default=0) + width)
