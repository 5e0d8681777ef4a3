"""Names a file that stands in place of a video and is none. (torch-free)"""

PROBED_BYTES = 512  # of the file that are looked at
PICTURE_MAGIC = {b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}
ARCHIVE_MAGIC = {b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive"}
PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")


def no_video(head: bytes) -> tuple[str, str] | None:
    """(what a file that is no video is, what helps), by its first PROBED_BYTES; None for what may be one.

    >>> no_video(b"%PDF-1.7")
    ('a PDF', 'name the file of the video')
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, without the video", "fetch the videos: git lfs pull"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page", "download the video itself: the link leads to a page, or asks for a login"
    if text.startswith((b"{", b"[")):
        return "JSON", "download the video itself: this is an answer of a server, or another file"
    if text.startswith(b"#extm3u"):
        return "a playlist, which names other files", "download the video itself, as one file"
    if head.startswith(b"%PDF"):
        return "a PDF", "name the file of the video"
    kind = next((name for magic, name in PICTURE_MAGIC.items() if head.startswith(magic)), None)
    if head[4:8] == b"ftyp" and head[8:12] in PICTURE_BRANDS:
        kind = "HEIC or AVIF"
    if kind is not None:
        return f"a still picture ({kind})", "name it under 'image', or list the pictures of the frames under 'video'"
    archive = next((name for magic, name in ARCHIVE_MAGIC.items() if head.startswith(magic)), None)
    return (archive, "unpack it, and name the file of the video") if archive else None
