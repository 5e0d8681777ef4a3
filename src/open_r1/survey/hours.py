"""Hours and price of the run on a card, by a rehearsal in a process of its own: fake devices outlast one."""

import json
import os
import subprocess
import sys
from typing import Any

from open_r1.errors import UsageError
from open_r1.evaluation.vllm_engine import OF_TORCHRUN
from open_r1.rehearse.flags import as_words, given_flags, rehearsable
from open_r1.survey.flags import SurveyPlan


def rehearsed_times(plan: SurveyPlan, completion_tokens: int) -> dict[str, Any]:
    """The fields of `rehearse.report.RunTime` for completions all of this length, and `left_out`: what of the run is
    not in them.

    Raises UsageError, with the rehearsal's own words, for a run that cannot be rehearsed.
    """
    own = plan.own
    kept, left_out = rehearsable(given_flags(as_words(plan.run_flags)))
    given = {
        **{name: words for name, words in kept.items() if name != "fp16"},  # rehearsed as bfloat16
        "model_name_or_path": [plan.settings.model],
        "gpu": [own.gpu],
        "nproc": [str(own.nproc)],
        "completion_length": [str(completion_tokens)],
        **({"gpu_price": [str(own.gpu_price)]} if own.gpu_price else {}),
        "json": [],
    }
    environment = {name: value for name, value in os.environ.items() if name not in OF_TORCHRUN}
    command = [sys.executable, "-m", "open_r1.rehearse", *as_words(given)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        reason = done.stderr.strip() or f"exit status {done.returncode}"
        raise UsageError(f"--gpu: got {own.gpu}, but the run cannot be rehearsed on it; leave it out\n{reason}")
    return json.loads(done.stdout.splitlines()[-1]) | {"left_out": left_out}
