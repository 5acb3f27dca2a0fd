"""Errors to answers: the one table that knows HTTP status codes, and the shape ``{"message": …}``."""

from typing import Any

from aiohttp import web

from minid import errors
from minid.api.answers import json_response

STATUS: dict[type[errors.MinidError], int] = {
    errors.InvalidParameter: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
    errors.Failed: 500,
}


class PageNotFound(errors.NotFound):
    """No operation has this method and path."""

    def __init__(self) -> None:
        super().__init__("page not found")


class BodyTooLarge(errors.InvalidParameter):
    """The request's body is longer than its operation takes."""


STATUS[BodyTooLarge] = 413


def status_of(error: BaseException) -> int:
    """The status of the nearest class in the table; 500 for anything unexpected."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def message_of(error: BaseException) -> str:
    """What the client may read: a domain error's own words, and of an accident only its kind."""
    if isinstance(error, errors.MinidError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename!r}" if error.filename else ""
        return f"{error.strerror}{where}"
    return f"internal error ({type(error).__name__}): see the daemon's log"


def body_of(error: BaseException) -> dict[str, Any]:
    return {"message": message_of(error)}


def answer(error: BaseException) -> web.Response:
    """The HTTP response for ``error``; 304 has no body (RFC 9110 § 15.4.5)."""
    status = status_of(error)
    if status == 304:
        return web.Response(status=304)
    return json_response(body_of(error), status=status)
