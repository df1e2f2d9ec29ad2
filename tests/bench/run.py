"""`make bench`: how fast, at what cost, how late, how big; everything in one run on one machine.

    fold, router, both   the production path with the shipped rules: alone, and in one process
    memory               Redis' memory an account, after the fold
    ladder               one ladder for all: Faust with a Table, Faust with Redis, Quix Streams, bytewax, ours, and
                         the ceiling, the least that a program with this data path must do
    latency, exit        from append to readable, and from the exact instant to readable, at 1,000 events/s
    load                 loading the shipped rules, and refusing hostile ones
    rules                an event under 1,000 rules against one under 50
    size                 an account under the whole library, after 50 activities and after 100,000
    collect              the HTTP collector: requests and events a second, acknowledged by Kafka
    api                  the HTTP API: how late a change is at 500 listeners
    delivery             webhooks: how late a change is at 10 endpoints, and memory while one of them is down
    identity             Redis' memory a contact, and the router when a million are known
    plan                 `isotherm plan` of 100,000 accounts under the whole library
    filling              how late changes are while a backfill runs
    page                 the page with 100,000 accounts: each of its addresses over HTTP, and in a browser

Contestants take turns, round after round, so that a machine that drifts drifts for all; a first, short run of each
finds out how many events keep it busy for ten seconds, and its outputs are compared with a reference. CPU seconds
per million events stand beside events per second. Nothing here asserts a time: the exit code is 1 only if outputs
differ from the reference.

    python tests/bench/run.py [--quick] [--only fold,ladder,...] [--rounds N] [--seconds S] [--markdown]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import checking
import collecting
import delivering
import filling
import knowing
import live
import loading
import planning
import scaling
import serving
import size
import uvloop
import viewing
import workload
from events import create_topic
from redis import Redis
from reporting import Run, Table, as_json, machine, one_line, quantile, spread, throughput
from rich.console import Console

from streams import topics
from streams.embedded import Broker, Embedded, Valkey
from streams.settings import Settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
RESULTS = ROOT / ".isotherm" / "bench.json"
SECTIONS = (
    "fold", "router", "both", "memory", "ladder", "latency", "exit", "load", "rules",
    "size", "collect", "api", "delivery", "identity", "plan", "filling", "page",
)  # fmt: skip
RUN_WITHIN = 300.0  # seconds for one contestant's run
MOST = 1_500_000  # events in a topic
AT_LEAST = 300_000  # records under the shipped rules: 30 an account, so that first looks do not outweigh the rest
CHECKED = 200_000  # events of the one-ladder job that are compared with the reference
CHECKED_SHIPPED = 100_000


@dataclass(slots=True)
class Bench:
    """One run of the bench: what was asked for, and what came out."""

    rounds: int
    seconds: float
    quick: bool
    directory: Path
    console: Console
    runs: dict[str, list[Run]] = field(default_factory=dict)
    latencies: dict[str, list[live.Latency]] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # outputs that differ from the reference
    left_out: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=machine)
    serial: int = 0

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {text}", highlight=False)

    def fresh(self, name: str) -> Path:
        self.serial += 1
        return self.directory / f"{name}-{self.serial}"

    def check(self, what: str, difference: str) -> None:
        if difference:
            self.wrong.append(f"{what}: {difference}")
            self.say(f"[bold red]WRONG OUTPUT[/] {what}: {difference}")
        else:
            self.say(f"{what}: equal to the reference")

    def omit(self, what: str) -> None:
        self.left_out.append(what)
        self.say(f"[bold yellow]LEFT OUT[/] {what}")

    def keep(self, run: Run) -> None:
        self.runs.setdefault(run.name, []).append(run)
        cpu = run.per_million(run.cpu)
        self.say(
            f"{run.name}: {run.rate:,.0f}/s, {cpu:.1f} CPU s per million ({run.events:,} in {run.seconds:.1f} s)"
        )


def measured(name: str, command: list[str], valkey: Valkey | None, broker: Broker) -> Run:
    """Runs a contestant, which prints one JSON line. Valkey's and the broker's CPU include its start and end."""
    with ExitStack() as stack:
        redis = stack.enter_context(Redis.from_url(valkey.url)) if valkey else None
        before = _valkey_cpu(redis), live.process_cpu(broker.pid)
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_WITHIN, cwd=HERE, check=False)
        after = _valkey_cpu(redis), live.process_cpu(broker.pid)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{name} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    told = json.loads(lines[-1])
    used = [None if a is None or b is None else a - b for a, b in zip(after, before, strict=True)]
    return Run(name, told["events"], told["seconds"], told["cpu_seconds"], *used, details=told)


def _valkey_cpu(redis: Any) -> float | None:
    if redis is None:
        return None
    info = redis.info("cpu")
    return float(sum(info[f"used_cpu_{kind}"] for kind in ("sys", "user", "sys_children", "user_children")))


def enough(run: Run, seconds: float, at_most: int) -> int:
    """So many events that a run takes `seconds`, judged by a shorter one; in steps of 10,000."""
    return int(max(run.events, min(at_most, run.rate * seconds * 1.2)) // 10_000 + 1) * 10_000


# -- the production path with the shipped rules

PATHS = {"fold": "fold alone", "router": "router alone", "both": "router and fold in one process"}
ROLES = {"fold": "fold", "router": "router", "both": "all"}
PARTITIONS = {"fold": 1, "router": 4, "both": 4}


def production(bench: Bench, which: list[str], with_memory: bool) -> None:
    """Fold, router and both, each run on servers of its own that hold nothing yet."""
    counts: dict[str, int] = {}
    for kind in which:
        bench.say(f"{PATHS[kind]}: a first run")
        first = one_path(bench, kind, CHECKED_SHIPPED, check=True)
        if bench.quick:
            bench.keep(first)
            continue
        counts[kind] = max(enough(first, bench.seconds, MOST), 0 if kind == "router" else AT_LEAST)
    for _ in range(bench.rounds if counts else 0):
        for kind in which:
            bench.keep(one_path(bench, kind, counts[kind]))
    runs = {PATHS[kind]: bench.runs[PATHS[kind]] for kind in which}
    table = throughput("Production path, shipped rules, 10,000 accounts", runs, None, "events")
    if "fold" in which:
        told = runs[PATHS["fold"]][-1].details
        table.notes.append(
            f"fold: {told['changing']:.1%} of the records published something; an hourly tick of simulated time; "
            "AOF everysec, one partition, equal to a replay byte for byte"
        )
    table.notes.append("one process, one thread; broker and Valkey beside it on the same machine")
    bench.tables.append(table)
    if with_memory:
        bench.tables.append(memory_table(runs[PATHS["fold"]]))


def one_path(bench: Bench, kind: str, count: int, check: bool = False) -> Run:
    prefix, partitions = f"{kind}.", PARTITIONS[kind]
    with Embedded(bench.fresh(kind)) as servers, Redis.from_url(servers.redis) as redis:
        empty = redis.info("memory")["used_memory"]
        events = asyncio.run(loaded(kind, servers.kafka, prefix, count))
        command = [sys.executable, str(HERE / "ours.py"), "--role", ROLES[kind], "--kafka", servers.kafka]
        command += ["--redis", servers.redis, "--prefix", prefix, "--namespace", kind]
        command += ["--events", str(events), "--partitions", str(partitions)]
        run = measured(PATHS[kind], command, servers.valkey, servers.broker)
        changes = topics.Topics(prefix)(topics.CHANGES)
        if kind == "fold":
            run.details["changing"] = asyncio.run(checking.deciding(servers.kafka, changes)) / events
            run.details.update(memory(redis, empty))
            if check:
                difference = asyncio.run(checking.shipped_rules(servers.kafka, changes, count))
                bench.check(f"fold of {count:,} records under the shipped rules", difference)
        elif check:
            done = run.details["counts"].get("routed", 0)
            bench.check(f"{PATHS[kind]}, {count:,} messages", "" if done == count else f"{done:,} were routed")
        return run


async def loaded(kind: str, kafka: str, prefix: str, count: int) -> int:
    """Fills the topic that is read; how many records (messages) it holds in all partitions."""
    names = topics.Topics(prefix)
    partitions = PARTITIONS[kind]
    number = 0

    def counted(pairs: Iterator[workload.Pair]) -> Iterator[workload.Pair]:
        nonlocal number
        for pair in pairs:
            number += 1
            yield pair

    now = int(time.time() * 1000)
    if kind == "fold":
        shipped = workload.pairs(workload.shipped(count))
        await workload.write(kafka, names(topics.ACCOUNT_LOG), partitions, counted(shipped))
    else:
        await workload.write(
            kafka, names(topics.WEB_ACTIVITY), topics.SOURCE_PARTITIONS, counted(workload.messages(count, now))
        )
        if kind == "both":
            rules = workload.pairs(workload.in_force(workload.SHIPPED, now))
            await workload.write(kafka, names(topics.ACCOUNT_LOG), partitions, rules)
    await topics.create(Settings(kafka=kafka, topic_prefix=prefix, partitions=partitions))
    return number


def memory(redis: Any, empty: int) -> dict[str, int]:
    """Everything that Redis holds now beyond what it held when it was empty."""
    info = redis.info("memory")
    accounts = sum(redis.hlen(key) for key in redis.scan_iter("*:accounts", count=1_000))
    waiting = sum(redis.xlen(key) for key in redis.scan_iter("*:outbox", count=1_000))
    state = sum(redis.memory_usage(key, samples=0) for key in redis.scan_iter("*:accounts", count=1_000))
    return {"used": info["used_memory"] - empty, "accounts": accounts, "outbox": waiting, "states": state}


def memory_table(runs: list[Run]) -> Table:
    table = Table("Redis memory an account, after the fold", ["", "accounts", "bytes an account", "of it states"])
    told = [run.details for run in runs]
    table.rows.append(
        [
            "used_memory minus the empty server's",
            f"{told[-1]['accounts']:,}",
            spread([each["used"] / each["accounts"] for each in told]),
            f"{median([each['states'] / each['accounts'] for each in told]):,.0f}",
        ]
    )
    table.notes.append(
        f"{told[-1]['events']:,} records folded, outbox drained ({told[-1]['outbox']} entries left); "
        f"each account has {workload.CONTACTS} contacts and 7 facts from the CRM besides its activity"
    )
    return table


# -- one ladder for all

TABLE, TAKE, QUIX, BYTEWAX = "Faust, Table", "Faust, take(1000), Redis", "Quix Streams", "bytewax"
OURS, CEILING = "Isotherm", "the ceiling"
SCRIPTS = {
    TABLE: "faust_table.py",
    TAKE: "faust_take_redis.py",
    QUIX: "quix_streams.py",
    BYTEWAX: "bytewax_dataflow.py",
}
FIRST = {TABLE: 10_000, TAKE: 30_000, QUIX: 60_000, BYTEWAX: 100_000, OURS: 100_000, CEILING: 200_000}


def ladder(bench: Bench) -> None:
    """All contestants over the same events of one topic, each with a Valkey that holds nothing yet."""
    contestants = list(FIRST)
    if not PEERS_PYTHON.exists():
        for name in (QUIX, BYTEWAX):
            contestants.remove(name)
        bench.omit(f"{QUIX} and {BYTEWAX}: no .venv-bench, which `make bench` makes with Python 3.11 or 3.12")
    most = max(FIRST.values()) if bench.quick else MOST
    with Broker(bench.fresh("ladder")) as broker:
        bench.say(f"one ladder: writing {most:,} events")
        pairs = workload.pairs(workload.ladder(most))
        asyncio.run(workload.write(broker.address, "ours.account.log", 1, pairs, "ladder"))
        asyncio.run(topics.create(Settings(kafka=broker.address, topic_prefix="ours.", partitions=1)))
        counts: dict[str, int] = {}
        for name in contestants:
            bench.say(f"{name}: a first run")
            run, output = one_ladder(bench, broker, name, FIRST[name])
            if name in SCRIPTS:
                difference = asyncio.run(checking.peer(broker.address, output, FIRST[name]))
                bench.check(f"{name}, {FIRST[name]:,} events", difference)
            counts[name] = min(most, enough(run, bench.seconds, most))
            if bench.quick:
                bench.keep(run)
        for _ in range(0 if bench.quick else bench.rounds):
            for name in contestants:
                bench.keep(one_ladder(bench, broker, name, counts[name])[0])
        checked = FIRST[OURS] if bench.quick else min(CHECKED, counts[OURS])
        difference = asyncio.run(checking.one_ladder(broker.address, "ours.segment.changes", checked))
        bench.check(f"{OURS}, {checked:,} events", difference)
    table = throughput("One ladder, the same events for all", {n: bench.runs[n] for n in contestants}, OURS)
    table.notes += [
        "no ticks, as the peers have none: they answer when an event arrives and only then",
        "the ceiling consumes, decodes, loads and commits like us, and decides nothing",
        f"{TABLE} and {TAKE} lose or repeat changes in a crash; Valkey's CPU is not in the CPU column",
    ]
    bench.tables.append(table)


def one_ladder(bench: Bench, broker: Broker, name: str, count: int) -> tuple[Run, str]:
    """One run, and the topic that a peer's changes went to."""
    output = f"out.{time.time_ns()}"
    servers = ["--kafka", broker.address]
    if name in (QUIX, BYTEWAX, TABLE):
        asyncio.run(create_topic(broker.address, output, 1))
        return measured(name, [*_peer(name, output, count), *servers], None, broker), output
    with Valkey(bench.fresh("valkey")) as valkey:
        servers += ["--redis", valkey.url]
        if name == TAKE:
            asyncio.run(create_topic(broker.address, output, 1))
            command = _peer(name, output, count)
        elif name == OURS:
            command = [sys.executable, str(HERE / "ours.py"), "--prefix", "ours.", "--namespace", "ours"]
            command += ["--events", str(count + checking.HEAD)]
        else:
            command = [sys.executable, str(HERE / "ceiling.py"), "--topic", "ladder", "--namespace", "ceiling"]
            command += ["--events", str(count)]
        return measured(name, [*command, *servers], valkey, broker), output


def _peer(name: str, output: str, count: int) -> list[str]:
    python = str(PEERS_PYTHON) if PEERS_PYTHON.exists() else sys.executable
    script = str(HERE / "peers" / SCRIPTS[name])
    return [python, script, "--topic", "ladder", "--events", str(count), "--output", output]


# -- how late


def lateness(bench: Bench, which: list[str]) -> None:
    """On Apache Kafka, and apart from it on the embedded broker."""
    _on_apache(bench, which)
    if not (bench.quick and bench.latencies):
        with Embedded(bench.fresh("late")) as servers:
            _late(bench, which, "embedded", servers.kafka, servers.redis, partitions=8, idempotence=False, wait=5)
    bench.tables.append(lateness_table(bench, which))


def _on_apache(bench: Bench, which: list[str]) -> None:
    with _apache_pair(bench, "Only the embedded broker's latency is shown") as servers:
        if servers is not None:
            _late(bench, which, "Apache Kafka", *servers, partitions=64, idempotence=True, wait=20)


@contextmanager
def _apache_pair(bench: Bench, without: str) -> Iterator[tuple[str, str] | None]:
    """Addresses of Apache Kafka and a Valkey; None where it cannot be had, which is said."""
    kafka_tests = _apache()
    try:
        kafka_tests.obtain()
    except kafka_tests.Unobtainable as error:
        bench.omit(f"Apache Kafka: {error}. {without}")
        yield None
        return
    with kafka_tests.ApacheKafka(bench.fresh("kafka")) as kafka, Valkey(bench.fresh("valkey")) as valkey:
        bench.about["kafka"] = "Apache Kafka 4.1 in one JVM"
        yield kafka.address, valkey.url


def _apache() -> Any:
    """What `make test-kafka` gets its broker from."""
    sys.path.insert(0, str(ROOT / "tests" / "kafka"))
    spec = importlib.util.spec_from_file_location("kafka_tests", ROOT / "tests" / "kafka" / "run.py")
    if spec is None or spec.loader is None:
        raise RuntimeError("tests/kafka/run.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _late(
    bench: Bench,
    which: list[str],
    name: str,
    kafka: str,
    redis: str,
    partitions: int,
    idempotence: bool,
    wait: int,
) -> None:
    directory = bench.fresh("worker")
    directory.mkdir()
    settings = Settings(
        kafka=kafka,
        redis=redis,
        partitions=partitions,
        topic_prefix="late.",
        namespace="late",
        idempotence=idempotence,
        fetch_max_wait_ms=wait,
        person_key="bench",
    )
    installation = live.Installation(settings, directory)

    async def rounds() -> None:
        bench.say(f"{name}: starting a worker, {partitions} partitions")
        await installation.start()
        for _ in range(bench.rounds if idempotence else 1):
            if "latency" in which:
                _late_run(bench, await live.floor(settings, f"{name}: one hop, the floor", bench.seconds))
                _late_run(bench, await live.changes(installation, f"{name}: append to change", bench.seconds))
            if "exit" in which:
                _late_run(bench, await live.exits(installation, f"{name}: exit by time alone", bench.seconds))

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(rounds())
    finally:
        installation.stop()


def _late_run(bench: Bench, found: live.Latency) -> None:
    bench.latencies.setdefault(found.name, []).append(found)
    p50, p99 = quantile(found.ms, 0.5), quantile(found.ms, 0.99)
    cpu = "" if found.worker_cpu is None else f", worker {found.worker_cpu:.0%} of a core"
    bench.say(f"{found.name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(found.ms):,}{cpu}")
    if found.missing:
        bench.check(found.name, f"{found.missing} changes never came")


def lateness_table(bench: Bench, which: list[str]) -> Table:
    columns = ["ms (min – median – max of the rounds)", "p50", "p99", "worst", "measured", "worker CPU"]
    table = Table(f"How late, at {live.RATE:,} events/s", columns)
    for name, found in bench.latencies.items():
        cpu = [each.worker_cpu for each in found if each.worker_cpu is not None]
        table.rows.append(
            [
                name,
                spread([quantile(each.ms, 0.5) for each in found], 1),
                spread([quantile(each.ms, 0.99) for each in found], 1),
                f"{max(max(each.ms) for each in found):,.1f}",
                f"{sum(len(each.ms) for each in found):,}",
                f"{median(cpu):.0%} of a core" if cpu else "–",
            ]
        )
    if "latency" in which:
        table.notes.append(
            f"append on web.activity to readable on segment.changes: three hops; "
            f"{RATE_OF_CHANGES} changes/s among the events"
        )
    if "exit" in which:
        table.notes.append(
            f"exits: {live.EXITS}/s fall due while the events go on, measured from the exact instant"
        )
    worst = max((each.late_ms for found in bench.latencies.values() for each in found), default=0.0)
    table.notes.append(f"the load generator was behind its schedule by {worst:.0f} ms at worst")
    return table


RATE_OF_CHANGES = live.RATE // live.FRESH


# -- the HTTP collector


def collector(bench: Bench) -> None:
    found, produces, wrong = collecting.measure(bench.directory, bench.seconds)
    bench.check("the collector's messages", wrong)
    bench.tables.append(collecting.table(found, produces))


# -- webhooks


def delivery(bench: Bench) -> None:
    late = delivering.how_late(bench.fresh("late"), bench.seconds)
    waiting = delivering.how_big(bench.fresh("big"), 20_000 if bench.quick else delivering.WAITING)
    bench.check("deliveries", f"{late.missing:,} are missing" if late.missing else "")
    bench.tables += delivering.tables(late, waiting)


# -- the HTTP API


def api(bench: Bench) -> None:
    heard = serving.measure(bench.fresh("api"), bench.seconds)
    bench.check("the listeners' events", heard.wrong)
    bench.tables.append(serving.table(heard))


# -- the router, when everybody is known


def identity(bench: Bench) -> None:
    contacts = knowing.CONTACTS // 10 if bench.quick else knowing.CONTACTS
    runs, memory = knowing.measure(bench.fresh("identity"), contacts, knowing.EVENTS, bench.say)
    bench.tables.append(knowing.table(runs, memory, contacts))


# -- a plan


def plan(bench: Bench) -> None:
    found = asyncio.run(planning.measure(10_000 if bench.quick else 100_000, 64, [2]))
    bench.tables.append(planning.table(found))


# -- a backfill beside the worker


def backfill(bench: Bench) -> None:
    """On Apache Kafka: the embedded broker is busy enough with somebody who reads a whole log."""
    directory = bench.fresh("filling")
    directory.mkdir()
    with _apache_pair(bench, "How late changes are beside a backfill is not shown") as servers:
        if servers is None:
            return
        settings = Settings(
            kafka=servers[0],
            redis=servers[1],
            partitions=16,
            topic_prefix="filling.",
            namespace="filling",
            person_key="bench",
        )
        installation = live.Installation(settings, directory)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(filling.measure(installation, 3 * bench.seconds))
        finally:
            installation.stop()
    missing = found.without.missing + found.beside.missing
    bench.check("changes beside a backfill", f"{missing} never came" if missing else "")
    bench.tables.append(filling.table("Apache Kafka, 16 partitions", found))


# -- the page


def page(bench: Bench) -> None:
    accounts = 3_000 if bench.quick else 100_000
    bench.tables.append(viewing.table(viewing.measure(bench.fresh("page"), accounts, 64, bench.say)))


# -- all together


def main() -> int:
    options = parsed()
    console = Console(width=None if sys.stdout.isatty() else 140)
    chosen = SECTIONS if not options.only else tuple(options.only.split(","))
    rounds = options.rounds or (1 if options.quick else 3)
    seconds = options.seconds or (3.0 if options.quick else 10.0)
    with tempfile.TemporaryDirectory(prefix="isotherm-bench-") as directory:
        bench = Bench(rounds, seconds, options.quick, Path(directory), console)
        console.print(one_line(bench.about), highlight=False)
        busy = bench.about["load"]
        if busy is not None and busy > 0.7:
            console.print(f"[bold yellow]The machine is busy with something else[/] (load {busy:.1f})")
        begun = time.monotonic()
        for section in sections(chosen):
            section(bench)
        report(bench, console, options.markdown, time.monotonic() - begun)
    return 1 if bench.wrong else 0


def sections(chosen: tuple[str, ...]) -> Iterator[Callable[[Bench], None]]:
    paths = [kind for kind in PATHS if kind in chosen or (kind == "fold" and "memory" in chosen)]
    if paths:
        yield lambda bench: production(bench, paths, "memory" in chosen)
    if "ladder" in chosen:
        yield ladder
    late = [kind for kind in ("latency", "exit") if kind in chosen]
    if late:
        yield lambda bench: lateness(bench, late)
    if "load" in chosen:
        yield lambda bench: bench.tables.append(loading.table(*loading.measure(3 if bench.quick else 9)))
    if "rules" in chosen:
        yield lambda bench: bench.tables.append(scaling.table(scaling.measure(2 if bench.quick else 5)))
    if "size" in chosen:
        yield lambda bench: bench.tables.append(size.table(asyncio.run(size.measure())))
    if "collect" in chosen:
        yield collector
    if "api" in chosen:
        yield api
    if "delivery" in chosen:
        yield delivery
    if "identity" in chosen:
        yield identity
    if "plan" in chosen:
        yield plan
    if "filling" in chosen:
        yield backfill
    if "page" in chosen:
        yield page


def report(bench: Bench, console: Console, markdown: bool, seconds: float) -> None:
    console.print()
    for table in bench.tables:
        table.show(console)
    about = one_line(bench.about)
    console.print(f"{about}\nall of it in {seconds / 60:.1f} minutes", highlight=False)
    for what in bench.left_out:
        console.print(f"[bold yellow]LEFT OUT[/] {what}")
    for what in bench.wrong:
        console.print(f"[bold red]WRONG OUTPUT[/] {what}")
    RESULTS.parent.mkdir(exist_ok=True)
    kept = {
        "machine": bench.about,
        "rounds": bench.rounds,
        "left_out": bench.left_out,
        "wrong": bench.wrong,
        "runs": {name: [as_json(run) for run in runs] for name, runs in bench.runs.items()},
        "latency_ms": {
            name: [
                {
                    "p50": quantile(each.ms, 0.5),
                    "p99": quantile(each.ms, 0.99),
                    "max": max(each.ms),
                    "measured": len(each.ms),
                    "missing": each.missing,
                    "generator_late": each.late_ms,
                    "worker_cpu": each.worker_cpu,
                }
                for each in found
            ]
            for name, found in bench.latencies.items()
        },
    }
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    console.print(f"the same as JSON: {os.path.relpath(RESULTS)}", highlight=False)
    if markdown:
        print()
        for table in bench.tables:
            print(table.markdown(), end="\n\n")
        print(about)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round: about two minutes, rough numbers")
    parser.add_argument("--only", help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--seconds", type=float, help="a run at least; default 10")
    parser.add_argument("--markdown", action="store_true", help="the tables as Markdown too")
    options = parser.parse_args()
    unknown = set((options.only or "fold").split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"--only: no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
