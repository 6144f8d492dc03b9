"""How a container is told of its bundle."""

from __future__ import annotations

from boxwright.model.bundle import container_variables


def test_what_is_not_given_is_left_out() -> None:
    assert container_variables("https://x/a.zip") == {"PACKAGE_ZIP_URL": "https://x/a.zip"}


def test_digests_with_and_without_their_kind() -> None:
    plain = container_variables("u", "0" * 64, "token", public_key="key")
    assert plain == container_variables("u", f"sha256:{'0' * 64}", "token", public_key="key")
    assert plain["PACKAGE_ZIP_SHA256"] == "0" * 64
    assert plain["PACKAGE_ZIP_TOKEN"] == "token"
    assert plain["PACKAGE_ZIP_PUBKEY"] == "key"
