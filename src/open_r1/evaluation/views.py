"""Shows the rows of an evaluation with their own pictures and videos, or in another view of `rollout.other_media`."""

from collections.abc import Iterator, Sequence

from open_r1.data.media_views import BLANK, OTHER, OWN, SHUFFLED, STILL, has_view
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.rollout.other_media import OtherMedia
from open_r1.rollout.other_pictures import donor_of
from open_r1.rollout.prompt_loader import RowNumber, View
from open_r1.rollout.prompts import RowMedia

LACKS = {BLANK: "a picture and a video", OTHER: "another row to show", SHUFFLED: "a video", STILL: "a video"}


def donors_of(records: Sequence[Record], rows: Sequence[Record], seed: int) -> list[Record | None]:
    """For each record the row of `rows` whose pictures are shown as another row's; None where there is none."""
    return [donor_of(record, rows, seed) for record in records]


def rows_with_view(view: str, records: Sequence[Record], donors: Sequence[Record | None]) -> Iterator[int]:
    """The numbers of the rows that can be shown so; `donors` are needed for another row's alone."""
    for number, record in enumerate(records):
        if has_view(view, record, donors[number] if donors else None):
            yield number


def refuse_no_view(view: str, rows: Sequence[int]) -> None:
    """Raises UsageError for a view that no row has."""
    if not rows:
        remedy = "choose another view, or other rows"
        raise UsageError(
            f"--view: got {view}, but all rows are without {LACKS[view]}, expected some with it; {remedy}"
        )


def viewer(donors: Sequence[Record | None], media: OtherMedia) -> View:
    """What a `PromptLoader` calls to show a row number's view (in its `split`, after the prompt mode).

    `donors`: the row whose pictures and videos stand in for those of each row. The function raises DataError for a
    donor's file that is damaged.
    """

    def view(row: RowNumber, record: Record, own: RowMedia) -> RowMedia:
        kind = row["split"].partition(" ")[2] or OWN
        return media.shown(kind, record, own, donors[row["row"]] if kind == OTHER else None)

    return view
