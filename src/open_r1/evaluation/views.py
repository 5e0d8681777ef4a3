"""Shows rows with their own pictures, with blank ones, or with another row's."""

from collections.abc import Callable, Sequence

from PIL import Image

from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.rollout.other_pictures import Rgb, blank_pictures, donor_of, fitted_pictures
from open_r1.rollout.prompts import RowNumber

OWN, BLANK, OTHER = "own", "blank", "other"

RowPictures = list[Image.Image]


def donors_of(records: Sequence[Record], rows: Sequence[Record], seed: int) -> list[Record | None]:
    """For each record the row of `rows` whose pictures are shown as another row's; None where there is none."""
    return [donor_of(record, rows, seed) for record in records]


def viewer(donors: Sequence[Record | None], color: Rgb) -> Callable[[RowNumber, RowPictures], RowPictures]:
    """What a `PromptLoader` calls to show a row number's view (in its `split`, after the prompt mode).

    `donors`: the row whose pictures stand in for those of each row; `color`: of blank pictures. The function raises
    DataError for another row's picture that is damaged.
    """

    def view(row: RowNumber, pictures: RowPictures) -> RowPictures:
        kind = row["split"].partition(" ")[2] or OWN
        if kind == OTHER:
            return fitted_pictures(load_images([donors[row["row"]]])[0], pictures)
        return blank_pictures(pictures, color) if kind == BLANK else pictures

    return view
