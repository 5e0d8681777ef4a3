"""Names a file that stands in place of a picture and is none that can be read. (torch-free)"""

KIND_BYTES = 512  # of the file that are looked at


def unread_kind(head: bytes) -> tuple[str, str]:
    """(what a file that is no readable image is, what helps), by its first KIND_BYTES.

    >>> unread_kind(b"%PDF-1.7")
    ('a PDF', 'save its pages as pictures')
    """
    text, brand = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower(), head[8:12]
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, without the picture", "fetch the pictures: git lfs pull"
    if b"<svg" in text:
        return "an SVG drawing", "save it as PNG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page", "download the picture itself: the link leads to a page, or asks for a login"
    if head[4:8] == b"ftyp":
        kind = brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
        return ("a HEIC or AVIF picture", "save it as JPEG") if kind else ("a video", "save its frames as pictures")
    if head.startswith((b"\x1aE\xdf\xa3", b"FLV")) or (head.startswith(b"RIFF") and brand == b"AVI "):
        return "a video", "save its frames as pictures"
    if head.startswith(b"%PDF"):
        return "a PDF", "save its pages as pictures"
    if text.startswith((b"{", b"[")):
        return "JSON", "download the picture itself: this is an answer of a server, or another file"
    return "no image", "save it in one of these formats"
