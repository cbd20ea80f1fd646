"""The routes: pages as they lie in the package, and cases by their number in the list. No path comes from outside."""

from __future__ import annotations

import json
import logging
import mimetypes
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from heartlens.app.failure import Failure, log_failure
from heartlens.app.rounds.stage import CaseStage
from heartlens.core.errors import InputRefused
from heartlens.viewer.guard import Guard
from heartlens.viewer.listed import Listed
from heartlens.viewer.refusals import BodyTooLarge, Stale, sentence
from heartlens.viewer.worklist.labels import write_labels
from heartlens.viewer.worklist.rows import Rows

if TYPE_CHECKING:
    from heartlens.viewer.open_case import OpenCase

logger = logging.getLogger("heartlens.viewer")

STATIC = Path(__file__).parent / "static"

KEPT_OPEN = 4
"""Cases in memory, 50 MB each; one that was put away is opened again when a page asks for it."""

AT_ONCE = 100
"""Rows of the list that a page gets by one request: a cohort may have thousands."""

Handler = Callable[[Request], Awaitable[Response]]


class Worklist:
    """The cases that a server shows.

    Parameters
    ----------
    cases
        In the order of the list.
    reader
        Who edits.
    identify
        Show patients' IDs and names.
    labels
        Folder in which labels of the reviewed cases are written; an earlier one is not replaced.
    is_by_need
        The cases that need a reader most come first.
    """

    def __init__(
        self,
        cases: Sequence[Listed],
        *,
        reader: str = "",
        identify: bool = False,
        labels: Path = Path("labels"),
        is_by_need: bool = False,
    ) -> None:
        self.cases, self._is_by_need = tuple(cases), is_by_need
        self._labels, self._rows, self._rows_lock = labels, Rows(), threading.Lock()
        self._reader, self._identify = reader, identify
        self._open: OrderedDict[int, Future[OpenCase]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2)

    def open(self, number: int, *, anew: bool = False) -> OpenCase:
        """The case at a place of the list.

        Parameters
        ----------
        number
            From 0.
        anew
            A case that was open elsewhere is opened again: it may be free by now, and it may have been edited there.

        Raises
        ------
        InputRefused
            It cannot be opened.
        """
        opening = self.begin(number)
        try:
            case = opening.result()
            if anew and case.is_held_elsewhere:
                with self._lock:
                    if self._open.get(number) is opening:  # else another page was first
                        del self._open[number]
                        _close(opening)
                opening = self.begin(number)
                case = opening.result()
            return case
        except BaseException:
            with self._lock:
                if self._open.get(number) is opening:
                    del self._open[number]  # the next request tries again
            raise

    def begin(self, number: int) -> Future[OpenCase]:
        """The opening of a case, begun or done; what is too much in memory is put away."""
        with self._lock:
            if number not in self._open:
                self._open[number] = self._pool.submit(self._open_case, self.cases[number])
            self._open.move_to_end(number)
            while len(self._open) > KEPT_OPEN:
                _close(self._open.popitem(last=False)[1])  # before it can be asked for again: it holds its case's lock
            return self._open[number]

    def _open_case(self, listed: Listed) -> OpenCase:
        from heartlens.viewer.open_case import OpenCase  # here, so that the address is told before all is imported

        if listed.make is not None:
            listed.make()
        case = OpenCase(listed.folder, reader=self._reader, identify=self._identify, name=listed.shown_name)
        if listed.prior is not None:
            try:
                listed.prior.check(case.opened())
            except BaseException:
                case.close()
                raise
        return case

    def prefetch(self, number: int) -> None:
        """Begin to open the case after one, so that the reader does not wait for it; nothing is made on the disk."""
        if number + 1 < len(self.cases) and self.cases[number + 1].is_there:
            self.begin(number + 1)

    def rows(self, first: int) -> dict[str, Any]:
        """How far the cases are: `AT_ONCE` rows of the list, and how many of all are signed.

        Parameters
        ----------
        first
            Number of the first row.
        """
        with self._lock:
            open_here = set(self._open)
        with self._rows_lock:  # what was read is kept, and read once
            shown = range(first, min(first + AT_ONCE, len(self.cases)))
            rows = [self._row(n, is_open_here=n in open_here) for n in shown]
            signed = sum(self._rows.is_signed(listed) for listed in self.cases)
        known = {"signed": signed, "cases": len(self.cases), "reader": self._reader, "is_by_need": self._is_by_need}
        return {"rows": rows, **known}

    def _row(self, number: int, *, is_open_here: bool) -> dict[str, Any]:
        listed = self.cases[number]
        row = self._rows.of(listed, is_open_here=is_open_here)
        return {
            "number": number,
            "name": listed.shown_name,
            "state": row.state,
            "words": row.words,
            "score": row.score,
            "need": "" if row.stage is CaseStage.SIGNED else listed.need or row.need.words,
            "is_reviewed": row.is_reviewed,
        }

    def write_labels(self) -> dict[str, Any]:
        """Write labels of the reviewed cases for training.

        Raises
        ------
        InputRefused
            None is reviewed, or they cannot be written.
        """
        with self._rows_lock:
            reviewed = [one.folder for one in self.cases if self._rows.of(one, is_open_here=True).is_reviewed]
        return write_labels(reviewed, self._labels)

    def close(self) -> None:
        """Let others edit."""
        self._pool.shutdown()
        with self._lock:
            for opening in self._open.values():
                _close(opening)
            self._open.clear()


def _close(opening: Future[OpenCase]) -> None:
    if opening.exception() is None:
        opening.result().close()


def make_app(worklist: Worklist, token: str, hosts: Sequence[str]) -> Guard:
    """The application, guarded.

    Parameters
    ----------
    worklist
        What it shows.
    token
        That pages must bring.
    hosts
        Under which it may be asked.
    """
    pages = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in STATIC.rglob("*") if path.is_file()}

    async def page(request: Request) -> Response:
        name = "/".join(request.path_params.values()) or "index.html"
        if name not in pages:
            return _error(404, "unknown", "There is no such page.")
        return Response(pages[name], media_type=mimetypes.guess_type(name)[0])

    def of_case(work: Callable[[OpenCase, Request, dict[str, Any]], Response], *, anew: bool = False) -> Handler:
        async def handle(request: Request) -> Response:
            number = request.path_params["number"]
            if number >= len(worklist.cases):
                return _error(404, "unknown", "There is no such case in this list.")
            return await answered(request, lambda words: work(worklist.open(number, anew=anew), request, words))

        return handle

    def of_list(work: Callable[[Request], dict[str, Any]]) -> Handler:
        async def handle(request: Request) -> Response:
            return await answered(request, lambda _words: JSONResponse(work(request)))

        return handle

    async def answered(request: Request, work: Callable[[dict[str, Any]], Response]) -> Response:
        try:
            words = _words(await request.body()) if request.method == "POST" else {}
            return await run_in_threadpool(lambda: work(words))
        except BodyTooLarge as error:
            return _error(413, "too-large", str(error))
        except Stale as stale:
            return _error(409, "stale", str(stale))
        except InputRefused as refused:
            return _error(422, refused.code, sentence(refused.text))
        except Exception as error:
            log_failure(logger, "a request failed", error)
            failure = Failure.of(error)
            return _error(500, failure.code, sentence(failure.text))

    def scan(case: OpenCase, request: Request, _words: dict[str, Any]) -> Response:
        number = request.path_params["number"]
        worklist.prefetch(number)
        listed = worklist.cases[number]
        scan = {**case.scan(), "round": listed.round, "has_readings": listed.readings is not None}
        scan["has_prior"] = listed.prior is not None
        return JSONResponse({"scan": scan, "state": case.state(), "cases": len(worklist.cases)})

    def ct(case: OpenCase, request: Request, _words: dict[str, Any]) -> Response:
        first = case.first_slice(request.query_params.get("first", ""))
        return StreamingResponse(
            case.slices(first), media_type="application/octet-stream", headers={"x-first-slice": str(first)}
        )

    def readings(case: OpenCase, request: Request, _words: dict[str, Any]) -> Response:
        pair = worklist.cases[request.path_params["number"]].readings
        if pair is None:  # a second reader is blind to the first: what is not in the list is not read
            return _error(404, "unknown", "This case was not made of two readings.")
        return JSONResponse(case.readings(pair))

    def prior(case: OpenCase, request: Request, _words: dict[str, Any]) -> Response:
        of_case = worklist.cases[request.path_params["number"]].prior
        return _no_prior() if of_case is None else JSONResponse(of_case.beside(case.opened()))

    def prior_ct(_case: OpenCase, request: Request, _words: dict[str, Any]) -> Response:
        of_case = worklist.cases[request.path_params["number"]].prior
        if of_case is None:
            return _no_prior()
        return StreamingResponse(
            of_case.slices(), media_type="application/octet-stream", headers={"x-first-slice": "0"}
        )

    def exported(case: OpenCase, request: Request, _words: dict[str, Any]) -> Response:
        path = case.exported_file(request.path_params["export"], request.path_params["file"])
        if path is None:
            return _error(404, "unknown", "This server has exported no such file.")
        return FileResponse(path, media_type="application/octet-stream")

    def rows(request: Request) -> dict[str, Any]:
        wanted = request.query_params.get("first", "")
        return worklist.rows(int(wanted) if wanted.isdecimal() and len(wanted) < 8 else 0)

    at = "/api/cases/{number:int}"
    routes = [
        Route("/", page),
        Route("/api/worklist", of_list(rows)),
        Route("/api/worklist/labels", of_list(lambda _request: worklist.write_labels()), methods=["POST"]),
        Route(f"{at}", of_case(scan, anew=True)),
        Route(f"{at}/ct", of_case(ct)),
        Route(f"{at}/state", of_case(lambda case, _request, _words: JSONResponse(case.state()))),
        Route(f"{at}/heart", of_case(lambda case, _request, _words: JSONResponse(case.heart()))),
        Route(f"{at}/readings", of_case(readings)),
        Route(f"{at}/prior", of_case(prior)),
        Route(f"{at}/prior/ct", of_case(prior_ct)),
        Route(f"{at}/edit", of_case(lambda case, _request, words: JSONResponse(case.edit(words))), methods=["POST"]),
        Route(f"{at}/look", of_case(lambda case, _request, words: JSONResponse(case.look(words))), methods=["POST"]),
        Route(f"{at}/sign", of_case(lambda case, _request, words: JSONResponse(case.sign(words))), methods=["POST"]),
        Route(
            f"{at}/export", of_case(lambda case, _request, words: JSONResponse(case.export(words))), methods=["POST"]
        ),
        Route(f"{at}/exports/{{export}}/{{file}}", of_case(exported)),
        Route("/{name}", page),
        Route("/{folder}/{file}", page),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            404: _nothing_there,
            405: _nothing_there,
        },
    )
    return Guard(app, token, hosts)


async def _nothing_there(_request: Request, _error_raised: Exception) -> Response:
    return _error(404, "unknown", "There is nothing here.")


def _no_prior() -> JSONResponse:
    return _error(404, "unknown", "No earlier scan was named beside this case.")


def _error(status: int, code: str, text: str) -> JSONResponse:
    return JSONResponse({"code": code, "error": text}, status)


def _words(body: bytes) -> dict[str, Any]:
    """A request's JSON object.

    Raises
    ------
    InputRefused
        ``input``: it is none.
    """
    try:
        words = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, dict):
        raise InputRefused("input", "the request is no JSON object; load the page again")
    return words


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
