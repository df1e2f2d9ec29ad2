"""Every topic, and what must be true of it before anything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, TopicAlreadyExistsError, for_code

from streams.connecting import kafka_options

if TYPE_CHECKING:
    from streams.settings import Settings

CRM_UPDATES = "crm.updates"
WEB_ACTIVITY = "web.activity"
ACCOUNT_LOG = "account.log"
CHANGES = "segment.changes"
MEMBERSHIPS = "segment.memberships"
LINKS = "identity.links"
SNAPSHOTS = "account.snapshots"
ALERTS = "alerts.state"
DELIVERY_EVENTS = "delivery.events"
DEAD_LETTERS = "dead.letters"
SOURCES = (CRM_UPDATES, WEB_ACTIVITY)

FOREVER = {"retention.ms": "-1"}
COMPACTED = {"cleanup.policy": "compact"}
# What is far too large is taken in and becomes a dead letter: refused at the door, nobody would learn of it.
LARGEST_MESSAGE = 8 * 1024 * 1024
SOURCE = {"max.message.bytes": str(LARGEST_MESSAGE)}
CONFIGS: dict[str, dict[str, str]] = {
    CRM_UPDATES: SOURCE,
    WEB_ACTIVITY: SOURCE,
    # A record may be longer than the message it is made of: numbers are written out, and who it is about.
    ACCOUNT_LOG: {**FOREVER, "max.message.bytes": str(LARGEST_MESSAGE)},
    CHANGES: {},
    MEMBERSHIPS: COMPACTED,
    LINKS: COMPACTED,
    ALERTS: COMPACTED,
    DELIVERY_EVENTS: {},
    SNAPSHOTS: {**COMPACTED, "max.message.bytes": str(LARGEST_MESSAGE)},
    # Compacted too, so that a letter that was settled, or that names somebody who asked to be forgotten, goes.
    DEAD_LETTERS: {
        "max.message.bytes": str(LARGEST_MESSAGE + 64 * 1024),
        "cleanup.policy": "compact,delete",
        "retention.ms": str(14 * 24 * 3600 * 1000),
    },
}
# A change has its record's partition number: so these have as many partitions as the log.
LIKE_THE_LOG = (ACCOUNT_LOG, CHANGES, MEMBERSHIPS, SNAPSHOTS)
SOURCE_PARTITIONS = 4
SHOWN_WITHIN_S = 10
LOOKED_AGAIN = 10


class TopicsError(Exception):
    """The topics are not as they must be. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Names as they are on the broker: a prefix keeps several installations apart."""

    prefix: str = ""

    def __call__(self, role: str) -> str:
        return f"{self.prefix}{role}"

    def role(self, name: str) -> str:
        return name.removeprefix(self.prefix)


async def create(settings: Settings, sources: Iterable[str] = ()) -> list[str]:
    """Creates the topics that are missing and gives their names. Those that exist are left as they are.

    `sources` are topics that the router reads besides the shipped ones.
    """
    topics, wanted = settings.topics, dict.fromkeys(sources, SOURCE) | CONFIGS
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    await admin.start()
    created = []
    try:
        for role, configs in wanted.items():
            count = settings.partitions if role in LIKE_THE_LOG else SOURCE_PARTITIONS
            new = NewTopic(topics(role), count, settings.replication, topic_configs=configs)
            response = await _create(admin, new)
            for name, code, *_ in response.topic_errors:
                error = for_code(code)
                if code == 0:
                    created.append(name)
                elif error is not TopicAlreadyExistsError:
                    raise TopicsError(f"cannot create topic {name}: {error.__name__}")
        await _shown(admin, {topics(role) for role in wanted})
    finally:
        await admin.close()
    return created


async def _create(admin: AIOKafkaAdminClient, new: NewTopic) -> Any:
    for _ in range(LOOKED_AGAIN):
        try:
            return await admin.create_topics([new])
        except AttributeError:  # aiokafka's word for a cluster that has no controller at the moment
            await asyncio.sleep(0.2)
    raise KafkaConnectionError("the cluster has no controller")


async def _shown(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """Returns when the broker lists `names`: it acknowledges a topic a moment before it shows it."""
    for _ in range(SHOWN_WITHIN_S * 10):
        if names <= set(await admin.list_topics()):
            return
        await asyncio.sleep(0.1)


async def check(settings: Settings, sources: Iterable[str] = ()) -> None:
    """Refuses to go on when a topic is missing or the log is not cut as it was agreed."""
    topics, partitions = settings.topics, settings.partitions
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    await admin.start()
    try:
        # Listed first: the embedded broker creates a topic that somebody asks about by name. Any broker answers,
        # and one may not have heard yet of what another has just created.
        for _ in range(LOOKED_AGAIN):
            there = set(await admin.list_topics())
            missing = [topics(role) for role in {*CONFIGS, *sources} if topics(role) not in there]
            if not missing:
                break
            await asyncio.sleep(0.2)
        if missing:
            known = ", or see whether this user may describe them" if settings.kafka_sasl else ""
            raise TopicsError(f"no topic {', '.join(missing)}: create the topics with `isotherm topics`{known}")
        described = await admin.describe_topics([topics(role) for role in LIKE_THE_LOG])
    finally:
        await admin.close()
    found = {each["topic"]: len(each["partitions"]) for each in described}
    for role in LIKE_THE_LOG:
        if found[topics(role)] != partitions:
            raise TopicsError(
                f"{topics(role)} has {found[topics(role)]} partitions, ISOTHERM_PARTITIONS says {partitions}: "
                "the number is frozen when the log is created; set it to what the topic has"
            )
