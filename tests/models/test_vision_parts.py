"""Which parameters are the vision tower's and the projector's is read from a model's structure."""

import pytest
from helpers.families import FAMILIES

from open_r1.errors import UsageError
from open_r1.models.model_parts import language_parameters, vision_parameters, vision_parts

EXPECTED = {
    "qwen2_5_vl": ("model.visual.",),
    "llava_onevision": ("model.image_newline", "model.vision_tower.", "model.multi_modal_projector."),
    "smolvlm": ("model.vision_model.", "model.connector."),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_parameter_is_of_vision_or_of_language(family):
    model = FAMILIES[family]()
    vision, language = ({id(p) for p in of(model)} for of in (vision_parameters, language_parameters))
    assert vision and language and not vision & language
    assert vision | language == {id(p) for p in model.parameters()}
    assert vision_parts(model) == EXPECTED.get(family, vision_parts(model))


def test_a_model_whose_language_model_holds_all_is_refused():
    model = FAMILIES["qwen2_vl"]()
    model.get_decoder = lambda: model
    with pytest.raises(UsageError, match="'qwen2_vl': its vision modules stand inside its language model"):
        vision_parts(model)
