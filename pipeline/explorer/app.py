"""The pages of the explorer: a list, one recording, one dataset; read-only but for marks.

Everything is drawn by the server, so that it works without a script; the script adds keys, the
playhead and the parts of a page that take longer. Requests for another host are refused, and a
mark is taken only from a page of this server: no page of another site can read or write here.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from pipeline.explorer import details, neighbours, sheet, sound
from pipeline.explorer.corpus import Corpus
from pipeline.explorer.query import ORDERS, PAGE, QUALITY, BadQuery, Query, find
from pipeline.explorer.ranges import ranged
from pipeline.explorer.reading import KINDS
from pipeline.lineage import Chain, LineageError, Subject, UnknownId, chain, is_file
from pipeline.lineage import find as named
from pipeline.lineage.evidence import Evidence
from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import marks, pages

STATIC = pages.FOLDER / "explorer"
HOSTS = ["127.0.0.1", "localhost"]
SEVERAL = 200  # names that a page lists
NOTE_BYTES = 20_000  # of a mark's form
_TYPES = {".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; media-src 'self'; "
    "style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Extend = Callable[[Chain, str, Any], Chain]


class Explorer:
    """The handlers, over one data root.

    Args:
        settings: Data root and file of marks.
        extend: Adds links that only the wiring knows, such as Dagster's events.
    """

    def __init__(self, settings: Settings, extend: Extend | None = None):
        self.corpus = Corpus(settings.data_root)
        self.corpus.open()  # a corpus that cannot be read is told at the start
        self.marks = marks.place(settings)
        self._extend = extend
        self._pages = pages.environment()
        self._pages.filters["path"] = quote
        self._pages.globals |= {
            "ORDERS": ORDERS, "QUALITY": QUALITY, "KINDS": KINDS, "pair_id": pair_id,
        }  # fmt: skip

    def app(self) -> Starlette:
        """The application."""
        routes = [
            Route("/", self._list),
            Route("/recording/{name:path}", self._recording),
            Route("/dataset/{name}", self._dataset),
            Route("/go", self._go),
            Route("/audio/{name:path}", self._audio),
            Route("/spectrogram/{name:path}", self._spectrogram),
            Route("/chain/{name:path}", self._chain),
            Route("/near/{name:path}", self._near),
            Route("/mark/{name:path}", self._mark, methods=["POST"]),
            Route("/static/{name}", self._static),
        ]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
        problems = {HTTPException: self._problem, LineageError: self._problem}
        return Starlette(routes=routes, middleware=[hosts], exception_handlers=problems)  # pyright: ignore[reportArgumentType]

    async def _list(self, request: Request) -> Response:
        return await run_in_threadpool(self._listed, request)

    def _listed(self, request: Request) -> Response:
        query = _query(request)
        catalog, doubtful = self.corpus.catalog, self.corpus.doubtful(self.marks)
        found = find(catalog, query, doubtful)
        pages_ = max(1, -(-len(found.rows) // PAGE))
        page = min(_page(request), pages_)
        shown = [catalog.entry(int(i)) for i in found.rows[(page - 1) * PAGE : page * PAGE]]
        return self._page("list.html.j2", query=query, found=found, rows=shown, page=page,
                          pages=pages_, first=(page - 1) * PAGE + 1, catalog=catalog,
                          doubtful=doubtful, terms=self.corpus.terms(query.dataset),
                          hours=catalog.hours(found.rows))  # fmt: skip

    async def _recording(self, request: Request) -> Response:
        return await run_in_threadpool(self._shown, request)

    def _shown(self, request: Request) -> Response:
        query, catalog = _query(request), self.corpus.catalog
        it = self._details(request)
        doubtful = self.corpus.doubtful(self.marks)
        rows, at = find(catalog, query, doubtful).rows, catalog.row(it.name)
        where = next(iter((rows == at).nonzero()[0]), None)
        before = catalog.name(int(rows[where - 1])) if where else ""
        after = (
            catalog.name(int(rows[where + 1]))
            if where is not None and where + 1 < len(rows)
            else ""
        )
        return self._page("recording.html.j2", it=it, query=query, before=before, after=after,
                          place=None if where is None else int(where) + 1, total=len(rows),
                          mark=doubtful.get(it.name), ticks=sound.ticks(),
                          note_length=marks.NOTE_LENGTH, width=sound.WIDTH,
                          height=sound.WAVE_HEIGHT)  # fmt: skip

    async def _dataset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.corpus.catalog.tables.datasets:
            raise HTTPException(404, f"No dataset {name!r} here.")
        found = await run_in_threadpool(sheet.of, self.corpus.catalog, name)
        return self._page("dataset.html.j2", it=found, query=Query(dataset=name))

    async def _go(self, request: Request) -> Response:
        """To whatever `acula trace` would find by this name."""
        what = request.query_params.get("what", "").strip()
        if is_file(what):  # of this computer: none of the explorer's business
            raise HTTPException(400, "A path is for `acula trace`; here a name in an archive does.")
        subjects = await run_in_threadpool(named, self.corpus.catalog.tables, what)
        if what.startswith("person:"):
            return RedirectResponse("/?" + Query().address(person=what.partition(":")[2]), 303)
        names = [f"{s.dataset}/{s.name}" if s.kind == "quarantined" else s.name for s in subjects]
        if len(names) > 1:
            return self._page("several.html.j2", what=what, names=names[:SEVERAL], total=len(names))
        return RedirectResponse(f"/recording/{quote(names[0])}", 303)

    async def _audio(self, request: Request) -> Response:
        content = await run_in_threadpool(self._flac, request)
        return ranged(content, "audio/flac", request.headers.get("range"), dict(_HEADERS))

    async def _spectrogram(self, request: Request) -> Response:
        def draw() -> bytes:
            return sound.spectrogram(sound.decoded(self._flac(request)))

        try:
            return Response(await run_in_threadpool(draw), media_type="image/png", headers=_HEADERS)
        except RuntimeError as error:  # libsndfile's errors are of its kind
            raise HTTPException(404, f"The sound was altered: {error}") from error

    def _flac(self, request: Request) -> bytes:
        name = request.path_params["name"]
        try:
            return self.corpus.catalog.flac(name)
        except KeyError:
            raise HTTPException(404, f"No recording here is called {name!r}.") from None
        except FileNotFoundError as error:
            raise HTTPException(404, str(error)) from error

    async def _chain(self, request: Request) -> Response:
        return await run_in_threadpool(self._chained, request)

    def _chained(self, request: Request) -> Response:
        it = self._details(request)
        tables = self.corpus.catalog.tables
        kind, name = ("quarantined", it.refused.file) if it.refused else ("recording", it.name)
        found = chain(tables, Subject(kind=kind, dataset=it.dataset, name=name))
        if self._extend:
            found = self._extend(found, it.dataset, tables)
        return self._page("chain.html.j2", chain=found)

    async def _near(self, request: Request) -> Response:
        return await run_in_threadpool(self._neighbours, request)

    def _neighbours(self, request: Request) -> Response:
        catalog, evidence = self.corpus.catalog, self._evidence(request)
        own = evidence.recording["recording_id"]
        encoder, heard = neighbours.by_audio(catalog.tables, own)
        report = (evidence.report or {}).get("full_hash")
        teacher, cosines = neighbours.by_text(catalog.tables, report) if report else ("", {})
        columns, where = ["recording_id", "full_hash", "full_text"], {"full_hash": list(cosines)}
        alike = catalog.tables.rows("pairs", "", where, columns) if cosines else []
        read = sorted(alike, key=lambda r: (-cosines[r["full_hash"]], r["recording_id"]))
        return self._page("near.html.j2", encoder=encoder, teacher=teacher, cosines=cosines,
                          heard=[(n, catalog.row(n.recording_id)) for n in heard],
                          read=read[: neighbours.SHOWN], catalog=catalog)  # fmt: skip

    async def _mark(self, request: Request) -> Response:
        origin = request.headers.get("origin")
        if not origin or urlsplit(origin).netloc != request.headers.get("host"):
            raise HTTPException(403, "Marks are taken from the explorer's own pages only.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > NOTE_BYTES:
                raise HTTPException(413, f"A note has at most {marks.NOTE_LENGTH} characters.")
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        it = self._details(request)
        if it.kind != KINDS[0]:
            raise HTTPException(400, f"{it.name} is no pair: there is nothing to leave out.")
        doubtful, note = form.get("doubtful") == "yes", form.get("note", "")
        key = pair_id(it.name)
        mark = marks.Mark(pair_id=key, recording_id=it.name, doubtful=doubtful, note=note)
        await run_in_threadpool(marks.add, self.marks, mark)
        query = _query(request).address()
        return RedirectResponse(f"/recording/{quote(it.name)}{'?' + query if query else ''}", 303)

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name in ("style.css", "chain_links.css"):
            path = pages.FOLDER / name
        elif name in ("explorer.css", "explorer.js"):
            path = STATIC / name
        else:
            raise HTTPException(404, "There is no such file.")
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_HEADERS)

    async def _problem(self, _: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return self._page("problem.html.j2", error.status_code, said=error.detail)
        status = 404 if isinstance(error, UnknownId) else 500
        return self._page("problem.html.j2", status, said=str(error))

    def _details(self, request: Request) -> details.Details:
        name = request.path_params["name"]
        try:
            return details.of(self.corpus.catalog, name)
        except KeyError:
            raise HTTPException(404, f"Nothing here is called {name!r}.") from None

    def _evidence(self, request: Request) -> Evidence:
        name = request.path_params["name"]
        if found := self.corpus.evidence(name):
            return found
        raise HTTPException(404, f"No recording here is called {name!r}.")

    def _page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        text = self._pages.get_template(f"explorer/{template}").render(**values)
        return HTMLResponse(text.lstrip(), status, _HEADERS)


def _query(request: Request) -> Query:
    try:
        return Query.parse(request.query_params)
    except BadQuery as error:
        raise HTTPException(400, str(error)) from error


def _page(request: Request) -> int:
    value = request.query_params.get("page", "1")
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise HTTPException(400, f"page is a number from 1; got {value[:50]!r}")
    return max(1, int(value))
