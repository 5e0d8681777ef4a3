"""Writes a model's folder, the weights first: a file beside them that cannot be written costs no weights."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError
from open_r1.models.configuration import one_line
from open_r1.models.generation_defaults import GENERATION_FILE, flags_alone
from open_r1.models.quantization import FOUR_BIT_FILE, base_of

logger = logging.getLogger(__name__)

SideFiles = Mapping[str, Callable[[Path], object]]  # name -> what writes it into a folder


def save_weights(model: PreTrainedModel | PeftModel, folder: Path, state_dict: dict[str, Any] | None = None) -> None:
    """Write weights and configuration, of an adapter its own. Raises OSError and what safetensors raises.

    The generation configuration is written with its end and pad tokens alone, which transformers never refuses.
    """
    with flags_alone(model):
        model.save_pretrained(folder, state_dict=state_dict)


def side_files(model: PreTrainedModel | PeftModel, processor: ProcessorMixin) -> SideFiles:
    """The files beside the weights: the model's own generation configuration, tokenizer, template, image processor; of
    an adapter how its base model is rounded, if it is."""
    own = {} if isinstance(model, PeftModel) else {GENERATION_FILE: model.generation_config.save_pretrained}
    if four_bit := base_of(model):
        own[FOUR_BIT_FILE] = four_bit.save
    return {**own, "the processor's files (tokenizer, chat template, image processor)": processor.save_pretrained}


def save_side_files(files: SideFiles, folder: Path) -> None:
    """Write each file; those that fail are named in one error of the log, with what to do."""
    failed = {}
    for name, write in files.items():
        try:
            write(folder)
        except Exception as error:  # whatever it is, the weights are written, and stay
            failed[name] = one_line(error)
    if failed:
        named = "; ".join(f"{name}: {error}" for name, error in failed.items())
        logger.error(
            "%s: THE WEIGHTS ARE SAVED, BUT NOT: %s. Training can go on from it; before you use the model elsewhere, "
            "copy the missing files from the model that it was trained from",
            folder,
            named,
        )


def refuse_unsavable(model: PreTrainedModel | PeftModel, files: SideFiles) -> None:
    """Write configuration and side files to a folder that is thrown away, so that a run cannot end at its first save.

    Raises UsageError, which names the file.
    """
    with TemporaryDirectory() as folder:
        for name, write in {"config.json": model.config.save_pretrained, **files}.items():
            try:
                write(Path(folder))
            except Exception as error:
                raise UsageError(
                    f"{model.config._name_or_path}: {name} could not be saved with the trained model: "
                    f"{one_line(error)}; correct it in the model's folder"
                ) from error
