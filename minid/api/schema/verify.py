"""What ``image verify`` finds, in JSON: an extension, not part of Docker's API."""

from typing import Any

from minid.images.verify import Finding


def finding(finding: Finding) -> dict[str, Any]:
    """One line of ``POST /minid/images/verify``."""
    return {
        "Image": finding.image_id,
        "Kind": finding.kind,
        "Digest": finding.digest,
        "State": finding.state,
        "How": finding.how,
        "Detail": finding.detail,
        "Repaired": finding.repaired,
    }
