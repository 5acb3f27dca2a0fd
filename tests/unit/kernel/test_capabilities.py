"""Names and numbers of capabilities; nothing here needs root."""

from minid.kernel import capabilities as caps


def test_numbers_are_the_kernels() -> None:
    assert len(caps.ALL) == 41
    assert caps.NUMBER["CAP_CHOWN"] == 0
    assert caps.NUMBER["CAP_SYS_ADMIN"] == 21
    assert caps.NUMBER["CAP_SYS_RESOURCE"] == 24
    assert caps.NUMBER["CAP_AUDIT_READ"] == 37
    assert caps.NUMBER["CAP_CHECKPOINT_RESTORE"] == 40


def test_mask_is_dockers_well_known_number() -> None:
    assert caps.mask(caps.DEFAULT) == 0xA80425FB
    assert caps.names(0xA80425FB) == caps.DEFAULT


def test_available_is_within_what_exists() -> None:
    assert caps.available() <= set(caps.ALL)
