"""python subscriber.py localhost:9092 prints, after each message, what its account is in"""

import asyncio
import json
import sys
from operator import itemgetter

from aiokafka import AIOKafkaConsumer

TYPES = ("segment.moved", "segment.entered", "segment.left", "account.state", None)
newest = {}  # account -> {dimension, or what is said of all: (order, what was said)}


def take(account, message):
    if message is None:  # a tombstone takes back what segment.memberships said
        newest.get(account, {}).pop(None, None)
    elif message.get("type") in TYPES:
        data = message.get("data", message)
        order = tuple(data["position"][part] for part in ("epoch", "offset", "n"))
        said = data.get("memberships", data.get("members", data.get("to")))
        known, about = newest.setdefault(account, {}), data.get("dimension", message.get("type"))
        if about not in known or order > known[about][0]:
            known[about] = order, said


def memberships(account):
    known = dict(newest.get(account, {}))
    since, whole = max((known.pop(about, ((), {})) for about in ("account.state", None)), key=itemgetter(0))
    stated = {name: each["answer"] if isinstance(each, dict) else each for name, each in whole.items()}
    return stated | {name: answer for name, (order, answer) in known.items() if order > since}


async def main(kafka, prefix=""):
    topics = prefix + "segment.memberships", prefix + "segment.changes"
    async with AIOKafkaConsumer(*topics, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        async for message in consumer:
            account = message.key.decode()
            take(account, message.value and json.loads(message.value))
            print(json.dumps([account, memberships(account)]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
