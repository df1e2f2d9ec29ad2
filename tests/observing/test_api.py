"""`isotherm serve` tells operators its metrics, and anybody whether it is well: nothing else without a token."""

from __future__ import annotations

import pytest

from streams.api.hub import Hub
from streams.metrics import TABLE
from streams.observing.api import READING, unready
from streams.observing.verified import leave
from streams.settings import Settings
from tests.api.conftest import WITHOUT, Asked, api, file, settings, start, world
from tests.observing.conftest import Scraped

__all__ = ["api", "file", "settings", "start", "world"]
VERIFIED = {each.name for each in TABLE if each.name.startswith("isotherm_verified_")}
pytestmark = pytest.mark.kafka


async def test_its_metrics_are_for_operators(api: Asked) -> None:
    await api.is_reading()
    assert (await api.get("/metrics", WITHOUT)).status == 401
    assert (await api.get("/metrics", "reader")).status == 403
    found = await api.get("/metrics", "operator")
    assert found.status == 200
    assert found.headers["Content-Type"].startswith("text/plain; version=")
    scraped = Scraped.of(found.body.decode())
    wanted = {each.name for each in TABLE if "serve" in each.owner}
    assert wanted - scraped.names() == VERIFIED, "nobody has verified yet"
    assert scraped.value("isotherm_api_reading") == 1
    async with api.listens():
        scraped = Scraped.of((await api.get("/metrics", "operator")).body.decode())
        assert scraped.value("isotherm_api_listeners") == 1


async def test_what_verify_found_last_is_told(api: Asked, settings: Settings) -> None:
    found = {"compared": 25, "over": 2, "under": 1, "answers": 0, "wakes": 0, "sets": 4}
    assert await leave(settings, found) == ""
    scraped = Scraped.of((await api.get("/metrics", "operator")).body.decode())
    assert scraped.names() >= VERIFIED
    for kind, count in (("over", 2), ("under", 1), ("answers", 0), ("wakes", 0), ("sets", 4)):
        assert scraped.value("isotherm_verified_differences", kind=kind) == count
    assert scraped.value("isotherm_verified_accounts") == 25
    assert scraped.value("isotherm_verified_time_seconds")


async def test_openmetrics_is_spoken_to_who_asks_for_it(api: Asked) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0", **api._shows("operator")}
    async with api.session.get(f"{api.url}/metrics", headers=accept) as found:
        assert found.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await found.text()).endswith("# EOF\n")


async def test_probes_need_no_token_and_open_no_door(api: Asked) -> None:
    await api.is_reading()
    for path in ("/healthz", "/readyz"):
        found = await api.get(path, WITHOUT)
        assert (found.status, found.body) == (200, b"ok\n")
        assert (await api.get(path, WITHOUT, method="HEAD")).status == 200
        assert (await api.get(path, WITHOUT, method="POST")).status == 401
    for path in ("/healthz/", "/healthz/../v1/segments", "//healthz", "/v1/segments", "/healthzz"):
        assert (await api.get(path, WITHOUT)).status == 401, path


async def test_it_is_ready_once_it_reads(api: Asked) -> None:
    """Its reader has only begun to look for its place when the first question is answered, or has found it."""
    first = await api.get("/readyz", WITHOUT)
    assert first.status == 200 or b"segment.changes" in first.body
    await api.is_reading()
    assert (await api.get("/readyz", WITHOUT)).status == 200


def test_a_hub_that_does_not_read_is_not_ready(settings: Settings) -> None:
    assert unready(Hub(settings)) == [READING]
