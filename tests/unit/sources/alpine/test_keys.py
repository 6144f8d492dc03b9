"""The keys that come with the program are those that their page says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from boxwright.sources.alpine import keys
from boxwright.sources.alpine.keys import apk_places, read_signature

OWN = Path(keys.__file__).parent / "keys"


def test_own_keys() -> None:
    lines = [line.split() for line in (OWN / "README").read_text().splitlines() if ".rsa.pub" in line]
    listed = {name: digest for digest, name in lines}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in OWN.glob("*.pub")}
    assert found == listed
    assert len(found) == 9


def test_places(tmp_path: Path) -> None:
    places = apk_places({"XDG_CONFIG_HOME": "/home/x/.config"}, "/store", str(tmp_path))
    assert places.keys == ("/store/keys/apk", "/home/x/.config/boxwright/apk-keys", "/etc/apk/keys", str(OWN))


def test_signatures_by_name() -> None:
    assert read_signature(b".SIGN.RSA256.a@b-1.rsa.pub", b"x") == ("a@b-1.rsa.pub", "sha256", b"x")
    for name in (b".SIGN.RSA.../../x", b".SIGN.RSA.a/b", b".SIGN.MD5.a", b".SIGN.RSA.", b".PKGINFO"):
        assert read_signature(name, b"x") is None
