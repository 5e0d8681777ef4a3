"""Markdown sections of `walk_through_grpo.py`: its numbers, with the arithmetic between them.

`numbers` is what `walk_through_grpo.walk` returns and `--json` writes; G completions have different lengths.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

TABLE_TOKENS = 6  # of a completion, in the table of tokens
Numbers = dict[str, Any]


def sections(numbers: Numbers) -> dict[str, str]:
    """Name -> section."""
    return {
        "prompt": prompt_section(numbers),
        "group": group_section(numbers),
        "first": update_section(numbers, 0),
        "tokens": tokens_section(numbers),
        "second": update_section(numbers, 1),
        "likelier": likelier_section(numbers),
    }


@dataclass(frozen=True)
class Token:
    """One token in one update: log-probs in nats; `gain` = min(ratio A, clipped ratio A); `kl` as the loss has it."""

    old: float
    now: float
    ratio: float
    gain: float
    kl: float
    clipped: bool


def token(numbers: Numbers, number: int, i: int, t: int) -> Token:
    """Token t of completion i in update `number`."""
    old, now, ref = (numbers["updates"][number][name][i][t] for name in ("old_logps", "logps", "ref_logps"))
    ratio, advantage, epsilon = math.exp(now - old), numbers["advantages"][i], numbers["epsilon"]
    clipped_ratio = min(max(ratio, 1 - epsilon), 1 + epsilon)
    gain = min(ratio * advantage, clipped_ratio * advantage)
    kl = ratio * (math.exp(ref - now) - (ref - now) - 1)
    return Token(old, now, ratio, gain, kl, clipped=gain < ratio * advantage)


def totals(numbers: Numbers) -> list[float]:
    """Weighted sum of each completion's rewards; a reward that does not apply is None and counts 0."""
    by_completion = zip(*numbers["rewards"].values(), strict=True)
    return [sum(w * (r or 0.0) for w, r in zip(numbers["weights"], row, strict=True)) for row in by_completion]


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation with divisor n - 1, as in `torch.std`."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def prompt_section(numbers: Numbers) -> str:
    """The prompt and the gold answer."""
    note = f"{numbers['prompt_tokens']} tokens, those of the picture included. Gold answer: `{numbers['solution']}`."
    return f"```text\n{numbers['prompt']}\n```\n\n{note}"


def group_section(numbers: Numbers) -> str:
    """The completions with rewards and advantages, and how the best advantage is computed."""
    sums, advantages, names = totals(numbers), numbers["advantages"], list(numbers["rewards"])
    rows = [
        [i + 1, code(text), *(numbers["rewards"][name][i] for name in names), sums[i], advantages[i]]
        for i, text in enumerate(numbers["completions"])
    ]
    best, (mean, std) = sums.index(max(sums)), spread(sums)
    lines = [
        f"mean = ({' + '.join(f'{value:.4f}' for value in sums)}) / {len(sums)} = {mean:.4f}",
        f"std  = sqrt(sum of (r - mean)^2 / {len(sums) - 1}) = {std:.4f}",
        f"A_{best + 1}  = ({sums[best]:.4f} - {mean:.4f}) / ({std:.4f} + 0.0001) = {advantages[best]:.4f}",
    ]
    return table(["i", "completion", *names, "reward r", "advantage A"], rows) + "\n\n" + block(lines)


def update_section(numbers: Numbers, number: int) -> str:
    """The loss and the gradient norm of one update."""
    update, lengths, beta = numbers["updates"][number], list(map(len, numbers["tokens"])), numbers["beta"]
    tokens = [token(numbers, number, i, t) for i, length in enumerate(lengths) for t in range(length)]
    gain, kl = sum(one.gain for one in tokens), sum(one.kl for one in tokens)
    scale = min(1.0, numbers["max_grad_norm"] / update["grad_norm"])
    lines = [
        f"tokens of the group      {len(tokens)} = {' + '.join(map(str, lengths))}",
        f"sum of ratio x A         {gain:.4f}, {sum(one.clipped for one in tokens)} of them clipped",
        f"sum of KL                {kl:.4f}",
        f"loss                     ({beta:g} x {kl:.4f} - {gain:.4f}) / {len(tokens)} = {update['loss']:.6f}",
        f"norm of the gradient     {update['grad_norm']:.4f}, times {scale:.4f} before AdamW takes it",
    ]
    return block(lines)


def tokens_section(numbers: Numbers) -> str:
    """The tokens that the first update changed most, of the completions with largest and smallest advantage."""
    rows = []
    for i in (numbers["advantages"].index(pick(numbers["advantages"])) for pick in (max, min)):
        tokens = [token(numbers, 1, i, t) for t in range(len(numbers["tokens"][i]))]
        by_change = sorted(range(len(tokens)), key=lambda t, tokens=tokens: -abs(tokens[t].now - tokens[t].old))
        for t in sorted(by_change[:TABLE_TOKENS]):
            one = tokens[t]
            cells = [one.old, one.now, one.ratio, numbers["advantages"][i], one.gain, one.kl]
            rows.append([i + 1, t + 1, code(numbers["tokens"][i][t]), *cells, "yes" if one.clipped else ""])
    return table(["i", "t", "token", "log p old", "log p now", "ratio", "A", "ratio x A", "KL", "clipped"], rows)


def likelier_section(numbers: Numbers) -> str:
    """How the log-probs of whole completions changed."""
    columns = [[sum(row) for row in logps] for logps in (*(u["logps"] for u in numbers["updates"]), numbers["after"])]
    rows = [
        [i + 1, advantage, first, second, last, last - first]
        for i, (advantage, first, second, last) in enumerate(zip(numbers["advantages"], *columns, strict=True))
    ]
    good, bad = ([row for row in rows if sign * row[1] > 0] for sign in (1, -1))
    note = (
        f"Likelier than before: {sum(row[-1] > 0 for row in good)} of {len(good)} completions with A > 0. "
        f"Less likely: {sum(row[-1] < 0 for row in bad)} of {len(bad)} with A < 0."
    )
    return table(["i", "A", "log p", "after update 1", "after update 2", "change"], rows) + "\n\n" + note


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; columns of numbers are aligned to the right, fractions have four digits."""
    cells = [[f"{c:.4f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    marks = ["---:" if isinstance(c, int | float) else "---" for c in rows[0]]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, marks, *cells))


def block(lines: list[str]) -> str:
    """Lines as a block of text."""
    return "\n".join(["```text", *lines, "```"])


def code(text: str) -> str:
    """Text as code in a cell of a table, a newline as its escape."""
    return "`" + json.dumps(text, ensure_ascii=False)[1:-1].replace("`", "'").replace("|", "\\|") + "`"
