"""A base model in 4 bits on the fake device: its layers as bitsandbytes packs them, by its own code."""

import torch
from transformers import PreTrainedModel
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from open_r1.models.quantization import FourBit, configuration, settle
from open_r1.rehearse.on_device import DEVICE


def pack_weights(model: PreTrainedModel, four_bit: FourBit, dtype: torch.dtype) -> None:
    """Replace the linear layers of a model on the fake device by packed ones, as `from_pretrained` does."""
    quantizer = Bnb4BitHfQuantizer(configuration(four_bit, model, dtype), pre_quantized=False)
    quantizer.preprocess_model(model, dtype=dtype, device_map=None)
    for module in model.modules():
        if hasattr(module, "quant_storage"):
            pack_layer(module, four_bit, dtype)
    model.hf_quantizer = quantizer
    quantizer.postprocess_model(model)
    settle(model)


def pack_layer(layer: torch.nn.Linear, four_bit: FourBit, dtype: torch.dtype) -> None:
    """Give a layer of bitsandbytes its packed weight, scales and bias on the device."""
    from bitsandbytes.functional import quantize_4bit

    whole = torch.empty(layer.out_features, layer.in_features, dtype=dtype, device=DEVICE)
    packed, state = quantize_4bit(whole, compress_statistics=four_bit.nested, quant_type=four_bit.quant_type)
    layer.weight = torch.nn.Parameter(packed, requires_grad=False)  # Params4bit would be no fake tensor
    layer.weight.quant_state = layer.quant_state = state
    layer.weight.compress_statistics, layer.weight.quant_type = four_bit.nested, four_bit.quant_type  # peft reads them
    if layer.bias is not None:
        bias = torch.empty(layer.out_features, dtype=dtype, device=DEVICE)
        layer.bias = torch.nn.Parameter(bias, requires_grad=False)
