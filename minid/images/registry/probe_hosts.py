"""``registry test`` of a registry that has a rule: the order of its hosts, and what each that is not itself answers."""

import time
from collections.abc import AsyncIterator

from minid.config.registries import PULL, PUSH, RESOLVE
from minid.errors import MinidError
from minid.images.reference import Reference
from minid.images.registry.challenge import parse_challenges
from minid.images.registry.client import Repository
from minid.images.registry.hosts import Place, Route
from minid.images.registry.step import FAILED, NOTE, OK, SKIPPED, Step
from minid.images.registry.transport import Transport

UNUSED = "the rule leaves it out: nothing is pulled from it or pushed to it"


async def host_steps(transport: Transport, reference: Reference, route: Route) -> AsyncIterator[Step]:
    """``reference``'s path and tag may be empty."""
    yield Step("hosts", OK, order(route), rule=route.rule)
    for place in route.places:
        if not place.is_own:
            started_s = time.perf_counter()
            step = await _try(transport, reference, route, place)
            took_ms = round((time.perf_counter() - started_s) * 1000, 1)
            yield Step(step.name, step.result, step.detail, step.rule, step.advice, took_ms)
    if not any(place.is_own for place in route.places):
        yield Step("itself", SKIPPED, UNUSED, rule=route.rule)


def order(route: Route) -> str:
    """ "1. mirror.example (pull, resolve), 2. registry.example (pull, resolve, push)"."""
    return ", ".join(
        f"{number}. {place.host} ({', '.join(place.capabilities) or 'nothing'})"
        for number, place in enumerate(route.places, 1)
    )


async def _try(transport: Transport, reference: Reference, route: Route, place: Place) -> Step:
    others = all(
        any(other is not place for other in route.able(capability))
        for capability in (PULL, RESOLVE, PUSH)
        if place.can(capability)
    )
    bad = NOTE if others else FAILED
    try:
        response = await transport.registry("GET", place.access, f"{place.root}/", headers={})
        response.release()
    except MinidError as error:
        text, _, advice = str(error).removeprefix("registry ").partition(": ")[2].rpartition(": ")
        return Step("host", bad, f"{place.host}: {text or advice}", advice=advice if text else "")
    status = response.status
    if status == 401 and parse_challenges(response.headers.getall("WWW-Authenticate", [])):
        if not reference.path:
            return Step("host", OK, f"{place.host}: answers, and wants to know who asks")
    elif status != 200:
        return Step("host", bad, f"{place.host}: {place.root}/ answered {status}: is it a registry?")
    if not reference.tag or not place.can(PULL):
        return Step("host", OK, f"{place.host}: a registry answers by {response.url.scheme.upper()}")
    try:
        await Repository(transport, reference, None, retry_delays_s=(), place=place).manifest(reference.tag)
    except MinidError as error:
        return Step("host", NOTE, f"{place.host}: {place.path}:{reference.tag}: {error}")
    return Step("host", OK, f"{place.host}: has {place.path}:{reference.tag}")
