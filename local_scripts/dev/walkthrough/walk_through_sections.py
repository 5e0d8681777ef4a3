"""The numbers of `walk_through_grpo.py` as Markdown, with the arithmetic that leads from one to the next.

G completions of different lengths; `seen` is what `walk_through_grpo.walk` returns and `--json` writes.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

SHOWN = 6  # tokens of a completion in the table of tokens
Seen = dict[str, Any]


def sections(seen: Seen) -> dict[str, str]:
    """What is printed, by name."""
    return {
        "prompt": prompt_section(seen),
        "group": group_section(seen),
        "first": update_section(seen, 0),
        "tokens": tokens_section(seen),
        "second": update_section(seen, 1),
        "likelier": likelier_section(seen),
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


def token(seen: Seen, number: int, i: int, t: int) -> Token:
    """Token t of completion i in update `number`."""
    old, now, ref = (seen["updates"][number][name][i][t] for name in ("old_logps", "logps", "ref_logps"))
    ratio, advantage, epsilon = math.exp(now - old), seen["advantages"][i], seen["epsilon"]
    held = min(max(ratio, 1 - epsilon), 1 + epsilon)
    gain = min(ratio * advantage, held * advantage)
    kl = ratio * (math.exp(ref - now) - (ref - now) - 1)
    return Token(old, now, ratio, gain, kl, clipped=gain < ratio * advantage)


def totals(seen: Seen) -> list[float]:
    """Weighted sum of each completion's rewards; one that does not apply (None) adds nothing."""
    by_completion = zip(*seen["rewards"].values(), strict=True)
    return [sum(w * (r or 0.0) for w, r in zip(seen["weights"], row, strict=True)) for row in by_completion]


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation with the divisor n - 1, as `torch.std` has it."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def prompt_section(seen: Seen) -> str:
    said = f"{seen['prompt_tokens']} tokens, those of the picture included. Gold answer: `{seen['solution']}`."
    return f"```text\n{seen['prompt']}\n```\n\n{said}"


def group_section(seen: Seen) -> str:
    sums, advantages, names = totals(seen), seen["advantages"], list(seen["rewards"])
    rows = [
        [i + 1, code(text), *(seen["rewards"][name][i] for name in names), sums[i], advantages[i]]
        for i, text in enumerate(seen["completions"])
    ]
    best, (mean, std) = sums.index(max(sums)), spread(sums)
    lines = [
        f"mean = ({' + '.join(f'{value:.4f}' for value in sums)}) / {len(sums)} = {mean:.4f}",
        f"std  = sqrt(sum of (r - mean)^2 / {len(sums) - 1}) = {std:.4f}",
        f"A_{best + 1}  = ({sums[best]:.4f} - {mean:.4f}) / ({std:.4f} + 0.0001) = {advantages[best]:.4f}",
    ]
    return table(["i", "completion", *names, "reward r", "advantage A"], rows) + "\n\n" + block(lines)


def update_section(seen: Seen, number: int) -> str:
    update, lengths, beta = seen["updates"][number], list(map(len, seen["tokens"])), seen["beta"]
    tokens = [token(seen, number, i, t) for i, length in enumerate(lengths) for t in range(length)]
    gain, kl = sum(one.gain for one in tokens), sum(one.kl for one in tokens)
    scale = min(1.0, seen["max_grad_norm"] / update["grad_norm"])
    lines = [
        f"tokens of the group      {len(tokens)} = {' + '.join(map(str, lengths))}",
        f"sum of ratio x A         {gain:.4f}, {sum(one.clipped for one in tokens)} of them clipped",
        f"sum of KL                {kl:.4f}",
        f"loss                     ({beta:g} x {kl:.4f} - {gain:.4f}) / {len(tokens)} = {update['loss']:.6f}",
        f"norm of the gradient     {update['grad_norm']:.4f}, times {scale:.4f} before AdamW takes it",
    ]
    return block(lines)


def tokens_section(seen: Seen) -> str:
    """Of the completions with the largest and the smallest advantage, the tokens that the first update moved most."""
    rows = []
    for i in (seen["advantages"].index(pick(seen["advantages"])) for pick in (max, min)):
        tokens = [token(seen, 1, i, t) for t in range(len(seen["tokens"][i]))]
        most = sorted(range(len(tokens)), key=lambda t, tokens=tokens: -abs(tokens[t].now - tokens[t].old))[:SHOWN]
        for t in sorted(most):
            one = tokens[t]
            numbers = [one.old, one.now, one.ratio, seen["advantages"][i], one.gain, one.kl]
            rows.append([i + 1, t + 1, code(seen["tokens"][i][t]), *numbers, "yes" if one.clipped else ""])
    return table(["i", "t", "token", "log p old", "log p now", "ratio", "A", "ratio x A", "KL", "clipped"], rows)


def likelier_section(seen: Seen) -> str:
    columns = [[sum(row) for row in logps] for logps in (*(u["logps"] for u in seen["updates"]), seen["after"])]
    rows = [
        [i + 1, advantage, first, second, last, last - first]
        for i, (advantage, first, second, last) in enumerate(zip(seen["advantages"], *columns, strict=True))
    ]
    good, bad = ([row for row in rows if sign * row[1] > 0] for sign in (1, -1))
    said = (
        f"Likelier than before: {sum(row[-1] > 0 for row in good)} of {len(good)} completions with A > 0. "
        f"Less likely: {sum(row[-1] < 0 for row in bad)} of {len(bad)} with A < 0."
    )
    return table(["i", "A", "log p", "after update 1", "after update 2", "change"], rows) + "\n\n" + said


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; columns of numbers are aligned to the right, fractions have four digits."""
    cells = [[f"{c:.4f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    marks = ["---:" if isinstance(c, int | float) else "---" for c in rows[0]]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, marks, *cells))


def block(lines: list[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


def code(text: str) -> str:
    """Text as code in a cell of a table, a newline as its escape."""
    return "`" + json.dumps(text, ensure_ascii=False)[1:-1].replace("`", "'").replace("|", "\\|") + "`"
