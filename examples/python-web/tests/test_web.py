"""The shop without a server."""

from shop.web import application, visitors


def test_the_shop_is_well() -> None:
    assert application().match({"PATH_INFO": "/healthz", "REQUEST_METHOD": "GET"})


def test_nobody_counts_without_a_cache(monkeypatch) -> None:
    monkeypatch.delenv("CACHE_HOST", raising=False)
    assert visitors() == 0
