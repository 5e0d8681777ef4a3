"""Each loss type's gradient, with the defaults it gets by name alone, is that of its formula written by hand."""

import ast
import inspect
import math
import textwrap

import pytest
import torch
from helpers.trainers import make_trainer
from trl import GRPOTrainer

from open_r1.config.loss_types import LOSS_TYPES
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments

LENGTHS, MOST = (4, 2), 8  # tokens of the two completions, and --max_completion_length
TOKENS = sum(LENGTHS)
# Ratios of the first completion (A = 1.5), and of the second (A = -0.5)
ON_POLICY = ((1.0, 1.0, 1.0, 1.0), (1.0, 1.0))
OFF_POLICY = ((1.1, 1.25, 1.5, 6.0), (0.9, 0.7))
NEAR = ((1.0003, 1.0003, 1.0003, 1.0003), (0.9996, 0.9996))  # clipped by GSPO below, and not by it above
A = (1.5, -0.5)


def clipped(ratio: float, advantage: float, low: float, high: float) -> float:
    """-d min(r A, clip(r) A) / d log r, PPO's equation 7: r A, or 0 beyond the clip on the side that A pushes to."""
    beyond = ratio > 1 + high if advantage > 0 else ratio < 1 - low
    return 0.0 if beyond else -ratio * advantage


def mean_ratio(ratios: tuple[float, ...]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def soft(ratio: float, advantage: float) -> float:
    """SAPO: the derivative of -4/tau sigmoid(tau (r - 1)) A, with tau 1.0 for A > 0 and 1.05 else."""
    tau = 1.0 if advantage > 0 else 1.05
    gate = 1 / (1 + math.exp(-tau * (ratio - 1)))
    return -4 * gate * (1 - gate) * ratio * advantage


def gamma(ratios: tuple[float, ...], advantage: float) -> float:
    """VESPO: -phi(w) A with phi(w) = w^k exp(lambda (1 - w)), w the product of the ratios."""
    k, decay = (2.0, 3.0) if advantage > 0 else (3.0, 2.0)
    w = math.prod(ratios)
    return -(w**k) * math.exp(decay * (1 - w)) * advantage


# (loss type, level) -> (completion's ratios, token's ratio, advantage, completion's tokens) -> d loss / d log-prob
FORMULAS = {
    ("grpo", "token"): lambda rs, r, a, n: clipped(r, a, 0.2, 0.2) / n / 2,
    ("grpo", "sequence"): lambda rs, r, a, n: clipped(mean_ratio(rs), a, 3e-4, 4e-4) / n / 2,
    ("dr_grpo", "token"): lambda rs, r, a, n: clipped(r, a, 0.2, 0.2) / (2 * MOST),
    ("dapo", "token"): lambda rs, r, a, n: clipped(r, a, 0.2, 0.28) / TOKENS,
    ("bnpo", "token"): lambda rs, r, a, n: clipped(r, a, 0.2, 0.2) / TOKENS,
    ("cispo", "token"): lambda rs, r, a, n: -min(r, 5.0) * a / TOKENS,
    ("sapo", "token"): lambda rs, r, a, n: soft(r, a) / n / 2,
    ("luspo", "sequence"): lambda rs, r, a, n: clipped(mean_ratio(rs), a, 2e-3, 2.5e-3) / 2,
    ("vespo", "token"): lambda rs, r, a, n: gamma(rs, a) / TOKENS,
}


def by_hand(formula, ratios) -> torch.Tensor:
    """(2, 4): the gradient of each token's log-prob, 0 where a completion has none."""
    rows = [[formula(rs, r, a, len(rs)) for r in rs] for rs, a in zip(ratios, A, strict=True)]
    return torch.tensor([row + [0.0] * (max(LENGTHS) - len(row)) for row in rows])


def by_trl(trainer, ratios, monkeypatch) -> torch.Tensor:
    """The same of TRL's loss as this trainer is set, with old log-probs of -1."""
    mask = torch.tensor([[int(t < n) for t in range(max(LENGTHS))] for n in LENGTHS])
    padded = torch.tensor([[*rs] + [1.0] * (max(LENGTHS) - len(rs)) for rs in ratios])
    logps = (padded.log() - 1).requires_grad_()
    scores = (logps, torch.zeros_like(padded), None)
    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", lambda *a, **k: scores)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation
    loss = GRPOTrainer._compute_loss(
        trainer,
        trainer.model,
        {
            "prompt_ids": mask, "prompt_mask": mask, "completion_ids": mask, "completion_mask": mask,
            "advantages": torch.tensor(A), "old_per_token_logps": torch.full_like(padded, -1.0),
            "num_items_in_batch": torch.tensor(TOKENS),
        },
    )  # fmt: skip
    loss.backward()
    # TRL divides the means of completions by the number of micro-batches, which its sums of tokens count already
    summed = trainer.loss_type in ("dapo", "cispo", "vespo")
    return logps.grad * (1 if summed else trainer.current_gradient_accumulation_steps)


@pytest.fixture(scope="module", params=LOSS_TYPES, ids="-".join)
def trained_by(request, tiny, mixed, tmp_path_factory):
    """(trainer, formula) of each loss type, whose clip is not named."""
    name, level = request.param
    flags = ["--loss_type", name, *(["--importance_sampling_level", level] * (request.param == ("grpo", "sequence")))]
    return make_trainer(tiny, mixed, tmp_path_factory.mktemp(name), *flags), FORMULAS[request.param]


@pytest.mark.parametrize("ratios", [ON_POLICY, OFF_POLICY, NEAR], ids=["on-policy", "clipped", "near 1"])
def test_the_gradient_is_that_of_the_formula(trained_by, ratios, monkeypatch):
    trainer, formula = trained_by
    expected = by_hand(formula, ratios)
    torch.testing.assert_close(by_trl(trainer, ratios, monkeypatch), expected, atol=2e-6, rtol=2e-4)
    assert (expected != 0).any() or ratios is OFF_POLICY


def parsed(*flags: str):
    needed = "--model_name_or_path m --data_file_paths d --output_dir o --use_cpu true"
    return parse(JsonlArguments, [*needed.split(), *flags])[1]


@pytest.mark.parametrize(
    ("flags", "clip"),
    [
        ("", (0.2, 0.28, "token", "group")),
        ("--epsilon 0.1", (0.1, None, "token", "group")),  # None: as --epsilon
        ("--epsilon_high 0.3", (0.2, 0.3, "token", "group")),
        ("--loss_type dr_grpo", (0.2, None, "token", "none")),
        ("--loss_type dr_grpo --scale_rewards batch", (0.2, None, "token", "batch")),
        ("--loss_type cispo", (0.2, 5.0, "token", "group")),
        ("--loss_type luspo", (2e-3, 2.5e-3, "sequence", "group")),
        ("--loss_type grpo --importance_sampling_level sequence --epsilon 0.1", (0.1, None, "sequence", "group")),
    ],
)
def test_what_is_left_out_is_the_loss_types_and_what_is_named_stays(flags, clip):
    t = parsed(*flags.split())
    assert (t.epsilon, t.epsilon_high, t.importance_sampling_level, t.scale_rewards) == clip


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--loss_type ppo", "invalid choice: 'ppo'"),
        ("--importance_sampling_level sequence", "got sequence with --loss_type dapo, but its ratio is of a token; "
         "leave --importance_sampling_level out, or set --loss_type grpo or luspo"),
        ("--loss_type luspo --importance_sampling_level token", "got token with --loss_type luspo, but its ratio is "),
        ("--loss_type cispo --epsilon 0.2", "--epsilon: acts only with a --loss_type that clips"),
    ],
)  # fmt: skip
def test_what_no_publication_names_is_refused(capsys, flags, message):
    with pytest.raises(SystemExit):
        parsed(*flags.split())
    assert message in capsys.readouterr().err


def test_every_loss_type_of_trl_is_listed():
    """By the words in TRL's own comparisons, so that a new release's loss type is found here."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(GRPOTrainer._compute_loss)))
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    compared = [node for node in compared if ast.unparse(node.left) == "self.loss_type"]
    words = {word.value for node in compared for word in ast.walk(node) if isinstance(word, ast.Constant)}
    assert words == {name for name, _ in LOSS_TYPES}
