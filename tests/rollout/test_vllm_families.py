"""vLLM's rollouts of other families are the policy's, before and after the weights change.

Here are some of each kind; assets/docs/scaling.md names all that `tests/helpers/vllm_family.py` compared by hand.
"""

import json
import re
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import families
from helpers.clips import clip_rows
from helpers.families.tiny import processor_of
from helpers.preloaded import python, ranked
from helpers.repository import REPO
from PIL import Image
from transformers import AutoConfig

from open_r1.data.video.inputs import grey_video
from open_r1.errors import UsageError
from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.prompts import process_chat
from open_r1.rollout.vllm.types import Request
from open_r1.trainer.vllm_rollout import refuse_unknown_to_vllm

vllm = pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
pytestmark = pytest.mark.vllm

FAMILIES = ["qwen2_vl", "qwen3_vl", "internvl", "mistral3", "llava"]  # llava: the weights of its tower are renamed


@pytest.fixture(scope="module")
def compared(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the differences of all `FAMILIES`, and what was said."""
    out = tmp_path_factory.mktemp("families")
    env = {**ranked(), "PYTHONPATH": str(REPO / "tests")}
    command = [python(), REPO / "tests" / "helpers" / "vllm_family.py", out, mixed, *FAMILIES]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=500)
    (out / "said.txt").write_text(done.stderr)
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_have_the_trainers_log_probs(compared, family):
    found = compared / f"{family}.json"
    assert found.exists(), (compared / "said.txt").read_text()[-6000:]
    differences = json.loads(found.read_text())
    assert max(differences["before"] + differences["after"]) < 1e-4  # one image, text, two images


def test_videos_have_the_trainers_log_probs_and_a_server_takes_none(tmp_path):
    """A video, two videos beside a picture, and text, in their own order, with their times."""
    clips = clip_rows(tmp_path, count=2)
    one, other = (json.loads(line) for line in clips.read_text().splitlines())
    Image.new("RGB", (64, 48), (200, 30, 90)).save(tmp_path / "p.png")
    both = one | {"image": "p.png", "video": [one["video"], other["video"]], "problem": "<video>And <image> <video>?"}
    rows = [one, both, {"problem": "What is one?", "solution": "[1]"}] * 4
    clips.write_text("".join(json.dumps(row | {"id": str(i)}) + "\n" for i, row in enumerate(rows)))
    env = {**ranked(), "PYTHONPATH": str(REPO / "tests")}
    command = [python(), REPO / "tests" / "helpers" / "vllm_family.py", tmp_path, clips, "qwen2_5_vl"]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    differences = json.loads((tmp_path / "qwen2_5_vl.json").read_text())
    assert max(differences["before"] + differences["after"]) < 1e-4
    training = SimpleNamespace(use_vllm=True, vllm_mode="server")
    with pytest.raises(UsageError, match="a request over HTTP brings no times of their frames; add --vllm_mode colo"):
        refuse_unknown_to_vllm(training, SimpleNamespace(model_name_or_path="m", model_revision=None), "native")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_frames_have_the_policys_positions_whatever_the_type_of_the_weights(tmp_path, dtype):
    """vLLM rounds the seconds of a video, 0.7 of each two frames, to the type of its weights."""
    from vllm import ModelRegistry
    from vllm.multimodal import MULTIMODAL_REGISTRY

    from open_r1.rollout.vllm.offline import vllm_prompt

    model, processor = families.tiny("qwen2_5_vl"), processor_of("qwen2_5_vl")
    clip = grey_video(frames=12, width=56, height=56, span=4.2)
    chat = [{"role": "user", "content": [{"type": "video", "video": clip}, {"type": "text", "text": "?"}]}]
    ours = process_chat(processor, chat, prompt_fields(processor, model), {})
    folder = str(families.save("qwen2_5_vl", tmp_path))
    config = vllm.EngineArgs(model=folder, dtype=dtype, limit_mm_per_prompt={"video": 1}).create_model_config()
    engine = MULTIMODAL_REGISTRY.create_processor(config)
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    media = vllm_prompt(Request("", [], [], [], None, 1, 0, videos=[clip]))["multi_modal_data"]
    made = engine(text, engine.info.parse_mm_data(media))
    (place,), (item,) = made["mm_placeholders"]["video"], made["mm_kwargs"]["video"]
    shown = SimpleNamespace(mm_position=place, modality="video", data=item)
    counter = SimpleNamespace(config=config.hf_config)
    kind = ModelRegistry.models["Qwen2_5_VLForConditionalGeneration"].load_model_cls()
    counter.iter_mm_grid_thw = partial(kind.iter_mm_grid_thw, counter)
    theirs, _ = kind.get_mrope_input_positions(counter, made["prompt_token_ids"], [shown])
    assert made["prompt_token_ids"] == ours.ids.tolist()
    assert theirs.tolist() == ours.positions.tolist()


@pytest.mark.parametrize(
    ("family", "why"),
    [("internvl", "writes its videos"), ("smolvlm", "takes none of its model"), ("glm4v", "takes at most 1 of its")],
)
def test_videos_that_vllm_writes_otherwise_or_does_not_take_are_refused(family, why, tmp_path):
    from open_r1.rollout.vllm.offline import refuse_unknown_videos

    families.save(family, tmp_path)
    if family == "glm4v":
        refuse_unknown_videos("--use_vllm", "leave it out", str(tmp_path), most=1)
    got = rf"--use_vllm: got .* and rows with up to 2 video.s., but vLLM .* {why}.*; add .* frames, or leave it"
    with pytest.raises(UsageError, match=got):
        refuse_unknown_videos("--use_vllm", "leave it out", str(tmp_path), most=2)


def test_an_evaluation_refuses_them_before_it_loads_a_model(tmp_path):
    clips = clip_rows(tmp_path, count=2)
    one, other = (json.loads(line) for line in clips.read_text().splitlines())
    both = one | {"video": [one["video"], other["video"]], "problem": "<video>And <video>?"}
    clips.write_text(json.dumps(both))
    families.save("glm4v", tmp_path / "model")
    for weights in (tmp_path / "model").glob("*.safetensors"):
        weights.write_bytes(b"no weights")  # which nothing may read
    command = [python(), REPO / "eval" / "evaluate.py", "--backend", "vllm", "--model", tmp_path / "model"]
    command += ["--data_file_paths", clips, "--image_folders", tmp_path, "--output_dir", tmp_path / "out"]
    done = subprocess.run(command, text=True, capture_output=True, env=ranked(), timeout=200)
    got = rf"--backend vllm: got {tmp_path / 'model'} and rows with up to 2 video.s., but vLLM .* takes at most 1 of"
    assert re.match(got, done.stderr.splitlines()[-1]), done.stderr
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_a_check_by_vllm_leaves_transformers_its_own_configurations(tmp_path):
    """vLLM has a Qwen3.5 configuration of its own, of which transformers can make no model."""
    from open_r1.rollout.vllm.offline import refuse_unknown_model

    families.save("qwen3_5", tmp_path)
    refuse_unknown_model(str(tmp_path), half=True)
    assert type(AutoConfig.from_pretrained(tmp_path)).__module__.startswith("transformers.")
    with pytest.raises(UsageError, match=r"float32 on a CPU vLLM .* has no kernel for its layers with a state"):
        refuse_unknown_model(str(tmp_path), half=False)


def test_a_recipe_is_answered_by_the_vllm_that_is_installed(tmp_path, tiny, capfd):
    """The planner's share of a GPU of 24 GiB for the tiny VLM; a family that vLLM computes otherwise is refused."""
    from open_r1.plan.colocated import main
    from open_r1.rollout.vllm.offline import refuse_unknown_model

    def answer(model: str) -> dict[str, str | None]:
        run = "--bf16 --gpus 1 --nodes 1 --gpu_memory 24 --batch 8 --group 8 --global_batch 8 --completion 64"
        main(["--model", model, *run.split()])
        return json.loads(capfd.readouterr().out.splitlines()[-1])

    families.save("aria", tmp_path)
    assert answer(tiny) == {"refused": None, "share": "0.10"}
    why = f"vLLM {vllm.__version__} does not load its experts anew"
    assert answer(str(tmp_path)) == {"refused": why, "share": None}
    with pytest.raises(UsageError, match=f"{tmp_path}, but {re.escape(why)}; leave --use_vllm out"):
        refuse_unknown_model(str(tmp_path), half=True)


def test_an_adapter_of_layers_that_vllm_does_not_adapt_is_refused():
    """vLLM would leave such a layer out of the sum, and say nothing."""
    from open_r1.rollout.vllm.adapter_engine import apply_adapter

    worker = SimpleNamespace(device="cpu", model_runner=SimpleNamespace(lora_manager=SimpleNamespace()))
    worker.model_runner.lora_manager.lora_config = SimpleNamespace(lora_dtype=torch.float32)
    worker.model_runner.lora_manager._adapter_manager = SimpleNamespace(
        model=torch.nn.Identity(),
        modules={"model.qkv_proj": None},
        packed_modules={"model.qkv_proj": ["model.q_proj"]},
    )
    facts = {"r": 1, "lora_alpha": 1, "target_modules": []}
    sent = {f"model.{name}.lora_A.weight": torch.ones(1, 2) for name in ("q_proj", "visual.fc")}
    with pytest.raises(ValueError, match=r"vLLM's Identity takes no adapter of model\.visual\.fc \(and 0 more\)"):
        apply_adapter(worker, facts, sent.items())
