"""The HTTP application of the master: routes, and the one middleware that every request passes.

In this order: is it meant for this host (a name that an attacker points at our address is refused, which is how pages
of strangers would otherwise reach a loopback port), does a form come from a page of ours (`Origin`), who calls (a
bearer token, or the cookie of a login), may they (the table of doors in `auth.policy`; what has no row there is shut),
and only then the answer. Errors leave as JSON with the status that `wire.errors` gives them; a browser without a login
is led to it.

All text that a page shows is escaped, no page runs a script, and a strict content security policy says so too.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from minireduce.auth.policy import MASTER_ROUTES, NOBODY, Authenticator, Principal, authorize, bearer_of
from minireduce.core.texts import texts
from minireduce.core.views import TaskView
from minireduce.errors import MinireduceError, NotFound, Refused, RequestError
from minireduce.ids import parse_task_id
from minireduce.web import metrics, pages, status_text
from minireduce.web.as_json import as_json
from minireduce.web.views import Views
from minireduce.wire.errors import to_http

log = logging.getLogger(__name__)

COOKIE = "minireduce"
TEXT_BYTES_MAX = 4 << 20  # of what the attempts of a task printed is shown on its page, and what the last piece brings
LOGIN_BYTES_MAX = 16 << 10

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with less, browsers hide the origin of our own form
    "Cache-Control": "no-store",
}

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(views: Views, authenticator: Authenticator, hosts: Sequence[str], *, is_secure: bool) -> web.Application:
    """The application. `hosts` are names of this machine; addresses are always taken."""
    names = frozenset({"localhost", *(host.lower() for host in hosts)})
    app = web.Application(client_max_size=LOGIN_BYTES_MAX, middlewares=[_guard(authenticator, names)])
    pages_of = _Pages(views, authenticator, is_secure=is_secure)
    app.router.add_get("/healthz", pages_of.healthz)
    app.router.add_get("/login", pages_of.show_login)
    app.router.add_post("/login", pages_of.log_in)
    app.router.add_get("/", pages_of.overview)
    app.router.add_get("/jobs/{job}", pages_of.show_job)
    app.router.add_get("/jobs/{job}/tasks/{task}", pages_of.show_task)
    app.router.add_get("/metrics", pages_of.metrics)
    app.router.add_get("/status.txt", pages_of.status_text)
    app.router.add_get("/api/v1/jobs", pages_of.api_jobs)
    app.router.add_get("/api/v1/jobs/{job}", pages_of.api_job)
    app.router.add_get("/api/v1/jobs/{job}/tasks", pages_of.api_tasks)
    app.router.add_get("/api/v1/workers", pages_of.api_workers)
    app.router.add_get("/api/v1/cluster", pages_of.api_cluster)
    return app


def _guard(authenticator: Authenticator, names: frozenset[str]) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Respond) -> web.StreamResponse:  # the name is aiohttp's
        principal = NOBODY
        response: web.StreamResponse
        try:
            if not _is_for_us(request, names):
                return _misdirected(request)
            _check_origin(request)
            principal = _principal(authenticator, request)
            resource = request.match_info.route.resource
            authorize(MASTER_ROUTES, f"{request.method} {resource.canonical if resource else request.path}", principal)
            response = await handler(request)
        except web.HTTPException as raised:
            response = _failure(request, _as_ours(raised), principal)
        except MinireduceError as error:
            response = _failure(request, error, principal)
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            response = _failure(request, error, principal)
        response.headers.update(_HEADERS)
        return response

    return guard


def _is_for_us(request: web.Request, names: frozenset[str]) -> bool:
    host = request.host.lower()
    name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(request: web.Request) -> None:
    """Raise Refused for a form that another site's page sends. Browsers say where it stood; other programs need not."""
    origin = request.headers.get("Origin")
    if request.method not in {"GET", "HEAD"} and origin is not None and urlsplit(origin).netloc != request.host:
        raise Refused(f"a page of {origin} may send nothing here", hint="log in on the page of this master")


def _misdirected(request: web.Request) -> web.Response:
    hint = "use its address, or start it with --advertise"
    _, body = to_http(Refused(f"{request.host!r} is no name of this master", hint=hint))
    return web.json_response(body, status=421, headers=_HEADERS)


def _principal(authenticator: Authenticator, request: web.Request) -> Principal:
    bearer = bearer_of(request.headers.get("Authorization"))
    if bearer is not None:
        return authenticator.authenticate(bearer)
    return authenticator.authenticate_cookie(request.cookies.get(COOKIE))


def _as_ours(raised: web.HTTPException) -> MinireduceError:
    if raised.status == 404:
        return NotFound("there is nothing at this address", hint="/api/v1/jobs, /metrics and /status.txt are there")
    return RequestError(f"{raised.status} {raised.reason}")


def _failure(request: web.Request, error: BaseException, principal: Principal) -> web.Response:
    status, body = to_http(error)
    if isinstance(error, Refused) and principal is NOBODY:
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return web.Response(status=303, headers={"Location": "/login"})
        return web.json_response(body, status=401, headers={"WWW-Authenticate": "Bearer"})
    return web.json_response(body, status=status)


class _Pages:
    """What each route answers."""

    def __init__(self, views: Views, authenticator: Authenticator, *, is_secure: bool) -> None:
        self._views = views
        self._authenticator = authenticator
        self._is_secure = is_secure

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def show_login(self, _request: web.Request) -> web.Response:
        return _html(pages.login())

    async def log_in(self, request: web.Request) -> web.Response:
        token = str((await request.post()).get("token", ""))
        try:
            cookie = self._authenticator.log_in(token)
        except Refused as error:
            return _html(pages.login(error.message), status=403)
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="Strict", secure=self._is_secure)
        return response

    async def overview(self, _request: web.Request) -> web.Response:
        views = self._views
        return _html(pages.overview(await views.cluster(), await views.jobs(), await views.workers()))

    async def show_job(self, request: web.Request) -> web.Response:
        job = await self._views.job(request.match_info["job"])
        return _html(pages.job(job, await self._views.tasks(job.job)))

    async def show_task(self, request: web.Request) -> web.Response:
        task = parse_task_id(request.match_info["task"])
        job = await self._views.job(request.match_info["job"])
        found = next((view for view in await self._views.tasks(job.job) if view.task == task), None)
        page = await self._views.printed(job.job, 0, task)
        pieces = list(page.pieces)
        while page.pieces and sum(len(piece.data) for piece in pieces) < TEXT_BYTES_MAX:
            page = await self._views.printed(job.job, page.last, task)
            pieces.extend(page.pieces)
        errors = [failed for failed in job.errors if failed.attempt.task == task]
        if found is None and not pieces and not errors:
            raise NotFound(f"{job.job} has no task {task}, or nothing more is kept of it")
        return _html(pages.task(job, found or TaskView(task, "", ()), errors, list(texts(pieces))))

    async def metrics(self, _request: web.Request) -> web.Response:
        views = self._views
        text = metrics.render(await views.cluster(), await views.jobs(), await views.workers())
        return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def status_text(self, _request: web.Request) -> web.Response:
        views = self._views
        text = status_text.render(await views.cluster(), await views.jobs(), await views.workers())
        return web.Response(body=text.encode("utf-8", "replace"), content_type="text/plain", charset="utf-8")

    async def api_jobs(self, _request: web.Request) -> web.Response:
        return web.json_response({"jobs": as_json(await self._views.jobs())})

    async def api_job(self, request: web.Request) -> web.Response:
        return web.json_response(as_json(await self._views.job(request.match_info["job"])))

    async def api_tasks(self, request: web.Request) -> web.Response:
        return web.json_response({"tasks": as_json(await self._views.tasks(request.match_info["job"]))})

    async def api_workers(self, _request: web.Request) -> web.Response:
        return web.json_response({"workers": as_json(await self._views.workers())})

    async def api_cluster(self, _request: web.Request) -> web.Response:
        return web.json_response(as_json(await self._views.cluster()))


def _html(text: str, *, status: int = 200) -> web.Response:
    body = text.encode("utf-8", "replace")
    return web.Response(body=body, status=status, content_type="text/html", charset="utf-8")
