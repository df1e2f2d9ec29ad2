"""One made-up alert, sent through a channel, so that whoever sets it up sees that it arrives."""

from __future__ import annotations

import secrets
import time

from rules.durations import DAY
from streams.alerting.channels import Arrived, Senders
from streams.alerting.parcels import Item, Parcel
from streams.alerting.rulebook import Recipient, Rulebook
from streams.alerting.state import Alert, Phase, Story, Telling
from streams.alerting.stepping import Message
from streams.settings import Settings


async def try_channel(settings: Settings, rules: Rulebook, channel: str, to: str) -> str:
    """Why it did not arrive; empty: it did."""
    senders = Senders(rules, settings.alert_url.get_secret_value())
    try:
        outcome = await senders.send(
            made_up(Recipient(channel, to, rules.otherwise.timezone), time.time_ns() // 10**6)
        )
    finally:
        await senders.close()
    return "" if isinstance(outcome, Arrived) else " ".join(filter(None, (outcome.reason, outcome.detail)))


def made_up(to: Recipient, now: int) -> Parcel:
    story = Story(
        change=f"try.{secrets.token_hex(4)}",
        account="salesforce:001000000000001AAA",
        name="Blue Harbor (made up)",
        segment="engagement/hot",
        before="warm",
        at=now,
        until=now + 5 * DAY,
        reasons=("3 pricing page views in 7 days (needs 3)", "demo request, the last in 14 days"),
        do=("reach out today",),
        roles=(("executive", 1), ("technical", 1)),
        week=(9, 2),
    )
    item = Item(story.account, Message("try", "first", to, now), Alert(Phase.NEW, True, story, Telling(to, now)))
    return Parcel(item.key, to, "first", (item,))
