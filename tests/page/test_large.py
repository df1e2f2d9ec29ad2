"""A segment that takes a moment to sort is shown at once."""

from __future__ import annotations

import asyncio

import pytest

from streams.api.rights import Tokens
from streams.page import looks
from streams.page.app import create
from streams.page.sessions import Sessions
from tests.api.conftest import running
from tests.page.conftest import TIMEOUT_S, Installation

HTML = {"Accept": "text/html"}
COLD, NOT_YET = "/segments/engagement/cold", "are being sorted by"


async def test_members_are_shown_by_id_until_they_are_sorted(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "PATIENCE_S", 0.0)  # so that a few are as many
    tokens = Tokens(str(installation.file))
    async with running(create(installation.settings, tokens, Sessions(tokens)), installation.tokens) as asked:

        async def shown(path: str) -> str:
            headers = HTML | {"Authorization": f"Bearer {installation.tokens['reader']}"}
            async with asked.session.get(asked.url + path, headers=headers) as answer:
                assert answer.status == 200
                return await answer.text()

        first = await shown(COLD)
        assert NOT_YET in first
        assert "who came last" in first
        assert 'data-live="polled"' in first, "it is read again by itself"
        assert first.count('<tr><th scope="row">') > 1
        assert 'rel="next"' not in first
        async with asyncio.timeout(TIMEOUT_S):
            while NOT_YET in (then := await shown(COLD)):
                pass
        assert "data-live" not in then
        by_id = await shown(f"{COLD}?sort=account&q=crm")
        assert NOT_YET not in by_id
