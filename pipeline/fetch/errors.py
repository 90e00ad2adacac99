"""Everything that can go wrong between a publisher and a verified file, and what to do about it."""

import re

MEANINGS = {
    "agreement": "the licence must be agreed to first",
    "bad_archive": "the archive is damaged, cut or of a kind that is not read. A packed "
    "file that came damaged is fetched again once it is deleted from the downloads folder",
    "bomb": "the archive would unpack to far more than it should",
    "certificate": "the server's certificate is not valid; it is never ignored. Another source, "
    "or a copy in the folder that ACULA_MIRROR names, is needed",
    "changed_upstream": "the publisher's bytes are not those of the first download, which the "
    "lock file beside the manifest records. Remove its entry there if the change is intended",
    "cut": "the connection broke again and again. Run the same command once more: it goes on "
    "where it stopped",
    "disk_full": "there is too little room. Free some, or set ACULA_DATA_ROOT to a larger disk",
    "forbidden": "the server refuses access. Open the dataset's page in a browser, and put the "
    "file into the folder that ACULA_MIRROR names",
    "hash_mismatch": "the bytes are not the published ones, so they were deleted",
    "html_page": "the server sent a web page instead of the file, as login pages, error pages and "
    "moved files do. Open the URL in a browser to see which it is",
    "lfs_pointer": "this is a Git LFS pointer, not the file it points to. Fetch it with "
    "`git lfs pull` or from the media URL in the manifest",
    "no_driver": "no driver for this kind of URL is installed",
    "no_range": "the server does not send parts of a file, so single members cannot be fetched; "
    "choose the edition that fetches whole files",
    "not_found": "the server has no such file: it may have moved. Look at the dataset's page",
    "on_request": "this dataset is given out on request only",
    "read_only": "the folder for lock files cannot be written, and checksums that nobody published "
    "are noted there. Set ACULA_LOCKS to a folder of yours",
    "server_error": "the server failed again and again. Try later: it goes on where it stopped",
    "size_mismatch": "the file has another size than the published one",
    "too_many_requests": "the server asks to wait longer than this run may. Try later: it goes on "
    "where it stopped",
    "unreachable": "the server cannot be reached",
    "unsafe_name": "the archive holds a name that could write elsewhere or hide another file",
    "wrong_format": "the file does not begin as its name promises",
}


def shown(url: str) -> str:
    """A URL without user name and password, as it may be printed and kept."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", url)


class FetchError(ValueError):
    """A file that could not be had or used: ``code`` is one of MEANINGS.

    Args:
        code: Why.
        what: File, URL or member that it is about.
        detail: What was seen.
        wait: Seconds that the server asked to wait, if it did.
    """

    def __init__(self, code: str, what: str, detail: str = "", wait: float | None = None) -> None:
        what, detail = shown(what), shown(detail)
        super().__init__(f"{what}: {MEANINGS[code]}" + (f" ({detail})" if detail else ""))
        self.code, self.what, self.detail, self.wait = code, what, detail, wait


# A later attempt at the same source may succeed.
TRANSIENT = frozenset({"cut", "server_error", "too_many_requests", "unreachable"})
