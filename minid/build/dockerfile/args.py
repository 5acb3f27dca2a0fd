"""Build arguments that need no ARG. Source: docs.docker.com/reference/dockerfile § Predefined ARGs and the next two."""

from collections.abc import Mapping

from minid.images.platform import Platform

# Usable by RUN without ARG; then in no history and in no cache key.
PREDEFINED_ARGS = frozenset(
    case(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for case in (str.upper, str.lower)
)

# What a client may pass that no Dockerfile has to declare: settings of the builder itself.
BUILDER_ARGS = frozenset(
    (
        *("BUILDKIT_BUILD_NAME", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_CONTEXT_KEEP_GIT_DIR"),
        *("BUILDKIT_GIT_ADVICE", "BUILDKIT_INLINE_CACHE", "BUILDKIT_MULTI_PLATFORM"),
        *("BUILDKIT_SANDBOX_HOSTNAME", "BUILDKIT_SYNTAX", "BUILDKIT_DOCKERFILE_CHECK", "SOURCE_DATE_EPOCH"),
    )
)

PLATFORM_ARGS = tuple(
    side + part for side in ("TARGET", "BUILD") for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
)


def platform_args(target: Platform, build: Platform) -> Mapping[str, str]:
    """Set in the global scope; a stage sees one after ``ARG TARGETARCH``, and then ``--build-arg`` may change it."""
    values: dict[str, str] = {}
    for side, platform in (("TARGET", target), ("BUILD", build)):
        values |= {
            f"{side}PLATFORM": str(platform),
            f"{side}OS": platform.os,
            f"{side}ARCH": platform.architecture,
            f"{side}VARIANT": platform.variant,
        }
    return values
