"""What minid says of registries in JSON: an extension, not part of Docker's API."""

from typing import Any

from minid.config.registries import PULL, PUSH, RESOLVE
from minid.images.reference import Reference
from minid.images.registry.hosts import Place, Route
from minid.images.registry.step import Step


def step(step: Step) -> dict[str, Any]:
    """One line of ``GET /minid/registries/{name}/test``."""
    return {
        "Step": step.name,
        "Result": step.result,
        "Detail": step.detail,
        "Rule": step.rule,
        "Advice": step.advice,
        "DurationMs": step.took_ms,
    }


def explanation(reference: Reference, route: Route, image_id: str) -> dict[str, Any]:
    """``GET /minid/images/{name}/explain``; ``image_id`` is "" when no image here has the name."""
    push = route.able(PUSH)
    return {
        "Name": reference.familiar,
        "Canonical": str(reference),
        "Domain": reference.domain,
        "Path": reference.path,
        "Tag": reference.tag,
        "Digest": reference.digest,
        "ImageId": image_id,
        "Rule": route.rule,
        "Hosts": [_place(place) for place in route.places],
        "Resolve": [place.host for place in route.able(RESOLVE)],
        "Pull": [place.host for place in route.able(PULL)],
        "Push": push[0].host if push else "",
    }


def _place(place: Place) -> dict[str, Any]:
    access = place.access
    return {
        "Host": place.host,
        "Url": place.url,
        "Capabilities": list(place.capabilities),
        "Own": place.is_own,
        "SkipVerify": access.skip_verify,
        "Ca": [str(path) for path in access.ca],
        "Client": [str(certificate) for certificate, _ in access.client],
        "Header": [name for name, _ in access.header],
        "Namespace": place.namespace,
    }
