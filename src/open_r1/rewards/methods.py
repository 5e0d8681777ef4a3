"""The table of accuracy methods that verify an answer by themselves, by name.

To add one, write its function in a file of this folder and a line in VERIFIABLE. The name is what users write; the
function maps one completion and its record to a number. `registry.METHODS` adds the judge, which asks these where a
gold has their form. Importing this loads neither torch nor sympy.
"""

from functools import partial

from open_r1.rewards.area import area, parsed_area
from open_r1.rewards.base import Method, no_form
from open_r1.rewards.cipher import chars_thinking, decode, parse_decoded
from open_r1.rewards.detection import (
    detection_answer,
    detection_outlines,
    detection_places,
    detections_json,
    od_ap,
    od_ap50,
    od_length,
    weighted_sum,
)
from open_r1.rewards.math import has_formula, parse_math, score_math
from open_r1.rewards.multiple_choice import mcq, mcq_partial, parse_mcq
from open_r1.rewards.points import (
    answered_point,
    centre_answer,
    gold_box_outlines,
    gold_boxes,
    gold_target_outlines,
    point_distance,
    point_in_box,
    point_outlines,
    target_answer,
    target_places,
)
from open_r1.rewards.referring import answered_box, box_answer, box_places, rec, rec_outlines
from open_r1.rewards.segmentation import answered_polygon, gold_ceiling, mask_iou, polygon_outlines, polygon_places
from open_r1.rewards.short_answers import (
    all_match,
    default,
    digits,
    parse_default,
    parse_digits,
    parse_yes_no_answer,
    yes_no,
)
from open_r1.rewards.text_distance import anls, cer, first_accepted, has_accepted_texts

_boxes = partial(Method, parse=answered_box, answer=box_answer, places=box_places, outlines=rec_outlines)
_detections = partial(
    Method, parse=detections_json, answer=detection_answer, places=detection_places, outlines=detection_outlines
)
_points = partial(Method, parse=answered_point, outlines=point_outlines)

VERIFIABLE: dict[str, Method] = {
    "default": Method(default, parse=parse_default, has_form=no_form),
    "math": Method(score_math, parse=parse_math, has_form=has_formula),
    "mcq": Method(mcq, parse=parse_mcq),
    "mcq_partial": Method(mcq_partial, parse=parse_mcq),
    "yes_no": Method(yes_no, parse=parse_yes_no_answer),
    "all_match": Method(all_match, has_form=no_form),
    "digits": Method(digits, parse=parse_digits),
    "rec": _boxes(rec),
    "iou": _boxes(rec),  # VLM-R1's other name of `rec`
    "mask_iou": Method(
        mask_iou,
        parse=answered_polygon,
        gold_maximum=gold_ceiling,
        places=polygon_places,
        outlines=polygon_outlines,
    ),
    "od_ap": _detections(od_ap),
    "od_ap50": _detections(od_ap50),
    "odLength": _detections(od_length),
    "weighted_sum": _detections(weighted_sum),
    "map": _detections(od_ap),  # VLM-R1's name of `od_ap`
    "point_in_box": _points(point_in_box, answer=centre_answer, places=gold_boxes, gold_outlines=gold_box_outlines),
    "point_distance": _points(
        point_distance, answer=target_answer, places=target_places, gold_outlines=gold_target_outlines
    ),
    "cer": Method(cer, has_form=no_form),
    "anls": Method(anls, answer=first_accepted, has_form=has_accepted_texts),
    "decode": Method(decode, parse=parse_decoded, thinking=chars_thinking, has_form=no_form),
    "area": Method(area, maximum=3.0, minimum=-3.0, parse=parsed_area),
}
