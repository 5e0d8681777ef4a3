"""What a judge did and cost is counted over all ranks, and a run says which judge it had."""

import json
import os
import subprocess

import pytest
import yaml
from helpers.fake_endpoint import Reply, serving, verdict
from helpers.preloaded import ranked, venv
from helpers.repository import REPO, free_port

from open_r1.data.jsonl_io import read_lines

FLAGS = "--use_cpu true --bf16 false --max_steps 3 --num_generations 4 --per_device_train_batch_size 4 "
FLAGS += "--report_to none --max_completion_length 30 --temperature 1.3 --save_strategy no --disable_tqdm true"
FLAGS += " --seed 1 --logging_steps 1"


@pytest.mark.distributed
def test_calls_of_two_ranks_are_summed_and_the_judge_is_named(tiny, digits, tmp_path):
    rows = [row | {"accu_reward_method": "llm"} for row in read_lines(digits / "train.jsonl")][:8]
    (digits / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ranks = [f"{venv()}/bin/torchrun", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port"]
    command = [*ranks, str(free_port()), "src/open_r1/grpo_jsonl.py", "--model_name_or_path", tiny, *FLAGS.split()]
    command += f"--data_file_paths {digits}/judged.jsonl --image_folders {digits} --output_dir {tmp_path}".split()

    def reply(request: dict, served: int) -> Reply:
        return Reply("?", usage=(100, 10)) if served == 4 else verdict(request, served % 2 == 0)

    with serving(reply) as server:
        env = {**ranked(), **server.environment(), "JUDGE_MODEL": "m", "JUDGE_PRICE_IN": "1"}
        env = {**os.environ, **env}
        done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        calls = len(server.requests)
    line = [line for line in read_lines(tmp_path / "metrics.jsonl") if "judge/calls" in line][-1]
    assert calls > 6 and line["judge/calls"] == calls and line["judge/tokens_in"] == 100 * calls
    assert line["judge/malformed"] == 1 and line["judge/cost"] == pytest.approx(100 * calls / 1e6)
    config = yaml.safe_load((tmp_path / "resolved_config.yaml").read_text())
    assert config["judge"] == {"JUDGE_MODEL": "m", "OPENAI_BASE_URL": server.url}
    assert "| judge, where rewards asked one | m at http" in (tmp_path / "checkpoint" / "README.md").read_text()
