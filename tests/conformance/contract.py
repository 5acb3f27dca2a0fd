"""The Engine API's published definitions as a judge: does this answer have the shape it promises?

The definitions are Swagger 2; each response's schema becomes a JSON schema in which a field that is not defined is
an error (a misspelt name would otherwise pass) and ``null`` is only right where the definitions, or dockerd, say so.
"""

import copy
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = "docker-engine-api-v1.44.yaml"

# Where Go leaves a nil slice or map, dockerd answers null although the definitions do not say so.
NULL_IN_DOCKERD = frozenset(
    {
        "BuildPruneResponse.CachesDeleted",
        "ContainerChangeResponse",
        "ContainerInspectResponse.ExecIDs",
        "ContainerPruneResponse.ContainersDeleted",
        "ContainerUpdateResponse.Warnings",
        "ExecInspectResponse.ExitCode",
        "EndpointSettings.Aliases",
        "EndpointSettings.DNSNames",
        "EndpointSettings.DriverOpts",
        "EndpointSettings.IPAMConfig",
        "EndpointSettings.Links",
        "HistoryResponseItem.Tags",
        "Resources.MemorySwappiness",
        "IPAM.Options",
        "ImageInspect.ContainerConfig",
        "NetworkSettings.SecondaryIPAddresses",
        "NetworkSettings.SecondaryIPv6Addresses",
        "NetworkPruneResponse.NetworksDeleted",
        "ImagePruneResponse.ImagesDeleted",
        "PluginsInfo.Authorization",
        "RegistryServiceConfig.AllowNondistributableArtifactsCIDRs",
        "RegistryServiceConfig.AllowNondistributableArtifactsHostnames",
        "RegistryServiceConfig.Mirrors",
        "SystemInfo.GenericResources",
        "SystemInfo.Warnings",
        "Volume.Labels",
        "Volume.Options",
        "VolumeListResponse.Warnings",
        "VolumePruneResponse.VolumesDeleted",
        "GraphDriverData.Data",
        "ImageSummary.Labels",
    }
)
NULL_RECORDS = (
    "ContainerConfig",
    "HostConfig",
    "ImageConfig",
    "Resources",
    "SwarmInfo",
)  # lists and maps in these may all be null


def find_definitions() -> Path | None:
    """The file of definitions: in ``MINID_TEST_SPECS``, or beside the repository."""
    folders = [REPOSITORY.parent / "shared/specs", Path("/work/shared/specs")]
    if named := os.environ.get("MINID_TEST_SPECS"):
        folders.insert(0, Path(named))
    return next((folder / FILE for folder in folders if (folder / FILE).exists()), None)


class Contract:
    """``problems`` is empty when an answer keeps the contract."""

    def __init__(self, path: Path) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.load(path.read_text(), Loader=loader)
        self._document = document
        self._operations = [
            (re.compile(re.sub(r"\{name\}", ".+", re.sub(r"\{(?!name\})\w+\}", "[^/]+", template))), template)
            for template in sorted(document["paths"], key=lambda template: ("{" in template, template))
        ]

    def operation(self, method: str, path: str) -> tuple[str, dict[str, Any]]:
        """The operation's template and definition. ``KeyError`` for one that the API does not have."""
        for pattern, template in self._operations:
            if pattern.fullmatch(path) and method.lower() in self._document["paths"][template]:
                return template, self._document["paths"][template][method.lower()]
        raise KeyError(f"{method} {path} is no operation of the API")

    def problems(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """What is wrong with an answer; ``path`` without the version prefix, ``body`` parsed JSON or None."""
        template, operation = self.operation(method, path)
        responses = {
            int(code): response for code, response in operation["responses"].items() if str(code).isdigit()
        }
        if status not in responses:
            return [f"{method} {template}: status {status} is not among {sorted(responses)}"]
        schema = responses[status].get("schema")
        if schema is None or schema.get("type") == "string":
            return (
                [] if body is None or schema else [f"{method} {template}: {status} has no body by definition"]
            )
        name = f"{method} {template} {status}"
        return [f"{name}: {problem}" for problem in self.check(schema, body)]

    def check(self, schema: dict[str, Any], body: Any) -> list[str]:
        validator = jsonschema.Draft4Validator(self._convert(schema, schema.get("title", "")))
        return [
            f"{'.'.join(map(str, error.absolute_path)) or 'body'}: {error.message[:300]}"
            for error in validator.iter_errors(body)
        ]

    def definition(self, name: str) -> dict[str, Any]:
        return {"$ref": f"#/definitions/{name}"}

    def _convert(self, schema: dict[str, Any], name: str, loose: bool = False) -> dict[str, Any]:
        """A Swagger 2 schema as draft 4, references put in place. ``name``: for the table of nulls."""
        name = schema.get("title", name)
        nullable = bool(schema.get("x-nullable"))
        if "$ref" in schema:
            target = schema["$ref"].rpartition("/")[2]
            inner = self._definition(target)
            return or_null(inner) if nullable or name in NULL_IN_DOCKERD else inner
        if "allOf" in schema:
            converted = self._merge(schema["allOf"], name)
            return or_null(converted) if nullable else converted
        result = {
            key: schema[key]
            for key in ("type", "enum", "minimum", "maximum", "minItems", "maxItems")
            if key in schema
        }
        kind = schema.get("type") or ("object" if "properties" in schema else None)
        loose = loose or name in NULL_RECORDS
        if kind == "array":
            result["items"] = self._convert(schema.get("items", {}), f"{name}[]")
        elif kind == "object":
            properties = schema.get("properties", {})
            result["properties"] = {
                key: self._property(value, f"{name}.{key}", loose) for key, value in properties.items()
            }
            if "required" in schema:
                result["required"] = schema["required"]
            more = schema.get("additionalProperties")
            if isinstance(more, dict):
                result["additionalProperties"] = self._convert(more, f"{name}{{}}")
            elif properties and more is not True:
                result["additionalProperties"] = False
        if "enum" in result and "" not in result["enum"] and kind == "string":
            result["enum"] = [*result["enum"], ""]
        return or_null(result) if nullable or name in NULL_IN_DOCKERD else result

    def _property(self, schema: dict[str, Any], name: str, loose: bool) -> dict[str, Any]:
        converted = self._convert(schema, name)
        listlike = schema.get("type") in ("array", "object") or "$ref" in schema
        return or_null(converted) if loose and listlike else converted

    def _merge(self, parts: list[dict[str, Any]], name: str) -> dict[str, Any]:
        """``allOf`` as one object, so that fields that are in none of its parts can be refused."""
        if len(parts) < 3 and "$ref" in parts[0] and "properties" not in self._definition_source(parts[0]):
            return self._convert(parts[0], name)  # a named string with a description of its own
        merged: dict[str, Any] = {"type": "object", "properties": {}}
        for part in parts:
            origin = part["$ref"].rpartition("/")[2] if "$ref" in part else name
            converted = copy.deepcopy(
                self._definition(origin) if "$ref" in part else self._convert(part, name)
            )
            merged["properties"] |= converted.get("properties", {})
            if "required" in converted:
                merged["required"] = [*merged.get("required", []), *converted["required"]]
        merged["additionalProperties"] = False
        return merged

    def _definition_source(self, reference: dict[str, Any]) -> dict[str, Any]:
        source: dict[str, Any] = self._document["definitions"][reference["$ref"].rpartition("/")[2]]
        return {"properties": {}} if "allOf" in source else source

    @cache  # noqa: B019 (one contract a test run)
    def _definition(self, name: str) -> dict[str, Any]:
        return self._convert(self._document["definitions"][name], name)


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for template, methods in document["paths"].items():
        for method in methods:
            if method in ("get", "head", "post", "put", "delete"):
                yield method.upper(), template
