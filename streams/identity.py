"""Which account a message belongs to, and which person.

A message claims identities; what earlier messages taught about them are *links*, a map from link
key to `account|person` (either may be empty). The resolver is pure: the caller loads the links,
asks, and stores what was `learned`:

    links = load(keys of all observations by resolver.link_keys)
    links |= load(further_keys(links)), until there are none
    for observation in batch:
        links.update(resolver.resolve(observation, links).learned)

**Keys.** Companies stand in clear (`domain:acme.example`, `group:acme`), as do the CRM's record
ids (`salesforce:0015…`, `contact:`, `opp:`). Persons are keyed hashes (`email:`, `user:`, `anon:`):
what is stored cannot be turned back into an address without the secret.

**Provisional accounts.** Where no CRM account is known, the company's domain or the group stands for
it, and the account's id is the link key itself: `domain:acme.example`. Whoever is of no company yet is
a visitor, `visitor:` and the link key: `visitor:anon:…`. The link of such a key leads to the account
itself while that is all we know, and elsewhere once we know more. That is the moment at which two
accounts turn out to be one: a `Merged`, which the fold of the one carries out.

**Home.** A user has one account, that of the newest `identify` or `group` call; a CRM account does
not give way to a provisional one. What an event names as its own group counts for that event only,
and moves nobody; an address that it brings along does say where somebody new belongs.

**What leads where.** A device leads to the user who was last signed in on it, and so does an address
at a free-mail provider. Whoever is led to by a link that changes goes along: so a person under two user
ids with one address is one visitor, and one person. A device that leads to one user is none of another's.
A deal of which no company is stated is of the company of the contact that is seen with it, or the other
way round. A link that leads to somebody who has been forgotten says nothing.

**Several systems.** Each company record of a CRM is an account of its own, unless `lead` ranks the
systems: then a record whose domain is claimed by a record of another system is the account of the
one that ranks first. A domain stays with who claimed it first; the others are conflicts.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from rules.records import PROVISIONAL, is_provisional, is_visitor
from rules.sources import Sources
from streams.adapters.base import Claims, Observation
from streams.domains import NoCompany, mail_domain, site_domain, tidy_email
from streams.settings import Settings

Links: TypeAlias = Mapping[str, str]
Usual: TypeAlias = "Callable[[Observation, _Known, Links], Resolved | None]"
VISITOR = "visitor:"
MAX_CACHED = 32_768  # people whose claims were met last: some 35 MB
_URLSAFE = bytes.maketrans(b"+/", b"-_")
STEPS = 4  # links that are followed one after the other


class Nobody(StrEnum):
    """Why a message belongs to no account, yet or at all."""

    ANONYMOUS = "anonymous"
    UNKNOWN_USER = "unknown_user"
    UNKNOWN_CONTACT = "unknown_contact"
    UNKNOWN_OPPORTUNITY = "unknown_opportunity"
    FREE_MAIL = "free_mail"
    DISPOSABLE_MAIL = "disposable_mail"
    BAD_DOMAIN = "bad_domain"
    NO_IDENTITY = "no_identity"


class Merged(msgspec.Struct, frozen=True, gc=False):
    """`account` turned out to be `into`; who was counted there as the first `person` is the second."""

    account: str
    into: str
    by_crm: bool = False
    person: tuple[str, str] | None = None


class SamePerson(msgspec.Struct, frozen=True, gc=False):
    """At `account`, who was counted as `person` is `same_as`."""

    account: str
    person: str
    same_as: str


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """`claimant` says that a domain is its own, which is `holder`'s already."""

    key: str
    holder: str
    claimant: str


class Resolved(msgspec.Struct, frozen=True, gc=False):
    account: str
    person: str | None = None
    learned: dict[str, str] = msgspec.field(default_factory=dict)
    left: str | None = None  # contact: the account the person belonged to until now
    merged: tuple[Merged, ...] = ()
    same: tuple[SamePerson, ...] = ()
    conflict: Conflict | None = None
    parked: str = ""  # of a visitor: why it is of no account yet, a `Nobody`


class Unattributed(msgspec.Struct, frozen=True, gc=False):
    """Of no account, and nothing that could say one later."""

    reason: str  # a `Nobody`, for counting


def resolver_of(settings: Settings, sources: Sources) -> Resolver:
    return Resolver(settings.person_key.get_secret_value().encode(), sources.lead, sources.linked_by_domain)


def account_of(link: str) -> str:
    return link.rpartition("|")[0]


def person_of(link: str) -> str:
    return link.rpartition("|")[2]


def users_of(links: Iterable[str]) -> set[str]:
    """As whom users are counted to whom such links lead."""
    leading = (account_of(link) for link in links)
    return {key_of(account).partition(":")[2] for account in leading if account.startswith(f"{VISITOR}user:")}


def key_of(account: str) -> str:
    """The link key under which stands what became of an account."""
    return account.removeprefix(VISITOR)


def further_keys(links: Links) -> list[str]:
    """What to load next: what became of the accounts that links lead to, and a contact's address, which moves with
    it. Again, until there is none; keys that were asked for and are not there come again too."""
    keys = {link.rpartition("|")[0].removeprefix(VISITOR) for link in links.values()}
    keys |= {f"email:{person_of(link)}" for key, link in links.items() if key.startswith("contact:")}
    return list(keys - links.keys() - {"", "email:"})


def follow(account: str, links: Links) -> str:
    """What became of an account."""
    for _ in range(STEPS):
        following = account_of(links.get(key_of(account), ""))
        if not following or following == account:
            break
        account = following
    return account


class _Known(msgspec.Struct, frozen=True, gc=False):
    """A message's claims as link keys; None where nothing is claimed."""

    crm: str | None = None
    contact: str | None = None
    opportunity: str | None = None
    group: str | None = None
    user: str | None = None
    anonymous: str | None = None
    email: str | None = None
    mail: str | None = None  # the company domain of the e-mail
    site: str | None = None  # the company domain of the website
    refused: NoCompany | None = None  # why a domain stands for no company
    stranger: str | None = None  # who the person is as long as no e-mail is known
    usual: Usual | None = None  # how it is told that the links say what is expected
    keys: tuple[str, ...] = ()  # all of the link keys

    def parked(self) -> str | None:
        """The key under which somebody of no account is kept."""
        return self.opportunity or self.contact or self.user or self.anonymous or self.email


class Resolver:
    """`secret` keys the hashes of persons: another secret, and everybody is a stranger.

    `lead` names CRM systems, the first of which has the account when several know a company: by a field that names
    the other's record, and `by_domain` by claiming one domain.
    """

    def __init__(self, secret: bytes, lead: Sequence[str] = (), by_domain: bool = True) -> None:
        if not secret:
            raise ValueError("the identity secret is empty")
        key = secret if len(secret) <= blake2b.MAX_KEY_SIZE else blake2b(secret).digest()
        self._keyed = blake2b(key=key, digest_size=9)
        self._by_domain = by_domain
        self._lead = {system: rank for rank, system in enumerate(lead)}
        # One visitor sends many messages, and each is asked for twice: its keys, then its account.
        self._known = lru_cache(maxsize=MAX_CACHED)(self._look_at)

    def link_keys(self, observation: Observation) -> tuple[str, ...]:
        """The links that `resolve` will look at, `further_keys` aside."""
        keys = self._known(observation.claims).keys
        if observation.claims.also or observation.merged:
            prefix = "contact:" if observation.claims.contact and observation.merged else ""
            return (*keys, *observation.claims.also, *(prefix + each for each in observation.merged))
        return keys

    def resolve(self, observation: Observation, links: Links) -> Resolved | Unattributed:
        """`links` holds what is stored under `link_keys` and `further_keys`; more is not looked at."""
        claims = observation.claims
        known = self._known(claims)
        if observation.kind == "merge":
            return self._one_contact(observation, links) if claims.contact else _merged(observation, known, links)
        if known.usual is not None and (found := known.usual(observation, known, links)):
            return found
        return self._resolve(observation, known, links)

    def _resolve(self, observation: Observation, known: _Known, links: Links) -> Resolved | Unattributed:
        claims = observation.claims
        user, device = _signed_in(known, links)
        proven = claims.person or _hash_of(known.email) or _known_by_mail(known.contact, user, device, links)
        home = _home(observation.kind, known, user, device, links)
        account = self._account(observation, known, home, links)
        parked = ""
        if account is None or is_visitor(account):
            parked = _why(known)
            if account is None:
                key = known.parked()
                if key is None or observation.gone or observation.kind in ("delete", "restore", "stale"):
                    return Unattributed(parked)
                account = follow(VISITOR + key, links)
        person = proven or (known.stranger if known.contact or not user else _hash_of(user))
        found = _Finding(observation, known, links, account, home, user, device, person, proven)
        learned, conflict = self._lessons(found)
        left = _left(found) if known.contact else None
        if not learned:
            return Resolved(account, person, learned, left, conflict=conflict, parked=parked)
        after = {**links, **learned}
        merged, same = tuple(_merges(found, learned, after)), tuple(_same(found))
        return Resolved(account, person, learned, left, merged, same, conflict, parked)

    def persons(self, claims: Claims, links: Links) -> list[str]:
        """Everybody the claims may mean: as whom they were counted, and who they turned out to be."""
        known = self._known(claims)
        user, device = _signed_in(known, links)
        contact = _hash_of(self._hash("contact", claims.contact))
        counted = [claims.person, contact, *(_hash_of(key) for key in (user, known.anonymous, known.email))]
        behind: list[str | None] = []
        for key in (known.contact, user, device, known.email):
            if key:
                behind += [person_behind(key, links), self.stranger_at(account_of(links.get(key, "")))]
        return [each for each in dict.fromkeys([*counted, *behind]) if each]

    def stranger_at(self, account: str) -> str | None:
        """As whom somebody is counted who is known as a visitor only."""
        if not is_visitor(account):
            return None
        kind, _, id = key_of(account).partition(":")
        return _hash_of(self._hash("contact", id)) if kind == "contact" else id if kind != "opp" else None

    def _look_at(self, claims: Claims) -> _Known:
        if (usual := _usual(claims)) is _usual_account:
            return _NOTHING_ASKED
        tidy = tidy_email(claims.email) if claims.email else None
        mailing = mail_domain(tidy) if tidy else None
        sited = site_domain(claims.domain) if claims.domain else None
        crm = claims.crm
        contact = f"contact:{claims.contact}" if claims.contact else None
        opportunity = f"opp:{claims.opportunity}" if claims.opportunity else None
        group = f"group:{claims.group}" if claims.group else None
        user = self._hash("user", claims.user) if claims.user else None
        anonymous = self._hash("anon", claims.anonymous) if claims.anonymous else None
        email = self._hash("email", tidy) if tidy else None
        mail, site = _domain_key(mailing), _domain_key(sited)
        keys = (crm, contact, opportunity, group, user, anonymous, email, mail, site)
        return _Known(
            *keys,
            refused=next((domain for domain in (mailing, sited) if isinstance(domain, NoCompany)), None),
            stranger=_hash_of(self._hash("contact", claims.contact) or user or anonymous),
            usual=usual,
            keys=tuple([key for key in keys if key]),
        )

    def _hash(self, kind: str, text: str | None) -> str | None:
        if not text:
            return None
        hashed = self._keyed.copy()
        hashed.update(f"{kind}:{text}".encode(errors="replace"))
        return f"{kind}:{b2a_base64(hashed.digest(), newline=False).translate(_URLSAFE).decode()}"

    # -- the account ---------------------------------------------------------------------------------------

    def _account(self, observation: Observation, known: _Known, home: str | None, links: Links) -> str | None:
        if account := observation.claims.account:
            return account
        if known.crm:
            return self._company(observation, known, known.crm, links)
        for key in (known.contact, known.opportunity):
            if key and (account := _linked(key, links)) and not is_visitor(account):
                return account
        if known.group:
            account, site = _linked(known.group, links), _linked(known.site, links)
            if account and site and observation.kind == "facts" and is_provisional(account):
                return site  # that it is the company of this website is learnt now
            return account or site or known.group
        if home and not is_visitor(home):
            return home
        # Nobody says where this person belongs: the website that is named, or whose device it is.
        for key in (known.site, known.anonymous):
            if key and (account := _linked(key, links)) and not is_visitor(account):
                return account
        return known.site or home

    def _company(self, observation: Observation, known: _Known, crm: str, links: Links) -> str:
        """The account of a CRM's company record: its own, or that of a record of a system that leads."""
        if found := _linked(crm, links):
            return found
        if observation.kind in ("facts", "restore"):
            for key in (*observation.claims.also, known.site if self._by_domain else None):
                holder = key if key in observation.claims.also else _linked(key, links)
                if holder and self._leads(holder, crm):
                    return follow(holder, links)
        return crm

    def _leads(self, one: str, other: str) -> bool:
        """Whether the account of `one` is that of `other` too, when they are the same company."""
        ranks = self._lead
        mine, theirs = ranks.get(_system(one)), ranks.get(_system(other))
        return mine is not None and theirs is not None and mine < theirs

    def _one_contact(self, observation: Observation, links: Links) -> Resolved | Unattributed:
        """A CRM made one contact of several: they are one person, at the account of the first that has one."""
        ids = {f"contact:{each}": each for each in (observation.claims.contact, *observation.merged) if each}
        known = [key for key in ids if key in links]
        if not known:
            return Unattributed(Nobody.UNKNOWN_CONTACT)
        account = _linked(next((key for key in known if _is_settled(key, links)), known[0]), links) or ""
        proven = next((person for key in known if (person := person_of(links[key]))), "")
        who = proven or _hash_of(self._hash("contact", observation.claims.contact)) or ""
        learned, merged, same = dict.fromkeys(ids, f"{account}|{proven}"), [], []
        for key in known:
            was = person_of(links[key]) or _hash_of(self._hash("contact", ids[key])) or ""
            there = _linked(key, links)
            if there == VISITOR + key and there != account:
                merged.append(Merged(there, account, person=(was, who) if was != who else None))
            elif there and not is_visitor(there) and was != who:
                same.append(SamePerson(there, was, who))
            if person_of(links[key]) not in ("", proven):
                learned[f"email:{was}"] = f"{account}|{proven}"
        learned = {key: link for key, link in learned.items() if links.get(key) != link}
        return Resolved(account, who, learned, merged=tuple(merged), same=tuple(same))

    # -- what is learnt ------------------------------------------------------------------------------------

    def _lessons(self, found: _Finding) -> tuple[dict[str, str], Conflict | None]:
        """The links that are new or different now."""
        known, links, account, observation = found.known, found.links, found.account, found.observation
        learned: dict[str, str] = {}
        conflict = None
        if known.crm or known.opportunity or known.site or observation.kind in ("facts", "restore"):
            if observation.kind in ("facts", "restore"):
                learned, conflict = self._company_lessons(found)
            if known.crm and known.crm != account:
                learned[known.crm] = f"{account}|"
            if known.opportunity and (_is_stated(observation.claims) or not _is_settled(known.opportunity, links)):
                learned[known.opportunity] = f"{account}|"
        for place in (account, found.home):
            if place and is_provisional(place) and place not in links and not is_visitor(place):
                learned[place] = f"{place}|"
        if known.contact:
            learned[known.contact] = _contact_link(found, known.contact)
        if user := found.user:
            learned[user] = f"{_new_home(found, _linked(user, links)) or VISITOR + user}|{found.proven or ''}"
            if known.anonymous:
                learned[known.anonymous] = f"{VISITOR}{user}|{found.proven or ''}"
        elif known.anonymous and (link := _device_link(found, known.anonymous)):
            learned[known.anonymous] = link
        if known.email and (link := _mail_link(found, known.email)):
            learned[known.email] = link
        for key, link in [*learned.items()]:
            if links.get(key) == link:
                del learned[key]
        if learned:
            learned |= _moved_mail(found, learned)
            learned |= _promoted(found, learned)
        return learned, conflict

    def _company_lessons(self, found: _Finding) -> tuple[dict[str, str], Conflict | None]:
        """A domain or group is whose claimed it first; a provisional account gives way, and a lower system."""
        known, links, account = found.known, found.links, found.account
        learned: dict[str, str] = {}
        conflict = None
        for key in (known.group, known.site, *found.observation.claims.also):
            if key is None or key == account or is_visitor(account):
                continue
            holder = _linked(key, links)
            gives_way = not is_provisional(account) or key == known.group
            if holder is None or (is_provisional(holder) and gives_way):
                learned[key] = f"{account}|"
                if holder:
                    learned[holder] = f"{account}|"
            elif holder != account and self._leads(account, holder) and (self._by_domain or key != known.site):
                learned |= {key: f"{account}|", holder: f"{account}|"}
            elif holder != account and not is_provisional(account):
                conflict = Conflict(key, holder, account)
        return learned, conflict


def _system(account: str) -> str:
    return account.partition(":")[0]


def _hash_of(key: str | None) -> str | None:
    return key.partition(":")[2] if key else None


def _domain_key(domain: str | NoCompany | None) -> str | None:
    return f"domain:{domain}" if type(domain) is str else None


# -- what is expected
#
# Most messages teach nothing: their links all say what would be learnt. By what is claimed, that is told here
# without drawing lessons, and it is what `_resolve` finds: the tests compare. None: it has to be looked at.


def _usual(claims: Claims) -> Usual | None:
    """Which of the usual ways to claim something it is."""
    if claims.also or claims.opportunity or claims.domain:
        return None
    if claims.user or claims.anonymous:
        return None if claims.account or claims.crm or claims.contact or claims.person else _usual_on_web
    if claims.group or (claims.account and claims.crm):
        return None
    if claims.contact:
        return None if claims.account or claims.person else _usual_contact
    if claims.email:
        return None
    return _usual_account if claims.account else _usual_company if claims.crm else None


def _usual_account(observation: Observation, known: _Known, links: Links) -> Resolved | None:
    """Our own id, and nothing to be looked up."""
    account = observation.claims.account or ""
    return None if is_provisional(account) else Resolved(account, observation.claims.person)


_NOTHING_ASKED = _Known(usual=_usual_account)


def _usual_company(observation: Observation, known: _Known, links: Links) -> Resolved | None:
    """A CRM's record that is an account by itself."""
    crm = known.crm or ""
    if is_provisional(crm) or links.get(crm):
        return None
    return Resolved(crm, observation.claims.person)


def _usual_contact(observation: Observation, known: _Known, links: Links) -> Resolved | None:
    """Somebody of a CRM's account who is known there by the address that is stated, if one is."""
    contact, email, crm = known.contact or "", known.email, known.crm
    if observation.kind != "contact" or observation.gone or not (link := links.get(contact)):
        return None
    account, _, person = link.rpartition("|")
    if not _stays(account, links) or account.startswith(PROVISIONAL) or (crm and crm != account):
        return None
    if email and (email[6:] != person or links.get(email) != link):
        return None
    return Resolved(account, person or known.stranger)


def _usual_on_web(observation: Observation, known: _Known, links: Links) -> Resolved | None:
    """Activity of a user, perhaps on a device, or of a device of which nothing is known, perhaps at a group."""
    if observation.kind != "activity":
        return None
    user, device, email, group = known.user, known.anonymous, known.email, known.group
    on_device = links.get(device) if device else None
    if user is None:
        if on_device is None:
            is_stranger = not (email or group)
            return Resolved(f"{VISITOR}{device}", known.stranger, parked=Nobody.ANONYMOUS) if is_stranger else None
        if not _leads_to_user(on_device):
            return None
        user = key_of(account_of(on_device))
    account, _, person = links.get(user, "").rpartition("|")
    if not person or (device and on_device != f"{VISITOR}{user}|{person}") or not _stays(account, links):
        return None
    if email and (email[6:] != person or account.startswith(PROVISIONAL) or not (known.mail or email in links)):
        return None
    if group:
        account = account_of(links.get(group, ""))
        if not _stays(account, links):
            return None
    return Resolved(account, person)


def _stays(account: str, links: Links) -> bool:
    """Whether that is an account, and has not become another."""
    if account.startswith(PROVISIONAL):
        return not is_visitor(account) and links.get(account, "")[:-1] == account
    return bool(account) and not links.get(account)


def _leads_to_user(link: str) -> bool:
    return link.startswith("visitor:user:")


def _signed_in(known: _Known, links: Links) -> tuple[str | None, str | None]:
    """The user, if need be the one who was last signed in on the device; and the device if it is theirs."""
    user, device = known.user, known.anonymous
    if device and (link := links.get(device)) and _leads_to_user(link):
        last = key_of(account_of(link))
        if last in links:
            return user or last, device if user in (None, last) else None
    return user, device


def person_behind(key: str, links: Links) -> str:
    """Who a link's person is, known by e-mail; of a device that leads to its user, that user."""
    for _ in range(STEPS):
        link = links.get(key, "")
        account = account_of(link)
        led = is_visitor(account) and key_of(account) != key
        if not led or (person_of(link) and not _leads_to_user(link)):
            return person_of(link)
        key = key_of(account)
    return ""


def _known_by_mail(contact: str | None, user: str | None, device: str | None, links: Links) -> str | None:
    """The hash of the e-mail that an earlier message had."""
    for key in (contact,) if contact else (user, device):
        if key and (person := person_behind(key, links)):
            return person
    return None


def _linked(key: str | None, links: Links) -> str | None:
    """The account behind a link, and what became of it. Who was led to and has been forgotten is nobody."""
    if key is None or not (account := account_of(links.get(key, ""))) or account == key:
        return account if key and account else None
    if is_visitor(account) and key_of(account) not in links:
        return None
    return follow(account, links)


def _is_settled(key: str, links: Links) -> bool:
    account = _linked(key, links)
    return account is not None and not is_visitor(account)


def _home(kind: str, known: _Known, user: str | None, device: str | None, links: Links) -> str | None:
    """The first of the person's accounts that is no provisional one, else the first that is no visitor.

    An identify call states the e-mail, which goes first; on other calls it may be an old one.
    """
    identified = kind == "contact"
    if identified:
        keys = (known.email, known.mail, user, device, known.contact)
    else:
        keys = (user, device, known.email, known.mail, known.contact)
    first = visitor = None
    for key in keys:
        if key and (account := _linked(key, links)):
            if not is_provisional(account):
                return account
            if is_visitor(account):
                visitor = visitor or account
            elif not (identified and known.mail and account.startswith("domain:")):
                first = first or account  # else an earlier e-mail's company, which the new one replaces
    if found := first or known.mail:
        return found
    if known.opportunity:
        return VISITOR + known.opportunity
    if user and visitor == f"{VISITOR}{device}":
        return VISITOR + user
    return visitor


def _why(known: _Known) -> str:
    if known.refused:
        return Nobody(known.refused.value)
    for key, reason in (
        (known.opportunity, Nobody.UNKNOWN_OPPORTUNITY),
        (known.contact, Nobody.UNKNOWN_CONTACT),
        (known.user, Nobody.UNKNOWN_USER),
        (known.anonymous, Nobody.ANONYMOUS),
    ):
        if key:
            return reason
    return Nobody.NO_IDENTITY


def _is_stated(claims: Claims) -> bool:
    return bool(claims.account or claims.crm)


class _Finding(msgspec.Struct, gc=False):
    """What was found out about an observation: all that lessons are drawn from."""

    observation: Observation
    known: _Known
    links: Links
    account: str
    home: str | None  # where the person belongs as far as is known, whatever account the message is about
    user: str | None  # who is or was last signed in
    device: str | None  # if it is the person's own
    person: str | None
    proven: str | None  # the person, if known by e-mail


def _says_whose(observation: Observation) -> bool:
    """Whether the message says at which account its contact is: what happened at another one does not."""
    return observation.kind != "activity" and _is_stated(observation.claims)


def _left(found: _Finding) -> str | None:
    contact = found.known.contact
    if contact is None or found.observation.gone or not _says_whose(found.observation):
        return None
    before = _linked(contact, found.links)
    return before if before and before != found.account and not is_visitor(before) else None


def _contact_link(found: _Finding, contact: str) -> str:
    person, settled = found.proven or "", _is_settled(contact, found.links)
    if found.observation.gone:
        # That somebody has left a company says nothing of the one at which they are by now.
        elsewhere = _is_stated(found.observation.claims) and _linked(contact, found.links) != found.account
        return found.links[contact] if settled and elsewhere else f"|{person}"
    if _says_whose(found.observation) or not settled:
        return f"{found.account}|{person}"
    return f"{account_of(found.links[contact])}|{person}"


def _mail_link(found: _Finding, email: str) -> str | None:
    """Where an address leads that its domain does not lead to: a contact may write from a private address."""
    known, observation, person = found.known, found.observation, _hash_of(found.known.email)
    is_contact = known.contact and observation.kind == "contact" and not observation.gone
    if is_contact and (_is_stated(observation.claims) or _is_settled(known.contact or "", found.links)):
        return f"{found.account}|{person}"
    if known.mail or _is_settled(email, found.links):
        return None
    home = _new_home(found, None)
    if not home or is_visitor(home):
        home = home or VISITOR + (known.parked() or email)
        return f"{home}|{person}"
    if found.user:
        return f"{VISITOR}{found.user}|{person}"
    return f"{home}|{person}" if known.contact or known.anonymous or observation.kind != "activity" else None


def _moved_mail(found: _Finding, learned: dict[str, str]) -> dict[str, str]:
    """A contact changes accounts in a message without e-mail: the address moves along."""
    contact = found.known.contact
    if contact is None or found.known.email or found.observation.gone:
        return {}
    link, person = learned.get(contact), person_of(found.links.get(contact, ""))
    if link is None or not person:
        return {}
    return {f"email:{person}": link} if not is_visitor(account_of(link)) else {}


def _device_link(found: _Finding, device: str) -> str | None:
    """Of a device on which nobody ever signed in. One of which nothing is known has no link."""
    home = _new_home(found, _linked(device, found.links))
    return f"{home}|{found.proven or ''}" if home and (home != VISITOR + device or found.proven) else None


def _new_home(found: _Finding, held: str | None) -> str | None:
    account = found.account
    settled = held if held and not is_visitor(held) else None
    if found.observation.kind == "activity":
        # Where an event happened moves nobody.
        return settled or found.home or (account if is_visitor(account) else held)
    if settled and is_provisional(account) and not is_provisional(settled):
        return settled
    return account


def _promoted(found: _Finding, learned: Mapping[str, str]) -> dict[str, str]:
    """Who was parked, and is led to by a link that now leads elsewhere, is there too."""
    promoted: dict[str, str] = {}
    links = found.links
    for key, link in learned.items():
        visitor, home = account_of(links.get(key, "")), account_of(link)
        if not is_visitor(visitor) or not home or (key == found.known.anonymous and key != found.device):
            continue
        root = key_of(follow(visitor, links))
        is_led = root != key and account_of(links.get(root, "")) == VISITOR + root
        if is_led and root not in learned and follow(home, {**links, **learned, **promoted}) != VISITOR + root:
            promoted[root] = f"{home}|{person_of(links[root])}"
    return promoted


# -- one account of two ---------------------------------------------------------------------------------------


def _merges(found: _Finding, learned: Mapping[str, str], after: Links) -> Iterator[Merged]:
    """The accounts whose link leads elsewhere from now on."""
    links = found.links
    for key in learned:
        before = account_of(links.get(key, ""))
        if key.startswith(("domain:", "group:")):
            account = key if before == key else ""
        elif key.startswith("anon:"):
            account = (
                VISITOR + key if before in ("", VISITOR + key) else ""
            )  # of whom nothing is known has no link
        elif key.startswith(("user:", "contact:", "opp:", "email:")):
            account = before if before == VISITOR + key else ""
        else:
            account = key if not before else ""  # a CRM's record
        if account and (into := follow(account, after)) != account:
            yield Merged(account, into, person=_renamed(account, found, after))


def _renamed(visitor: str, found: _Finding, after: Links) -> tuple[str, str] | None:
    """As whom the visitor was counted, and who it is."""
    if not is_visitor(visitor) or visitor.startswith(f"{VISITOR}email:"):
        return None
    key = key_of(visitor)
    if key.startswith("opp:"):  # it has what this contact did until now
        is_led = account_of(found.links.get(found.known.contact or key, "")) == visitor
        strange, proven = found.known.stranger, found.proven
        return (strange, proven) if is_led and strange and proven and found.known.contact else None
    counted = _counted_as(key, found)
    person = person_behind(key, after) or (found.person if key in found.known.keys else None)
    return (counted, person) if counted and person and person != counted else None


def _counted_as(key: str, found: _Finding) -> str | None:
    """A contact's stranger is the hash of its id, which its key has in clear."""
    return found.known.stranger if key.startswith("contact:") else _hash_of(key)


def _same(found: _Finding) -> Iterator[SamePerson]:
    """Who was counted as a stranger at an account, and is known by e-mail or as a user from now on."""
    known, links, person = found.known, found.links, found.person
    for key in (known.contact, found.user, found.device):
        if key is None or person is None or (link := links.get(key)) is None:
            continue
        counted, account = _counted_as(key, found), _linked(key, links)
        if counted is None or counted == person or not account or is_visitor(account):
            continue
        if not person_behind(key, links) and not (key == found.device and _leads_to_user(link)):
            yield SamePerson(account, counted, person)


def _merged(observation: Observation, known: _Known, links: Links) -> Resolved | Unattributed:
    """A CRM made one company of several."""
    if known.crm:
        account = follow(known.crm, links)
        others = [each for each in observation.merged if follow(each, links) != account]
        learned = dict.fromkeys(others, f"{account}|")
        merged = tuple(Merged(follow(each, links), account, by_crm=True) for each in others)
        learned |= {key_of(each.account): f"{account}|" for each in merged}
        return Resolved(account, None, learned, merged=merged)
    return Unattributed(Nobody.NO_IDENTITY)
