"""The one gate of the block server: who calls, whether this door opens to them, and how errors are told.

Asked before anything else of a request is looked at. A door is `METHOD PATTERN`; one without a row in
`auth.policy.BLOCK_ROUTES` is shut, also when nothing is behind it. Where a path names a job or an attempt, the caller's
token must be that of the job; other things that a door opens onto are asked about by whoever serves them (`PRINCIPAL`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from minireduce.auth.policy import BLOCK_ROUTES, Authenticator, Principal, authorize, bearer_of
from minireduce.errors import InvariantViolation, MinireduceError, NotFound, Refused, RequestError
from minireduce.ids import AttemptId, JobId, parse_attempt_id
from minireduce.wire.errors import to_http

log = logging.getLogger(__name__)

PRINCIPAL = web.RequestKey("principal", Principal)
"""Who sent a request that passed the gate."""

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


def gate(authenticator: Authenticator) -> Any:
    """The middleware."""

    @web.middleware
    async def admit(request: web.Request, handler: Serve) -> web.StreamResponse:  # the name is aiohttp's
        try:
            resource = request.match_info.route.resource
            door = f"{request.method} {resource.canonical if resource is not None else request.path}"
            principal = authenticator.authenticate(bearer_of(request.headers.get("Authorization")))
            authorize(BLOCK_ROUTES, door, principal)
            _authorize_job(request, principal)
            request[PRINCIPAL] = principal
            return await handler(request)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except web.HTTPException as raised:
            status, body = to_http(NotFound(f"{request.method} {request.path}: {raised.reason}"))
            return web.json_response(body, status=raised.status)
        except Exception as error:
            if not isinstance(error, MinireduceError) or isinstance(error, InvariantViolation):
                log.exception("serving %s failed", request.path)
            elif not isinstance(error, RequestError | Refused):
                log.warning("%s %s: %s", request.method, request.path, error.message)
            status, body = to_http(error)
            return web.json_response(body, status=status)

    return admit


def attempt_named(request: web.Request) -> AttemptId:
    """The attempt that the path names. Raises RequestError."""
    return parse_attempt_id(request.match_info["attempt"])


def _authorize_job(request: web.Request, principal: Principal) -> None:
    if "attempt" in request.match_info:
        job = attempt_named(request).task.job
    elif "job" in request.match_info:
        job = JobId(request.match_info["job"])
    else:
        return
    if not principal.may_read_job(job):
        raise Refused(f"this token does not open what belongs to {job[:40]}", hint="each job has a token of its own")
