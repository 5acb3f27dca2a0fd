"""What FROM and ``--from`` name beside stages: images, pulled if they are missing, and contexts with a name."""

import asyncio
from collections.abc import Mapping
from typing import Any

from minid.build.context import Context
from minid.build.layers import BuildLayers
from minid.build.progress import Report, Step, StepPull
from minid.build.request import BuildRequest
from minid.errors import InvalidParameter
from minid.images.model import Image, Progress
from minid.images.platform import Platform
from minid.images.reference import parse
from minid.images.service import Images


class Bases:
    """Of one build; an image that was asked for is held as long as its layers are."""

    def __init__(self, request: BuildRequest, images: Images, layers: BuildLayers, report: Report) -> None:
        self._request = request
        self._images = images
        self._layers = layers
        self._report = report
        self._pulls: dict[str, asyncio.Lock] = {}

    def named(self, word: str) -> Context | str:
        """The context that the client calls ``word``, or the image or stage that it means; else the word itself."""
        found = self._request.session.contexts.get(word.lower())
        if found is None or isinstance(found, Context):
            return word if found is None else found
        for prefix in ("docker-image://", "target:"):
            if found.startswith(prefix):
                return found.removeprefix(prefix)
        raise InvalidParameter(
            f"--build-context {word}={found}: only directories, docker-image:// and target: are supported"
        )

    async def image(self, name: str, step: Step, platform: Platform | None) -> Image:
        """The image, pulled if it is missing or the client wants it fresh. What pulls raise."""
        async with self._pulls.setdefault(name, asyncio.Lock()):
            image = self._images.find(name)
            if image is not None and platform is not None and not _is_for(image, platform):
                image = None
            if image is None or self._request.pull:
                image = await self._pull(name, step, platform)
        self._layers.hold(self._images.hold(image))
        return image

    async def _pull(self, name: str, step: Step, platform: Platform | None) -> Image:
        def tell(progress: Progress) -> None:
            self._report(StepPull(step, progress))

        auth = self._request.auth.get(parse(name).domain)
        return await self._images.pull(
            name, platform=str(platform) if platform else "", auth=auth, progress=tell
        )


def _is_for(image: Image, platform: Platform) -> bool:
    config: Mapping[str, Any] = image.config
    return config.get("os", "linux") == platform.os and config.get("architecture") == platform.architecture
