"""Kept and told through a real broker, a real Redis and what stands in for Slack: crashes, losses, bursts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rules.durations import HOUR, SECOND
from streams import topics
from streams.alerting.book import LostError
from streams.alerting.rulebook import Rulebook
from streams.alerting.state import unpack
from streams.alerting.stepping import Claimed
from streams.playback import up_to_its_end
from streams.settings import Settings
from tests.alerting.conftest import Alerting, Servers
from tests.alerting.slack import Slack
from tests.alerting.world import moved, rules

HOOK = """
channels: {hook: {slack: {}}}
tell: {otherwise: {channel: hook}}
"""
BOT = """
channels:
  bot: {{slack: {{token: "env:SLACK_TOKEN", api: "{url}/api/"}}}}
tell:
  otherwise: {{channel: bot, to: CQUEUE}}
"""


def hooked(slack: Slack) -> list[str]:
    return [key for key, _ in slack.hooked]


async def kept(settings: Settings) -> dict[str, Any]:
    """The newest record of each account in the topic."""
    found: dict[str, Any] = {}
    async for message in up_to_its_end(settings, topics.ALERTS):
        found[message.key.decode()] = unpack(message.value) if message.value else None
    return found


async def test_what_is_told_stands_in_the_topic_before_and_after(servers: Servers, slack: Slack) -> None:
    one = servers.alerting(rules(base=HOOK), f"{slack.url}/hook")
    await one.heats("acme", 1)
    assert (await kept(servers.settings))["acme"].alerts["hot"].phase == "new"
    await one.tells()
    assert (await kept(servers.settings))["acme"].alerts["hot"].phase == "sent"
    assert hooked(slack) == ["0.0.1.0/hot"]


async def dies_before_it_is_claimed(one: Alerting) -> None:
    """Nothing more happens."""


async def dies_before_it_is_sent(one: Alerting) -> None:
    assert await one.teller._claim("hook/") is not None


async def dies_before_it_is_noted(one: Alerting) -> None:
    parcel = await one.teller._claim("hook/")
    assert parcel is not None
    await one.senders.send(parcel)


async def dies_and_redis_is_emptied(one: Alerting) -> None:
    await dies_before_it_is_sent(one)
    await one.redis.flushall()


async def dies_between_kafka_and_redis(one: Alerting) -> None:
    """The record of what was told is in the topic, and Redis was never told."""
    before = await one.redis.hgetall(one.book._key("states"))
    parcel = await one.teller._claim("hook/")
    assert parcel is not None
    outcome = await one.senders.send(parcel)
    await one.teller._note("hook/", parcel, outcome)
    await one.redis.hset(one.book._key("states"), mapping=before)


@pytest.mark.parametrize(
    ("dies", "sent"),
    [
        (dies_before_it_is_claimed, 1),
        (dies_before_it_is_sent, 1),
        (dies_before_it_is_noted, 2),
        (dies_and_redis_is_emptied, 1),
        (dies_between_kafka_and_redis, 1),
    ],
)
async def test_whoever_dies_the_next_one_tells_it_under_the_same_key(
    servers: Servers, slack: Slack, dies: Any, sent: int
) -> None:
    """Never lost; told twice only where nobody can know, and then the key is the same."""
    one = servers.alerting(rules(base=HOOK), f"{slack.url}/hook")
    await one.heats("acme", 1)
    await dies(one)
    servers.wait(10 * SECOND)
    next_one = servers.alerting(rules(base=HOOK), f"{slack.url}/hook")
    await next_one.heats("acme", 1)  # not acknowledged to Kafka either: it comes again
    await next_one.tells()
    assert hooked(slack) == ["0.0.1.0/hot"] * sent
    assert await next_one.phase("acme") == "sent"


async def test_a_digest_that_somebody_died_over_is_the_same_digest(servers: Servers, slack: Slack) -> None:
    one = servers.alerting(rules(base=HOOK), f"{slack.url}/hook")
    await one.sees(*(moved(f"a{n}", "warm", "hot", servers.clock.at, n) for n in range(6)))
    parcel = await one.teller._claim("hook/")
    assert parcel is not None
    await one.senders.send(parcel)
    next_one = servers.alerting(rules(base=HOOK), f"{slack.url}/hook")
    await next_one.sees(*(moved(f"b{n}", "warm", "hot", servers.clock.at, 10 + n) for n in range(6)))
    await next_one.tells()
    first, again, other = slack.hooked
    assert first == again
    assert first[0].startswith("digest/")
    assert other[0] != first[0]
    assert "B5" in str(other[1]["blocks"])
    assert "B5" not in str(again[1]["blocks"])


async def test_redis_emptied_or_gone_back_tells_nothing_twice(servers: Servers, slack: Slack) -> None:
    one = servers.alerting(rules(base=HOOK), f"{slack.url}/hook")
    await one.heats("acme", 1)
    earlier = {key: await servers.redis.dump(key) for key in await servers.redis.keys("*")}
    await one.tells()
    await servers.redis.flushall()
    await one.heats("acme", 1)
    await one.heats("other", 2)
    await one.tells()
    assert hooked(slack) == ["0.0.1.0/hot", "0.0.2.0/hot"]
    await servers.redis.flushall()  # and an older snapshot is loaded
    for key, value in earlier.items():
        await servers.redis.restore(key, 0, value)
    await one.heats("third", 3)
    await one.tells()
    assert hooked(slack) == ["0.0.1.0/hot", "0.0.2.0/hot", "0.0.3.0/hot"]


async def test_who_has_lost_the_turn_writes_nothing(servers: Servers, slack: Slack) -> None:
    """It stood still for so long that somebody else took over."""
    one = servers.alerting(rules(base=HOOK), f"{slack.url}/hook")
    await one.heats("acme", 1)

    async def stands_still() -> None:
        async with one.book.turn(["acme"], servers.clock.at) as turn:
            turn.apply("acme", Claimed("hot", "first", "a key", servers.clock.at))
            await servers.redis.set(one.book._key("writer"), b"somebody else")

    with pytest.raises(LostError):
        await stands_still()
    states = await one.book.states(["acme"])
    assert states["acme"].alerts["hot"].first.key == ""


async def test_two_who_see_the_same_changes_tell_once(servers: Servers, slack: Slack) -> None:
    pair = [servers.alerting(rules(base=HOOK), f"{slack.url}/hook") for _ in range(2)]
    changes = [moved(f"a{n}", "warm", "hot", servers.clock.at, n) for n in range(20)]
    await asyncio.gather(*(one.sees(change) for change in changes for one in pair))
    await asyncio.gather(*(one.teller.serve("hook/") for one in pair))
    await pair[0].tells()
    keys = hooked(slack)
    assert len(keys) == len(set(keys))
    told = str(slack.hooked)
    assert [n for n in range(20) if told.count(f"A{n} is hot") < 1] == []


async def test_an_unavailable_slack_is_tried_again_and_only_it_waits(servers: Servers, slack: Slack) -> None:
    slack.failing = [(503, {}), (429, {"Retry-After": "7"}), (404, {})]
    one = servers.alerting(rules(base=HOOK), f"{slack.url}/hook")
    await one.heats("acme", 1)
    await one.tells()
    assert hooked(slack) == ["0.0.1.0/hot"]
    assert slack.failing == []


async def test_what_could_not_be_told_for_a_day_is_given_up_and_listed(servers: Servers) -> None:
    one = servers.alerting(rules(base=HOOK), "http://127.0.0.1:1/nobody")
    await one.heats("acme", 1)
    await one.teller.serve("hook/")
    servers.wait(25 * HOUR)
    await one.tells()
    assert await one.phase("acme") == "failed"


# -- Slack's own API -------------------------------------------------------------------------------------------


def bot(slack: Slack) -> Rulebook:
    return rules(base=BOT.format(url=slack.url))


async def test_a_bot_edits_what_it_said(servers: Servers, slack: Slack, token: str) -> None:
    one = servers.alerting(bot(slack))
    await one.heats("acme", 1)
    await one.tells()
    servers.wait()
    await one.cools("acme", 2)
    await one.tells()
    assert slack.calls == ["chat.postMessage", "chat.update"]
    ((_, message),) = slack.messages.items()
    assert message["text"].startswith("Acme: no longer hot since Mon 2 Mar 2026, 10:00 UTC")


async def test_a_person_who_is_not_in_slack_is_told_in_the_queue(
    servers: Servers, slack: Slack, token: str
) -> None:
    theirs = bot(slack)
    (rule,) = theirs.rules
    lost = rules(
        "rules: [{rule: hot, when: engagement/hot, to: {channel: bot, to: UGONE}}]", BOT.format(url=slack.url)
    )
    one = servers.alerting(lost)
    await one.heats("acme", 1)
    await one.tells()
    assert [channel for channel, _ in slack.messages] == ["CQUEUE"]
    assert rule.to is None


@pytest.mark.parametrize("secret", ["", "xoxb-wrong"])
async def test_a_token_that_is_missing_or_wrong_waits_for_somebody_to_mend_it(
    servers: Servers, slack: Slack, secret: str, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("SLACK_TOKEN", secret)
    one = servers.alerting(bot(slack))
    await one.heats("acme", 1)
    await one.teller.serve("bot/CQUEUE")
    assert (await one.phase("acme"), slack.messages) == ("new", {})
    monkeypatch.setenv("SLACK_TOKEN", token)
    await one.tells()
    assert await one.phase("acme") == "sent"
