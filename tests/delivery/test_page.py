"""docs/webhooks.md is run: its file is read, its receivers verify what is sent, its numbers are the code's."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streams.commands.deliveries import app
from streams.delivery import asking, endpoints, store
from streams.delivery.policy import DAY, HOUR, MINUTE, SECOND, Policy
from streams.delivery.queue import How
from streams.embedded import free_port
from streams.sinks import webhook
from tests.delivery.conftest import OTHER_SECRET, WITHIN_S, Delivering, Receiver, endpoint, id_of, moved

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_file_on_the_page_is_right() -> None:
    assert [each.name for each in endpoints.parse("webhooks.yaml", block("yaml"))] == ["journeys", "crm-bridge"]


def test_every_key_is_on_the_page() -> None:
    written = set(endpoints.WrittenEndpoint.model_fields) - {"to"}
    for name in (
        written
        | set(endpoints.WebhooksFile.model_fields)
        | {f"to.{name}" for name in webhook.WebhookTo.model_fields}
    ):
        assert f"`{name}`" in PAGE or name == "endpoints"


@pytest.mark.parametrize("name", sorted(name for name in app if not name.startswith("-")))
def test_every_command_is_on_the_page(name: str) -> None:
    assert f"`isotherm deliveries {name}" in PAGE


UNITS = ((HOUR, "h"), (MINUTE, "min"), (SECOND, "s"))


def written(wait: int) -> str:
    return next(f"{wait // unit} {name}" for unit, name in UNITS if wait % unit == 0)


POLICY = Policy()


@pytest.mark.parametrize(
    "said",
    [
        f"| tried again after | {', '.join(map(written, POLICY.retry.waits))}; then it is given up |",
        f"within {asking.ANSWER_WITHIN_S:.0f} s, from connecting",
        f"Of a body {asking.BODY // 1024} KB are read",
        "When ten deliveries in a row have failed" if POLICY.probe.failing_after == 10 else "?",
        "after 5 s, 5 min, and then every 30 min" if len(POLICY.probe.waits) == 3 else "?",
        f"when {POLICY.stored:,} failed deliveries of an endpoint wait",
        "After five days without a success" if POLICY.probe.disabled_after == 5 * DAY else "?",
        "up to a day" if POLICY.retry.asked_at_most == DAY else "?",
        f"its own window of {POLICY.window} changes",
        f"the newest {store.KEPT[How.DELIVERED]:,} deliveries that arrived, ",
        f"{store.KEPT[How.GIVEN_UP]:,} that were given up and {store.KEPT[How.SUPERSEDED]:,} that were superseded",
        f"`whsec_` and {webhook.SHORTEST} to {webhook.LONGEST} random bytes",
    ],
)
def test_the_numbers_are_those_of_the_code(said: str) -> None:
    assert said in PAGE


# -- the receivers ------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    """The URL of a receiver of the page as a process, and what it prints."""
    port = free_port()
    environment = os.environ | {"PORT": str(port), "WEBHOOK_SECRET": OTHER_SECRET}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}/", process.stdout
    finally:
        process.kill()
        await process.wait()


Publish = Callable[..., Awaitable[None]]


async def takes_and_refuses(
    delivering: Delivering, receiver: Receiver, changes: Publish, url: str, printed: asyncio.StreamReader
) -> None:
    """What is signed with its secret too is taken; what is signed with another one alone is not."""
    both = webhook.Held("env", "TEST_WEBHOOK_SECRET"), webhook.Held("env", "TEST_OTHER_SECRET")
    await changes(moved(1))
    await delivering.start(endpoint(receiver, "known", url=url, secrets=both))
    assert (await asyncio.wait_for(printed.readline(), WITHIN_S)).decode().split() == ["acme", "engagement", "hot"]
    await delivering.start(endpoint(receiver, "unknown", url=url, secrets=both[:1]))

    async def refused() -> bool:
        return await delivering.find(id_of(moved(1)), "unknown") is not None

    await delivering.until(refused)
    waiting = await delivering.find(id_of(moved(1)), "unknown")
    assert [each.status for each in waiting.attempts] == [401]


async def test_the_python_receiver_takes_what_is_signed_for_it(
    delivering: Delivering, receiver: Receiver, changes: Publish, tmp_path: Path
) -> None:
    (tmp_path / "receiver.py").write_text(block("python"))
    async with running(sys.executable, str(tmp_path / "receiver.py")) as (url, printed):
        await takes_and_refuses(delivering, receiver, changes, url, printed)


@pytest.mark.skipif(not shutil.which("node"), reason="no Node here")
async def test_the_node_receiver_takes_what_is_signed_for_it(
    delivering: Delivering, receiver: Receiver, changes: Publish, tmp_path: Path
) -> None:
    (tmp_path / "receiver.mjs").write_text(block("js"))
    async with running("node", str(tmp_path / "receiver.mjs")) as (url, printed):
        await takes_and_refuses(delivering, receiver, changes, url, printed)
