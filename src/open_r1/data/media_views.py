"""What a row may be shown in place of its own pictures and videos, by name. (torch-free)"""

from open_r1.data.record import Record

OWN, BLANK, OTHER, SHUFFLED, STILL = "own", "blank", "other", "shuffled_frames", "first_frame"
VIEWS = {
    OWN: "the rows' own pictures and videos",
    BLANK: "blank ones of the same sizes",
    OTHER: "those of another row, which has another answer",
    SHUFFLED: "the frames of each video in another order, at the times of the true one",
    STILL: "the first frame of each video all along",
}
OF_TIME = (SHUFFLED, STILL)  # of videos alone; pictures stay


def has_view(view: str, record: Record, donor: Record | None) -> bool:
    """Whether a row can be shown so: with pictures or videos to blank, a donor of others, a video for its order."""
    if view in OF_TIME:
        return bool(record.videos)
    if view == OTHER:
        return donor is not None
    return view == OWN or bool(record.images or record.videos)
