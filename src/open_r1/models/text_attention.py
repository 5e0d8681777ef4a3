"""Chooses the attention function of the text model alone."""

from transformers import PreTrainedModel


def set_text_attention(model: PreTrainedModel, implementation: str) -> None:
    """Let the text model take an implementation of transformers' registry; other parts of the model keep theirs."""
    text = model.config.get_text_config()
    parts = {name: getattr(model.config, name) for name in model.config.sub_configs}
    chosen = {
        name: implementation if part is text else part._attn_implementation
        for name, part in parts.items()
        if part is not None
    }
    model.set_attn_implementation(chosen)
