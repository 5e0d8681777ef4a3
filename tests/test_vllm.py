"""vLLM's rollouts are the policy's: the same prompts, the same log-probs, before and after the weights change."""

import pytest
import torch
from test_trainer import make_trainer, rows

pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
pytestmark = pytest.mark.vllm

FLAGS = "--use_vllm true --vllm_max_model_length 256 --gradient_accumulation_steps 1 --max_steps 1"


@pytest.fixture(scope="module")
def trainer(tiny, mixed, tmp_path_factory):
    """One engine in this process; text rows, rows of one image, rows of two images of different sizes."""
    return make_trainer(tiny, mixed, tmp_path_factory.mktemp("run"), *FLAGS.split())


def differences(trainer, *numbers: int) -> torch.Tensor:
    """|log-prob that vLLM drew a token with - log-prob of the trainer|, of all tokens of a rollout of these rows."""
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows(*numbers, group=4))
    kept = batch["completion_mask"].bool()
    ours = batch["old_per_token_logps"]
    return (batch["sampling_per_token_logps"] - ours).abs()[kept]


@pytest.mark.parametrize(("kind", "numbers"), [("one image", (0, 3)), ("text", (1, 4)), ("two images", (2, 5))])
def test_log_probs_are_the_trainers(trainer, kind, numbers):
    assert differences(trainer, *numbers).max() < 1e-4
