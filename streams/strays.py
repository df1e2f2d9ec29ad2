"""What links say is one, though the log may not: told once more after Redis has lost links.

A link is there for others as soon as it is saved; what follows from it for accounts and people is in the log
only when its batch has been produced. If Redis loses the batch in between, others may have built on the link, or
told it in its topic: routed once more, its message finds the link there, and has nothing to teach. And where a
message's records are in the log, others may have gone on without its links: an account by whose domain a company
was met, say, of which the CRM's record knew nothing when it took that domain.

So everybody in a message that is looked at after such a loss is told as what they are by now. A merge into which
an account has gone already, or a person who is called that already, changes nothing in the fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rules.records import PROVISIONAL, Merge, Same, encode_record, is_visitor
from streams.identity import VISITOR, Links, Resolver, follow, person_behind
from streams.store.base import Outbound
from streams.topics import ACCOUNT_LOG

AFTER_ALL = 1 << 20  # no message becomes so many records
PERSONS = ("user:", "anon:", "contact:")
VISITORS = (*PERSONS, "opp:", "email:")


def strays(
    keys: Iterable[str], links: Links, resolver: Resolver, place: str, offset: int, received: int
) -> Iterator[Outbound]:
    """Records for all of `keys` that lead elsewhere by `links`, as if the message at `offset` had said so last."""
    known = (key for key in sorted(keys) if key in links)
    for index, record in enumerate((each for key in known for each in _of(key, links, resolver)), AFTER_ALL):
        record.at = record.received = received
        record.via = (place, offset, index)
        yield Outbound(ACCOUNT_LOG, record.account, encode_record(record))


def _of(key: str, links: Links, resolver: Resolver) -> Iterator[Merge | Same]:
    account = VISITOR + key if key.startswith(VISITORS) else key
    into, person = follow(account, links), None
    counted = resolver.stranger_at(VISITOR + key) if key.startswith(PERSONS) else None
    if counted and (known_as := person_behind(key, links)) not in ("", counted):
        person = counted, known_as
        if not is_visitor(into):
            yield Same(account=into, person=counted, same_as=known_as, at=0, received=0)
    if into != account:
        yield Merge(account=account, into=into, at=0, received=0, by_crm=_by_crm(key, into), person=person)


def _by_crm(account: str, into: str) -> bool:
    """Two records of one system are one because it says so; of several, because one of those leads."""
    of_crm = not account.startswith((*PROVISIONAL, *VISITORS))
    return of_crm and account.partition(":")[0] == into.partition(":")[0]
