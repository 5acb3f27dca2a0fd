"""The warnings of ``docker build --check``. Source: docs.docker.com/reference/build-checks."""

from minid.build.dockerfile.checks.forms import check_forms
from minid.build.dockerfile.checks.model import (
    RULES,
    CheckOptions,
    CheckWarning,
    Findings,
    Surroundings,
    parse_options,
)
from minid.build.dockerfile.checks.variables import check_variables
from minid.build.dockerfile.model import Dockerfile

_NOTHING = Surroundings()


def check(
    dockerfile: Dockerfile, *, options: CheckOptions | None = None, surroundings: Surroundings = _NOTHING
) -> list[CheckWarning]:
    """All warnings, in the order of the file; ``options`` replace those of ``# check=``. ``InvalidParameter``."""
    findings = Findings(parse_options(dockerfile.directives.check) if options is None else options)
    check_forms(dockerfile, findings)
    check_variables(dockerfile, surroundings, findings)
    order = list(RULES)
    return sorted(findings.warnings, key=lambda each: (each.location.first, order.index(each.rule)))


__all__ = ["RULES", "CheckOptions", "CheckWarning", "Surroundings", "check", "parse_options"]
