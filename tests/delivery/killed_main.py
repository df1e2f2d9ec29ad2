"""One deliverer in a process that kills itself: `killed_main.py URL STEP COUNT`, the settings in the environment.

It dies when STEP is reached for the COUNTth time, with no chance to do anything; STEP `never` runs until told.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from ipaddress import ip_network

from streams.clock import RedisClock
from streams.delivery.addresses import Allowed
from streams.delivery.endpoints import Endpoint
from streams.delivery.policy import Policy, RetryPolicy
from streams.delivery.service import Deliverer, RedisTime
from streams.news import Filter
from streams.settings import Settings
from streams.sinks.secret import Held
from streams.sinks.webhook import WebhookSink
from streams.store.redis import connect

QUICKLY = Policy(RetryPolicy(waits=(100,) * 20), window=8)


async def main(url: str, step: str, count: int) -> None:
    settings = Settings()
    redis = connect(settings)
    clock = RedisClock(redis)
    await clock.sync()
    reached: Counter[str] = Counter()

    def dies(at: str) -> None:
        reached[at] += 1
        if at == step and reached[at] == count:
            os.kill(os.getpid(), signal.SIGKILL)

    async def tell(endpoint: str, event: bytes) -> None:
        pass

    sink = WebhookSink(url, (Held("env", "TEST_WEBHOOK_SECRET"),))
    allowed = Allowed((ip_network("127.0.0.0/8"),))
    endpoint = Endpoint("journeys", "webhook", sink, Filter(), start="beginning", allowed=allowed)
    made = Deliverer(settings, endpoint, redis, RedisTime(clock), tell, QUICKLY, reached=dies)
    await made.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await made.stop()
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
