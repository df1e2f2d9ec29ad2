"""Files into Kafka: what people have in spreadsheets and exports arrives, row by row and once."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from hypothesis import HealthCheck, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from streams import importing, topics
from streams.adapters.base import Claims
from streams.importing import Asked, ImportProblem, prepare, run, state_file
from streams.importing_map import CLAIMS, WrittenMap
from streams.importing_rows import Lines, columnar, csv_rows
from streams.settings import Settings
from streams.topics import CRM_UPDATES, WEB_ACTIVITY
from tests.live.conftest import TIMEOUT_S, environment, isotherm

COMPANIES = (
    "\ufeffCompany;Website;Employees;Last modified;Mood\r\n"
    'Acme GmbH;https://acme.example;"1,200";2026-03-02T09:00:00Z;good\r\n'
    '"Globex\r\nInternational";globex.example;;2026-03-02T10:00:00+01:00;\r\n'
    ";;;;\r\n"
)


@pytest.fixture
async def settings(kafka: str, topic_prefix: str) -> Settings:
    embedded = not os.environ.get("ISOTHERM_TEST_KAFKA")
    made = Settings(kafka=kafka, partitions=2, topic_prefix=topic_prefix, idempotence=not embedded)
    await topics.create(made)
    return made


@dataclass(frozen=True)
class Arrived:
    topic: str
    headers: dict[str, bytes]
    value: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.value["id"])


async def arrived(settings: Settings) -> list[Arrived]:
    """All that stands in the source topics at this moment."""
    found: list[Arrived] = []
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest") as consumer:
        places = [
            TopicPartition(settings.topics(role), number)
            for role in topics.SOURCES
            for number in range(topics.SOURCE_PARTITIONS)
        ]
        consumer.assign(places)

        async def read() -> None:
            while not await at_end(consumer, places):
                for place, messages in (await consumer.getmany(timeout_ms=100)).items():
                    role = settings.topics.role(place.topic)
                    found.extend(Arrived(role, dict(each.headers), json.loads(each.value)) for each in messages)

        await asyncio.wait_for(read(), TIMEOUT_S)
    return found


async def at_end(consumer: Any, places: list[TopicPartition]) -> bool:
    for place in places:
        end = consumer.highwater(place)
        if end is None or await consumer.position(place) < end:
            return False
    return True


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# -- what arrives --------------------------------------------------------------------------------------------


async def test_a_spreadsheet_of_companies_arrives_as_facts(settings: Settings, tmp_path: Path) -> None:
    file = written(tmp_path / "companies.csv", COMPANIES)
    done = isotherm(settings, "import", file)
    assert done.returncode == 0, done.stderr
    assert "Website: website" in done.stdout  # what was guessed
    assert "2 of 2 rows imported" in done.stdout
    acme, globex = sorted(await arrived(settings), key=lambda each: str(each.value["set"]["name"]))
    assert (acme.topic, acme.headers) == (CRM_UPDATES, {"format": b"canonical"})
    assert acme.value == {
        "kind": "facts", "domain": "https://acme.example", "at": "2026-03-02T09:00:00Z", "id": acme.id,
        "origin": "import",
        "set": {"name": "Acme GmbH", "website": "https://acme.example", "employees": "1,200"},
    }  # fmt: skip
    assert globex.value["set"] == {"name": "Globex\r\nInternational", "website": "globex.example"}
    assert acme.id.startswith("import/")
    assert acme.id != globex.id
    assert not state_file(file).exists()


async def test_a_map_says_what_columns_are(settings: Settings, tmp_path: Path) -> None:
    people = written(
        tmp_path / "people.csv", "Mail,Wann,Funktion,Konto\na@acme.example,2026-03-02 09:00,CFO,0015f00002JUZPD\n"
    )
    person = written(
        tmp_path / "people.yaml",
        "kind: contact\nemail: Mail\ncrm: Konto\nsystem: salesforce\nat: Wann\nzone: Europe/Berlin\n"
        "facts: {Funktion: title}\n",
    )
    visits = written(tmp_path / "visits.tsv", "site\tseats\nacme.example\t25\n")
    visit = written(
        tmp_path / "visits.yaml",
        "kind: activity\ndomain: site\nat: 2026-03-02T12:00:00Z\nactivity: demo_requested\n"
        "props: {seats: seats}\n",
    )
    assert isotherm(settings, "import", people, "--map", person).returncode == 0
    assert isotherm(settings, "import", visits, "--map", visit, "--source", "events-team").returncode == 0
    contact, activity = sorted(await arrived(settings), key=lambda each: each.topic)
    assert (contact.topic, activity.topic) == (CRM_UPDATES, WEB_ACTIVITY)
    assert contact.value["at"] == "2026-03-02T09:00:00+01:00"
    assert contact.value["crm"] == "salesforce:0015f00002JUZPDAA5"
    assert contact.value["set"] == {"title": "CFO"}
    assert (activity.value["name"], activity.value["props"]) == ("demo_requested", {"seats": "25"})
    assert activity.value["source"] == "events-team"


async def test_records_keep_their_ids_and_announce_makes_them_live(settings: Settings, tmp_path: Path) -> None:
    record = {"kind": "activity", "account": "acme", "name": "demo_requested", "at": "2026-03-02T09:00:00Z"}
    lines = [record | {"id": "ours-1"}, record | {"account": "globex", "source": "badge-scanner"}]
    file = written(tmp_path / "events.jsonl.gz", gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    done = isotherm(settings, "import", file, "--announce", "--source", "fair", "--json")
    assert json.loads(done.stdout)["sent"] == 2
    acme, globex = sorted(await arrived(settings), key=lambda each: str(each.value["account"]))
    assert (acme.id, acme.value["origin"], acme.value["source"]) == ("ours-1", "live", "fair")
    assert globex.id.startswith("import/")
    assert globex.value["source"] == "badge-scanner"


async def test_messages_of_another_format_stay_as_they_are(settings: Settings, tmp_path: Path) -> None:
    call = {"type": "track", "event": "Demo", "userId": "u", "timestamp": "2026-03-02T09:00:00Z"}
    calls = [call | {"messageId": "m-1"}, call]
    file = written(tmp_path / "calls.jsonl", "\n".join(map(json.dumps, calls)))
    assert isotherm(settings, "import", file, "--format", "segment").returncode == 0
    named, unnamed = sorted(await arrived(settings), key=lambda each: len(each.headers))
    assert (named.topic, named.value) == (WEB_ACTIVITY, calls[0])
    assert named.headers == {"format": b"segment", "origin": b"import"}
    assert unnamed.headers["replay-of"].startswith(b"import/")  # of which the router makes an id


# -- what does not -------------------------------------------------------------------------------------------


async def test_refused_rows_go_to_a_file_and_the_others_count(settings: Settings, tmp_path: Path) -> None:
    rows = "domain,name,employees\na.example,A,10\nb.example,B,many\nc.example\n,D,1\n" + 'e.example,"E" inc,1\n'
    file = written(tmp_path / "companies.csv", rows.encode() + b"f.example,F\xfc,3\ng.example,G,7\n")
    done = isotherm(settings, "import", file)
    assert done.returncode == 1
    assert "2 of 7 rows imported, 5 refused" in done.stdout
    assert f"{file}:3: bad_value: employees is no number: 'many'" in done.stderr
    refused = tmp_path / "companies.csv.refused.csv"
    told = list(csv.reader(io.StringIO(refused.read_bytes().decode("utf-8", "surrogateescape"))))
    assert told[0] == ["line", "reason", "detail", "domain", "name", "employees"]
    assert [(line, reason) for line, reason, *_ in told[1:]] == [
        ("3", "bad_value"), ("4", "wrong_width"), ("5", "missing_key"), ("6", "broken_csv"), ("7", "bad_utf8"),
    ]  # fmt: skip
    assert told[1][3:] == ["b.example", "B", "many"]
    assert {each.value["domain"] for each in await arrived(settings)} == {"a.example", "g.example"}

    mended = refused.read_text(errors="replace").replace("many", "20").splitlines()[:2]
    assert isotherm(settings, "import", written(tmp_path / "mended.csv", "\n".join(mended))).returncode == 0
    assert len(await arrived(settings)) == 3


async def test_refused_messages_go_to_a_file_with_what_is_wrong(settings: Settings, tmp_path: Path) -> None:
    good = b'{"kind": "facts", "account": "a", "at": 1772442900000}\n'
    file = written(
        tmp_path / "e.jsonl",
        good + b'{broken\n\n{"kind": "fact"}\n' + b'{"x": "' + b"y" * 3_000_000 + b'"}\n' + good,
    )
    done = isotherm(settings, "import", file, "--refused", tmp_path / "bad.jsonl", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["refused"] == {"broken_json": 1, "unknown_kind": 1, "too_large": 1}
    told = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(each["line"], each["row"]) for each in told] == [(2, "{broken"), (4, {"kind": "fact"}), (5, "")]
    assert len(await arrived(settings)) == 2


async def test_a_dry_run_checks_all_and_leaves_nothing_behind(settings: Settings, tmp_path: Path) -> None:
    file = written(tmp_path / "companies.csv", COMPANIES + "Hooli;;;;\r\n")
    done = isotherm(settings, "import", file, "--dry-run")
    assert done.returncode == 1
    assert "2 of 3 rows would be imported, 1 refused (missing_key 1)" in done.stdout
    assert list(tmp_path.iterdir()) == [file]
    assert await arrived(settings) == []


def use(path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streams.cli", "import", str(path), "--dry-run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("kind: facts\ndomian: Website\n", "m.yaml:2: unknown key 'domian' (did you mean 'domain'?)"),
        ("kind: facts\ndomain: Web site\n", "m.yaml:2: there is no column 'Web site' (did you mean 'Website'?)"),
        ("kind: facts\n\nfacts:\n  Mod: mood\n", "m.yaml:4: there is no column 'Mod' (did you mean 'Mood'?)"),
        ("kind: facts\nfacts: {Company: phone}\n", "m.yaml:2: 'phone' is about a private person and is not kept"),
        ("kind: facts\nfacts: {Company: name, Mood: name}\n", "'name' is in column 'Company' already"),
        ("kind: facts\nfacts: {Company: Name}\n", "m.yaml:2: 'Name' is no name of ours (like annual_revenue)"),
        ("kind: facts\n", "m.yaml:1: no column says whom a row is about (name one of account, crm,"),
        ("kind: activity\ndomain: Website\n", "'at' is missing (an activity happened at some instant"),
        ("kind: activity\ndomain: Website\nat: Mood\n", "what is the activity called?"),
        ("kind: facts\nzone: Mars\ndomain: Website\n", "m.yaml:2: there is no time zone 'Mars'"),
        ("domain: Website\n", "'kind' is missing (facts, contact or activity)"),
        ("kind: company\ndomain: Website\n", "m.yaml:1: kind: Input should be 'facts', 'contact' or 'activity'"),
        ("kind: facts\n domain: [\n", "m.yaml:2: not valid YAML"),
        ("- kind\n", "m.yaml: a map is one YAML mapping (it begins `kind: facts`)"),
    ],
)
def test_a_mistake_in_a_map_is_told_with_its_place(tmp_path: Path, yaml: str, says: str) -> None:
    file = written(tmp_path / "companies.csv", COMPANIES)
    done = use(file, "--map", written(tmp_path / "m.yaml", yaml))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("a.csv", "colour,size\nred,3\n", (), "its columns are colour, size (say with --map what they mean)"),
        ("a.csv", "domain,name\n".encode("utf-16"), (), "is UTF-16; save it as UTF-8"),
        ("a.csv", "", (), "there is no header row"),
        ("a.csv", "domain,domain\nx,y\n", (), "column 'domain' stands there 2 times"),
        ("a.csv", "domain\nx\n", ("--format", "segment"), "is CSV, which has no --format"),
        ("a.jsonl", "[{}]\n", (), "is one JSON array"),
        ("a.jsonl", "{}\n", ("--map", "m.yaml"), "a --map is for CSV"),
        ("a.jsonl", "{}\n", ("--format", "segmant"), "did you mean 'segment'?"),
        ("a.jsonl", "{}\n", ("--format", "segment", "--source", "x"), "leave --source out"),
        ("a.csv.gz", gzip.compress(b"domain\nx.example\n" * 9000)[:-20], (), "cannot use"),
        ("a.csv.gz", b"\x1f\x8bnonsense", (), "cannot use"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_why(
    tmp_path: Path, name: str, content: str | bytes, options: tuple[str, ...], says: str
) -> None:
    done = use(written(tmp_path / name, content), *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_every_claim_of_a_map_is_one_that_adapters_know() -> None:
    assert set(CLAIMS) <= set(Claims.__struct_fields__) & set(WrittenMap.model_fields)


# -- going on ------------------------------------------------------------------------------------------------


class Crash(Exception):
    pass


@dataclass
class StopAt:
    """Ends the run when a step is reached for the k-th time."""

    step: str
    times: int

    def __call__(self, step: str) -> None:
        self.times -= step == self.step
        if self.times == 0:
            raise Crash


ROWS, SMALL = 45, 10


def company(number: int) -> str:
    return "" if number % 9 == 4 else f"c{number}.example"  # every ninth row says nothing of whom it is about


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(importing, "BATCH", SMALL)
    lines = ["domain,name", *(f'{company(n)},"Company\n{n}"' for n in range(ROWS))]
    return written(tmp_path / "companies.csv.gz", gzip.compress("\n".join(lines).encode()))


@pytest.fixture
async def whole(settings: Settings, file: Path) -> dict[str, str]:
    """Name → id of a run that nothing interrupts. The tests run theirs on top of it: the ids are the same."""
    await run(prepare(Asked(file)), settings)
    return {each.value["set"]["name"]: each.id for each in await arrived(settings)}


@pytest.mark.parametrize("step", ["produced", "saved"])
@pytest.mark.parametrize("times", [1, 2, 3, 5])
async def test_what_is_interrupted_goes_on_and_each_row_arrives_under_one_id(
    settings: Settings, file: Path, whole: dict[str, str], step: str, times: int
) -> None:
    before = len(whole)
    with pytest.raises(Crash):
        await run(prepare(Asked(file)), settings, reached=StopAt(step, times))
    job = prepare(Asked(file))
    assert job.resumed_at == min(ROWS, SMALL * (times - (step == "produced")))
    await run(job, settings)
    assert job.progress.rows == ROWS
    assert job.progress.sent == before == ROWS - 5
    names = [(each.value["set"]["name"], each.id) for each in await arrived(settings)]
    ours = Counter(names) - Counter(whole.items())
    assert set(ours) == set(whole.items())  # nothing is missing, and nothing has another id
    assert ours.total() - before <= (SMALL if step == "produced" else 0)  # sent again: a batch at most
    text = (file.parent / "companies.csv.gz.refused.csv").read_bytes().decode()
    refused = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[4] for row in refused] == ["name", *(f"Company\n{n}" for n in range(4, ROWS, 9))]
    assert not state_file(file).exists()


async def test_a_batch_that_kafka_never_acknowledged_is_not_counted(settings: Settings, file: Path) -> None:
    with pytest.raises(Crash):
        await run(prepare(Asked(file)), settings, reached=StopAt("produced", 1))
    assert not state_file(file).exists()
    job = prepare(Asked(file))
    job.lines.close()
    assert job.resumed_at == 0


async def test_a_file_that_changed_in_between_is_not_gone_on_with(settings: Settings, file: Path) -> None:
    with pytest.raises(Crash):
        await run(prepare(Asked(file)), settings, reached=StopAt("saved", 2))
    with pytest.raises(ImportProblem, match="had another announce"):
        prepare(Asked(file, announce=True))
    written(file, gzip.compress(b"domain,name\nx.example,X\n"))
    done = isotherm(settings, "import", file)
    assert done.returncode == 2
    assert "has changed since its import was interrupted after 20 rows" in done.stderr
    assert "--restart" in done.stderr
    assert isotherm(settings, "import", file, "--restart").returncode == 0
    assert not state_file(file).exists()


async def test_a_broken_state_file_is_told(settings: Settings, file: Path) -> None:
    written(state_file(file), "{half")
    done = isotherm(settings, "import", file)
    assert done.returncode == 2
    assert "begin anew with --restart" in done.stderr


INTERRUPTED = """
import os, signal
from streams import cli, importing
kept = importing.save
def save(path, progress):
    kept(path, progress)
    os.kill(os.getpid(), signal.SIGINT)
importing.save, importing.BATCH = save, 10
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born ignoring it
cli.main()
"""


async def test_ctrl_c_says_how_to_go_on(settings: Settings, file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "import", str(file)],
        env=environment(settings), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert "stopped after 10 rows; the same command goes on from there" in done.stderr
    assert "Traceback" not in done.stderr
    again = isotherm(settings, "import", file)
    assert "going on after row 10" in again.stdout
    assert len({each.id for each in await arrived(settings)}) == ROWS - 5


def test_the_command_has_help_with_an_example() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "import", "--help"], capture_output=True, timeout=60, check=False
    )
    assert b"Example" in done.stdout


# -- CSV -----------------------------------------------------------------------------------------------------

CELLS = st.text(st.characters(codec="utf-8"), max_size=12)
TABLES = st.integers(2, 5).flatmap(
    lambda width: st.lists(
        st.lists(CELLS, min_size=width, max_size=width).filter(lambda row: any(map(str.strip, row)))
    )
)


@property_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(
    table=TABLES,
    dialect=st.sampled_from(["excel", "excel-tab", "unix"]),
    delimiter=st.sampled_from(",;\t|"),
    bom=st.booleans(),
    packed=st.booleans(),
    data=st.data(),
)
def test_what_the_csv_module_writes_comes_back_row_for_row(
    tmp_path: Path,
    table: list[list[str]],
    dialect: str,
    delimiter: str,
    bom: bool,
    packed: bool,
    data: st.DataObject,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, dialect, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    header = [f"column {n}" for n in range(len(table[0]) if table else 2)]
    writer.writerows([header, *table])
    content = text.getvalue().encode("utf-8-sig" if bom else "utf-8")
    lines = Lines(written(tmp_path / "any.csv", gzip.compress(content) if packed else content))
    try:
        shape = columnar(lines)
        assert (shape.delimiter, shape.header) == (delimiter, header)
        lines.seek(*shape.begin)
        rows = list(csv_rows(lines, 0, delimiter, len(header)))
        assert [(row.cells, row.wrong) for row in rows] == [(cells, None) for cells in table]
        if rows:
            stop = data.draw(st.sampled_from(rows))
            lines.seek(stop.end, 0)
            rest = [row.cells for row in csv_rows(lines, stop.number, delimiter, len(header))]
            assert rest == table[stop.number :]
    finally:
        lines.close()
