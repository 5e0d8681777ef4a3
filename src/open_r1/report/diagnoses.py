"""The table of diagnoses of a run from its metrics: name, title, metric, check, remedy. (torch-free)

`open_r1.report.checks` has the checks.
"""

from dataclasses import dataclass

from open_r1.report.checks import (
    answers_blind,
    entropy_collapse,
    gradings_lost,
    judge_addressed,
    judge_disagrees,
    kl_exploding,
    not_finite,
    nothing_earned,
    only_format,
    time_not_used,
    tool_without_need,
    zero_gradient,
    zero_variance,
)
from open_r1.report.metric_windows import FIRST, WINDOW, Check, MetricLines, always, beyond, falling


@dataclass(frozen=True)
class Diagnosis:
    """A kind of problem: the metric that shows it, its check, and the flags to try; `early` is a check that sees a
    plain case in the first steps already."""

    title: str
    metric: str
    check: Check
    remedy: str
    early: Check = lambda lines: None


@dataclass(frozen=True)
class Finding:
    """A diagnosis that applies to a run; `name` is its key in `DIAGNOSES`, as `--stop_on` takes it. `is_early`: seen
    in fewer steps than its check needs, which ends no run."""

    name: str
    title: str
    metric: str
    evidence: str
    remedy: str
    is_early: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.title}. {self.evidence}. {self.remedy}"


def findings(lines: MetricLines) -> list[Finding]:
    """All findings about the newest steps, in the order of `DIAGNOSES`.

    >>> [f.name for f in findings([{"step": s, "completions/clipped_ratio": 0.5} for s in range(20)])]
    ['truncated']
    """
    return [finding for name, diagnosis in DIAGNOSES.items() if (finding := _finding(name, diagnosis, lines))]


def _finding(name: str, diagnosis: Diagnosis, lines: MetricLines) -> Finding | None:
    """The finding of a diagnosis that applies, or None."""
    evidence, early = diagnosis.check(lines), diagnosis.early(lines)
    if not (evidence or early):
        return None
    is_early = evidence is None
    return Finding(name, diagnosis.title, diagnosis.metric, evidence or early or "", diagnosis.remedy, is_early)


DIAGNOSES: dict[str, Diagnosis] = {
    "not_finite": Diagnosis(
        "Numbers are not finite",
        "grad_norm",
        not_finite,
        "Lower --learning_rate and --max_grad_norm; use --bf16 true in place of --fp16 true",
    ),
    "nothing_earned": Diagnosis(
        "No completion earns anything",
        "reward",
        nothing_earned(WINDOW),
        "Read the sampled completions beside their gold answers: check --reward_method and --prompt_mode, raise "
        "--max_completion_length if they are cut off, or begin with SFT",
        nothing_earned(FIRST),
    ),
    "zero_gradient": Diagnosis(
        "The policy does not move",
        "grad_norm",
        zero_gradient,
        "Look at the groups without signal: raise --temperature or --num_generations; check what is frozen",
        always("grad_norm", 0.0, "The gradient was exactly 0 in all of"),
    ),
    "zero_variance": Diagnosis(
        "Rewards without variance: groups teach nothing",
        "frac_reward_zero_std",
        zero_variance,
        "Low reward: raise --temperature or --num_generations, or take easier rows. High reward: stop, or take harder "
        "rows",
        always("frac_reward_zero_std", 1.0, "No group had a spread of rewards in any of"),
    ),
    "only_format": Diagnosis(
        "Only the form improves",
        "rewards/accuracy/mean",
        only_format,
        "Give accuracy more weight by --reward_weights, raise --num_generations, or begin with SFT",
    ),
    "truncated": Diagnosis(
        "Completions are cut off",
        "completions/clipped_ratio",
        beyond("completions/clipped_ratio", 0.2),
        "Raise --max_completion_length, or add length to --reward_funcs",
        always("completions/clipped_ratio", 1.0, "No completion reached its end in any of"),
    ),
    "unparsed": Diagnosis(
        "Most answers cannot be read",
        "parse_rate",
        beyond("parse_rate", 0.5, above=False),
        "Look at the unparsed completions; check --reward_method and --prompt_mode, keep format in --reward_funcs",
        always("parse_rate", 0.0, "No answer could be read in any of"),
    ),
    "parse_rate_falling": Diagnosis(
        "Fewer answers can be read than before",
        "parse_rate",
        falling("parse_rate"),
        "Keep format in --reward_funcs, lower --learning_rate, raise --beta",
    ),
    "reward_falling": Diagnosis(
        "The reward falls",
        "reward",
        falling("reward"),
        "Lower --learning_rate, raise --beta, or go back to a checkpoint before it",
    ),
    "kl_exploding": Diagnosis(
        "The policy runs away from the reference",
        "kl",
        kl_exploding,
        "Raise --beta, lower --learning_rate or --max_grad_norm",
    ),
    "entropy_collapse": Diagnosis(
        "The policy says one thing only",
        "entropy",
        entropy_collapse,
        "Raise --temperature or --epsilon_high, lower --learning_rate, or set --entropy_coef 0.001",
    ),
    "clipping": Diagnosis(
        "Too many tokens are clipped",
        "clip_ratio/region_mean",
        beyond("clip_ratio/region_mean", 0.3),
        "Lower --learning_rate or --num_iterations, or widen --epsilon",
    ),
    "answers_without_looking": Diagnosis(
        "Answers do not need the picture",
        "vision/blind_accuracy",
        answers_blind(WINDOW),
        "Look at the rows that blank pictures answer, and drop or reword them; check that --max_pixels leaves enough "
        "to see; reward looking by --perception_coef 0.01",
        answers_blind(FIRST),
    ),
    "time_not_used": Diagnosis(
        "Answers do not need the order of frames",
        "vision/shuffled_accuracy",
        time_not_used(WINDOW),
        "Well, if no question is about what comes first or which way things go. Else look at the rows that shuffled "
        "frames answer, and drop or reword them; raise --video_fps or --video_max_frames",
        time_not_used(FIRST),
    ),
    "tool_never_used": Diagnosis(
        "No completion calls a tool",
        "tools/used_share",
        beyond("tools/calls", 0.02, above=False),
        "Begin with SFT on completions that call the tool, as rows do; or leave --tools or --environment out",
        always("tools/calls", 0.0, "No completion called a tool in any of"),
    ),
    "tool_left_out": Diagnosis(
        "Answers of tools do not fit into completions",
        "tools/truncated",
        beyond("tools/truncated", 0.5),
        "The turns of sampled completions name the limit. Raise --max_completion_length, --max_tool_turns or "
        "--max_tool_images; or lower --max_tool_pixels, where pictures of tools take the tokens",
    ),
    "tool_always_fails": Diagnosis(
        "The tool answers with errors",
        "tools/errors",
        beyond("tools/errors", 0.9),
        "Read the answers of tools beside the sampled completions: arguments, --box_space, --tool_seconds",
        always("tools/errors", 1.0, "All answers of tools were errors in each of"),
    ),
    "tool_without_need": Diagnosis(
        "A tool is used where none is needed",
        "tools/used_advantage",
        tool_without_need,
        "Add tool_bonus to --reward_funcs, which pays for right answers alone, or take rows that need the tool",
    ),
    "gradings_lost": Diagnosis(
        "Answers are not graded",
        "grading/timeouts",
        gradings_lost,
        "They pay the least. Raise $OPEN_R1_GRADE_SECONDS (our rewards), --reward_seconds or --reward_memory_gb "
        "(yours) or $JUDGE_SECONDS (judge), or lower --max_completion_length",
    ),
    "judge_disagrees": Diagnosis(
        "The judge contradicts a verifiable method",
        "judge/agreement",
        judge_disagrees,
        "Name that method for these rows, as their accu_reward_method or --reward_method default; else another "
        "$JUDGE_MODEL",
    ),
    "judge_addressed": Diagnosis(
        "Answers address the judge",
        "judge/addressed",
        judge_addressed,
        "They pay nothing. Read them; raise --beta, shorten --max_completion_length, or name another $JUDGE_MODEL",
    ),
    "engine_differs": Diagnosis(
        "vLLM samples from another policy",
        "sampling/sampling_logp_difference/mean",
        beyond("sampling/sampling_logp_difference/mean", 0.05),
        "Give both one --dtype; keep --vllm_importance_sampling_correction true",
    ),
}
