"""What a file's first bytes say it is, against what its name promises."""

import re

from pipeline.fetch.errors import FetchError

HEAD = 512
# First bytes by the end of a name. Later volumes of a cut archive have none, and single
# recordings are not judged here: a broken one is the publisher's, and quarantined later.
_MAGIC = {
    r"\.(zip|z01|xlsx)$": (b"PK",),
    r"\.7z(\.0*1)?$": (b"7z\xbc\xaf\x27\x1c",),
    r"\.(tar\.gz|tgz|gz)(\.aa)?$": (b"\x1f\x8b",),
    r"\.npy$": (b"\x93NUMPY",),
}


def check(name: str, head: bytes, content_type: str = "", begins: bool = True) -> None:
    """Refuse a body that cannot be the file it is called.

    Args:
        name: What the file is called in the manifest.
        head: Its first bytes.
        content_type: As the server has it.
        begins: The file begins its format; the last volume of a spanned zip does not.

    Raises:
        FetchError: html_page, lfs_pointer or wrong_format.
    """
    if head.startswith(b"version https://git-lfs"):
        raise FetchError("lfs_pointer", name)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    page = text.startswith((b"<!doctype html", b"<html"))
    if not name.endswith((".html", ".htm")) and (page or content_type.startswith("text/html")):
        title = re.search(rb"<title>([^<]{1,80})", head, re.IGNORECASE)
        raise FetchError("html_page", name, title[1].decode(errors="replace") if title else "")
    for ending, magics in _MAGIC.items() if begins else ():
        if re.search(ending, name) and not head.startswith(magics):
            raise FetchError("wrong_format", name, f"begins with {head[:8]!r}")
