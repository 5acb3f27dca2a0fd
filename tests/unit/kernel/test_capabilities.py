"""Names, numbers and Docker's choice of capabilities; nothing here needs root."""

import pytest

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


def test_nothing_asked_gives_the_default() -> None:
    assert caps.select((), (), False) == caps.DEFAULT


def test_add_and_drop_ignore_case_and_prefix() -> None:
    chosen = caps.select(["net_admin", "CAP_SYS_TIME"], ["Cap_Mknod", "kill"], False)
    assert set(chosen) == (set(caps.DEFAULT) | {"CAP_NET_ADMIN", "CAP_SYS_TIME"}) - {"CAP_MKNOD", "CAP_KILL"}
    assert list(chosen) == sorted(chosen, key=caps.NUMBER.__getitem__)


def test_add_wins_over_drop() -> None:
    assert "CAP_CHOWN" in caps.select(["CHOWN"], ["CHOWN"], False)


def test_add_all_but_some() -> None:
    assert set(caps.select(["all"], ["SYS_ADMIN"], False)) == set(caps.SUPPORTED) - {"CAP_SYS_ADMIN"}


def test_drop_all_but_some() -> None:
    assert caps.select(["chown"], ["ALL"], False) == ("CAP_CHOWN",)
    assert caps.select([], ["ALL"], False) == ()


def test_add_all_and_drop_all_gives_all_as_docker_does() -> None:
    assert caps.select(["ALL"], ["ALL"], False) == caps.SUPPORTED


def test_privileged_ignores_the_lists() -> None:
    assert caps.select([], ["ALL"], True) == caps.SUPPORTED


@pytest.mark.parametrize("lists", [(["BOGUS"], []), ([], ["cap_bogus"])])
def test_unknown_name(lists: tuple[list[str], list[str]]) -> None:
    with pytest.raises(ValueError, match=r'^unknown capability: "CAP_BOGUS"$'):
        caps.select(*lists, False)


def test_name_above_the_kernels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caps, "LAST", 37)
    with pytest.raises(ValueError, match=r'not supported by your kernel.*"CAP_BPF"'):
        caps.select(["BPF"], [], False)


def test_available_is_within_what_exists() -> None:
    assert caps.available() <= set(caps.ALL)
