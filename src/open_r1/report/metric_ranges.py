"""The table of metrics: the healthy range of each, and what to do outside of it. (torch-free)

It serves the report, reading_a_run.md (`local_scripts/dev/readme/health_table.py`) and readers of curves; the checks
that run on them are in `diagnoses`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A metric of `metrics.jsonl`. `low` and `high` bound its healthy values, in its own unit; None: no bound.
    `exact`: a schedule or a count, which is shown as it is, where others are smoothed."""

    title: str
    unit: str
    healthy: str
    outside: str
    low: float | None = None
    high: float | None = None
    exact: bool = False


HEALTH: dict[str, Metric] = {
    "reward": Metric(
        "Reward",
        "weighted sum",
        "rises, then levels off",
        "Flat: see the groups without signal. Falling: halve `--learning_rate`, raise `--beta`.",
    ),
    "rewards/accuracy/mean": Metric(
        "Accuracy reward",
        "mean",
        "rises with the reward; `format` alone is form without content",
        "Raise `--num_generations` or the weight of accuracy in `--reward_weights`; begin with SFT (`sft_jsonl.py`).",
    ),
    "frac_reward_zero_std": Metric(
        "Groups without signal",
        "share",
        "under 0.5: a group whose rewards are all equal teaches nothing",
        "Raise `--temperature` or `--num_generations`; take rows that are neither always right nor always wrong.",
        0.0,
        0.5,
    ),
    "parse_rate": Metric(
        "Answers read",
        "share",
        "above 0.9: the accuracy method reads an answer in nearly every completion",
        "Look at the completions marked unparsed; check `--reward_method`, keep `format` in `--reward_funcs`.",
        0.9,
        1.0,
    ),
    "completions/clipped_ratio": Metric(
        "Completions cut off",
        "share",
        "under 0.1 reach no end token",
        "Raise `--max_completion_length`, or add `length` to `--reward_funcs`.",
        0.0,
        0.1,
    ),
    "completions/mean_length": Metric(
        "Completion length",
        "tokens",
        "well under `--max_completion_length`; it may grow while the reward does",
        "Growing without reward: add `length` to `--reward_funcs`, or `--loss_type dr_grpo`.",
    ),
    "kl": Metric(
        "KL to the reference",
        "nats a token",
        "under 0.5, rising slowly; logged with `--beta` above 0 alone",
        "Raise `--beta`, lower `--learning_rate` or `--max_grad_norm`.",
        0.0,
        0.5,
    ),
    "entropy": Metric(
        "Entropy",
        "nats a token",
        "falls slowly and stays above a tenth of its start",
        "Raise `--temperature` or `--epsilon_high`, lower `--learning_rate`, or set `--entropy_coef 0.001`.",
    ),
    "grad_norm": Metric(
        "Gradient norm",
        "before clipping",
        "above 0 and steady",
        "0: no group has signal, or all weights are frozen. Spikes: lower `--learning_rate` or `--max_grad_norm`.",
    ),
    "tools/used_share": Metric(
        "Completions that use a tool",
        "share",
        "above 0.1, with `--tools`; it follows what the tool is worth",
        "0: begin with SFT on completions that call it; where `tools/truncated` is not 0, answers do not fit.",
        0.1,
        1.0,
    ),
    "tools/truncated": Metric(
        "Completions that a limit ends at a call",
        "share",
        "under 0.25",
        "The turns name the limit: raise it, or lower `--max_tool_pixels` where pictures of tools take the tokens.",
        0.0,
        0.25,
    ),
    "tools/errors": Metric(
        "Answers of tools that are errors",
        "share",
        "under 0.5, and falling",
        "Read the answers beside the completions: arguments, `--box_space`, `--tool_seconds`.",
        0.0,
        0.5,
    ),
    "tools/used_advantage": Metric(
        "Advantage of using a tool",
        "mean, in groups where some use none",
        "above 0 where the tool helps",
        "Below 0: pay `tool_bonus` for right answers alone, or take rows that need the tool.",
        0.0,
    ),
    "clip_ratio/region_mean": Metric(
        "Clipped tokens",
        "share",
        "under 0.2; 0 while each completion is used once",
        "Lower `--learning_rate` or `--num_iterations`, or widen `--epsilon`.",
        0.0,
        0.2,
    ),
    "vision/dependency": Metric(
        "Dependency on the picture",
        "nats a token",
        "above 0.02: own pictures make the sampled tokens likelier than blank ones; only with `--vision_probe`",
        "Drop the rows that blank pictures answer; raise `--max_pixels`; add `--perception_coef 0.01`.",
        0.02,
    ),
    "vision/accuracy": Metric(
        "Greedy answers",
        "accuracy reward",
        "rises with the accuracy reward; the row's own pictures, only with `--vision_probe`",
        "As for the accuracy reward.",
    ),
    "vision/blind_accuracy": Metric(
        "Greedy answers, picture blank",
        "accuracy reward",
        "what guessing earns, well under `vision/accuracy`",
        "Drop or reword the rows whose question tells the answer; add `--perception_coef 0.01`.",
    ),
    "vision/swapped_accuracy": Metric(
        "Greedy answers, another row's picture",
        "accuracy reward",
        "at or below `vision/blind_accuracy`",
        "As for answers with a blank picture.",
    ),
    "vision/ordered_accuracy": Metric(
        "Greedy answers about videos",
        "accuracy reward",
        "rises with the accuracy reward; of the rows with videos among those of `vision/accuracy`",
        "As for the accuracy reward.",
    ),
    "vision/shuffled_accuracy": Metric(
        "Greedy answers, frames out of order",
        "accuracy reward",
        "under `vision/ordered_accuracy` where questions are about the order of what happens; only rows with videos",
        "Look at the rows that shuffled frames answer: their question does not need time.",
    ),
    "perception/kl": Metric(
        "KL to the masked picture",
        "nats a token",
        "rises, then levels off under 5; with `--perception_coef` or `--visual_token_share`",
        "Beyond: lower `--perception_coef`, or raise `--perception_entropy_coef`.",
        0.0,
        5.0,
    ),
    "sampling/sampling_logp_difference/mean": Metric(
        "vLLM against the trainer",
        "nats a token",
        "under 0.02: the mean difference of their log-probs",
        "Give both one `--dtype`; keep `--vllm_importance_sampling_correction true`.",
        0.0,
        0.02,
    ),
    "rollouts/sampled": Metric(
        "Completions sampled",
        "a generation",
        "what `--resample_zero_variance` samples in all; each costs, kept or not",
        "Far above the batch to the end: rows are hopeless or solved; `--row_sampling difficulty`, or other rows.",
        exact=True,
    ),
    "rollouts/discarded": Metric(
        "Completions replaced",
        "a generation",
        "those of groups without spread that other rows replaced",
        "As above.",
        exact=True,
    ),
    "rollouts/without_spread": Metric(
        "Groups without signal, before replacement",
        "share",
        'under 0.5, of all groups that were sampled; the groups that are kept are under "Groups without signal"',
        "As of the groups without signal.",
        0.0,
        0.5,
    ),
    "rollouts/reward": Metric(
        "Reward of all that was sampled",
        "weighted sum",
        "rises; the reward of the groups kept stays near the middle, as all right and all wrong ones are replaced",
        "As of the reward.",
    ),
    "rollouts/noisy": Metric(
        "Completions sampled under noise",
        "share",
        "what `--noisy_rollouts` asks for, less the rows of text alone",
        "0: no row of these generations has a picture or video.",
        exact=True,
    ),
    "rollouts/noise_step": Metric(
        "Noise of pictures and videos",
        "step of the diffusion",
        "falls from `--noise_step` to 0, by half at two thirds of the run",
        "A schedule.",
        exact=True,
    ),
    "rollouts/noisy_reward": Metric(
        "Reward under noise",
        "weighted sum",
        "under the reward of the same groups without noise, and not at what guessing earns",
        "Near what guessing earns: lower `--noise_step`. Equal to the reward without noise from the start: raise it.",
    ),
    "rollouts/clean_reward": Metric(
        "Reward without noise",
        "weighted sum",
        "rises as the reward does; the other completions of the groups that have some under noise",
        "As of the reward.",
    ),
    "rows/seen": Metric(
        "Rows seen",
        "share of all rows",
        "`--row_sampling difficulty`: rises fast at first; what looks hopeless or solved is seen seldom",
        "Under 1 at the end: raise `--max_steps`, or leave rows out.",
        exact=True,
    ),
    "rows/solved": Metric(
        "Rows solved",
        "share of all rows",
        "rises: rows whose rate of right answers is at least 0.9",
        "Near 1: the task is done.",
        exact=True,
    ),
    "rows/never_right": Metric(
        "Rows never right",
        "share of all rows",
        "seen, and never answered right; falls as the model learns",
        "High to the end: look whether their labels are right (`row_rates.json` names them).",
        exact=True,
    ),
    "rows/chance_of_spread": Metric(
        "Chance of signal of the rows drawn",
        "share",
        "above the share of rows that teach; one minus the groups without signal, where it predicts well",
        "Low: few rows are left that teach.",
    ),
    "grading/timeouts": Metric(
        "Gradings out of time",
        "since the start",
        "does not grow; not logged while there are none",
        "Raise `$OPEN_R1_GRADE_SECONDS` (ours) or `--reward_seconds` (yours), or lower `--max_completion_length`.",
        exact=True,
    ),
    "grading/crashes": Metric(
        "Gradings that ended their process",
        "since the start",
        "does not grow",
        "Raise `--reward_memory_gb`; run your reward on these completions by hand.",
        exact=True,
    ),
    "grading/errors": Metric(
        "Gradings that raised",
        "since the start",
        "does not grow; only with `--reward_errors skip`",
        "Read the traceback of the first one in the log; correct your reward.",
        exact=True,
    ),
    "judge/failures": Metric(
        "Verdicts that never came",
        "since the start",
        "does not grow",
        "Try the endpoint by hand; raise `$JUDGE_SECONDS`, lower `$JUDGE_CONCURRENCY`.",
        exact=True,
    ),
    "judge/addressed": Metric(
        "Answers that address the judge",
        "since the start",
        "does not grow; none is paid: in the form of a verdict, or accepted with random words as the reference too",
        "Read them in the report; the policy learns to talk to the judge where it can: a stronger `$JUDGE_MODEL`.",
        exact=True,
    ),
    "judge/malformed": Metric(
        "Replies of the judge that were no verdict",
        "since the start",
        "does not grow; of a group they are asked for again, once",
        "`JUDGE_SCHEMA=true` where the server can hold replies to a schema, or a stronger `$JUDGE_MODEL`.",
        exact=True,
    ),
    "judge/swayed": Metric(
        "Groups in which an answer moved the judge",
        "since the start",
        "does not grow; each of their answers was asked about alone, so none lost or won by it",
        "Read their completions; `JUDGE_GROUP=false`, or a stronger `$JUDGE_MODEL`.",
        exact=True,
    ),
    "judge/order_agreement": Metric(
        "Agreement of both orders",
        "share of pairs of answers",
        "0.7 or more: a ranking and the one in the reverse order put pairs the same way round",
        "The judge goes by places: a stronger `$JUDGE_MODEL`, or `JUDGE_GROUP=true`.",
        low=0.7,
        high=1.0,
        exact=True,
    ),
    "judge/agreement": Metric(
        "Agreement of the judge",
        "share of its verdicts",
        "0.9 or more, of verdicts beside which verifiable methods have a clear one (`judge/compared`)",
        "Read its verdicts; name the verifiable method for these rows, or another `$JUDGE_MODEL`.",
        low=0.9,
        high=1.0,
        exact=True,
    ),
    "judge/cost": Metric(
        "Cost of the judge",
        "since the start",
        "tokens times `$JUDGE_PRICE_IN` and `$JUDGE_PRICE_OUT`, of all ranks",
        "High: `JUDGE_GROUP=true`, `JUDGE_CACHE=file`, or a verifiable method where one fits.",
        exact=True,
    ),
    "loss": Metric(
        "Loss",
        "",
        "in GRPO noise around 0 that says little; in SFT it falls",
        "SFT, rising: lower `--learning_rate`.",
    ),
    "mean_token_accuracy": Metric(
        "Token accuracy",
        "share",
        "SFT: rises",
        "Flat: raise `--learning_rate`, or train longer with `--num_train_epochs`.",
    ),
    "learning_rate": Metric(
        "Learning rate",
        "",
        "as `--lr_scheduler_type` and `--warmup_steps` say",
        "Correct those two.",
        exact=True,
    ),
    "step_time": Metric(
        "Time of a step",
        "seconds",
        "steady, apart from the first steps",
        "Growing with the completions' length: `--use_vllm true`, or a smaller `--max_completion_length`.",
    ),
}

# Metrics without an entry above that are exact too.
_SPENT = ("asked", "too_long", "calls", "tokens_in", "tokens_out", "seconds", "cache_hits", "compared")
EXACT = ("epoch", "num_tokens", "nonfinite_steps", *(f"judge/{name}" for name in _SPENT), "total_flos")


def exact_metrics() -> list[str]:
    """The metrics that are shown as they are."""
    return [*(key for key, metric in HEALTH.items() if metric.exact), *EXACT]


def table() -> str:
    """The table in Markdown: metric, healthy, what to do outside.

    >>> table().splitlines()[2]
    '| `reward` (weighted sum) | rises, then levels off | Flat: see the groups without signal. Falling: halve \
`--learning_rate`, raise `--beta`. |'
    """
    rows = [f"| {name_of(key)} | {m.healthy} | {m.outside} |" for key, m in HEALTH.items()]
    return "\n".join(["| metric | healthy | outside of it |", "|---|---|---|", *rows])


def name_of(key: str) -> str:
    """A metric and its unit in Markdown."""
    unit = HEALTH[key].unit
    return f"`{key}` ({unit})" if unit else f"`{key}`"
