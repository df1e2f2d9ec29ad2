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
not give way to a provisional one. What an event names as its own group counts for that event only.
The link of a device leads to the user who was last signed in on it.

**Several systems.** Each company record of a CRM is an account of its own, unless `lead` ranks the
systems: then a record whose domain is claimed by a record of another system is the account of the
one that ranks first. A domain stays with who claimed it first; the others are conflicts.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from rules.records import is_provisional, is_visitor
from streams.adapters.base import Claims, Observation
from streams.domains import NoCompany, mail_domain, site_domain, tidy_email

Links: TypeAlias = Mapping[str, str]
VISITOR = "visitor:"
MAX_CACHED = 16_384
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


def account_of(link: str) -> str:
    return link.rpartition("|")[0]


def person_of(link: str) -> str:
    return link.rpartition("|")[2]


def key_of(account: str) -> str:
    """The link key under which stands what became of an account."""
    return account.removeprefix(VISITOR)


def further_keys(links: Links) -> list[str]:
    """What to load next: what became of the accounts that links lead to, and a contact's address, which moves with
    it. Again, until there is none; keys that were asked for and are not there come again too."""
    keys = {key_of(account_of(link)) for link in links.values()}
    keys |= {f"email:{person_of(link)}" for key, link in links.items() if key.startswith("contact:")}
    return sorted(keys - links.keys() - {"", "email:"})


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

    crm: str | None
    contact: str | None
    opportunity: str | None
    group: str | None
    user: str | None
    anonymous: str | None
    email: str | None
    mail: str | None  # the company domain of the e-mail
    site: str | None  # the company domain of the website
    refused: NoCompany | None  # why a domain stands for no company
    stranger: str | None  # who the person is as long as no e-mail is known

    def keys(self) -> list[str]:
        found = (
            self.crm, self.contact, self.opportunity, self.group, self.user,
            self.anonymous, self.email, self.mail, self.site,
        )  # fmt: skip
        return [key for key in found if key]

    def parked(self) -> str | None:
        """The key under which somebody of no account is kept."""
        return self.contact or self.user or self.anonymous or self.opportunity or self.email


class Resolver:
    """`secret` keys the hashes of persons: another secret, and everybody is a stranger.

    `lead` names CRM systems, the first of which has the account when several know a company.
    """

    def __init__(self, secret: bytes, lead: Sequence[str] = ()) -> None:
        if not secret:
            raise ValueError("the identity secret is empty")
        self._secret = secret if len(secret) <= blake2b.MAX_KEY_SIZE else blake2b(secret).digest()
        self._lead = {system: rank for rank, system in enumerate(lead)}
        # One visitor sends many messages, and each is asked for twice: its keys, then its account.
        self._known = lru_cache(maxsize=MAX_CACHED)(self._look_at)

    def link_keys(self, observation: Observation) -> list[str]:
        """The links that `resolve` will look at, `further_keys` aside."""
        keys = self._known(observation.claims).keys()
        if observation.claims.also or observation.merged:
            prefix = "contact:" if observation.claims.contact and observation.merged else ""
            keys += [*observation.claims.also, *(prefix + each for each in observation.merged)]
        return keys

    def resolve(self, observation: Observation, links: Links) -> Resolved | Unattributed:
        """`links` holds what is stored under `link_keys` and `further_keys`; more is not looked at."""
        claims = observation.claims
        known = self._known(claims)
        if observation.kind == "merge":
            return _merged(observation, known, links)
        proven = _proven_person(claims, known, links)
        person = proven or known.stranger
        account = self._account(observation, known, links)
        parked = ""
        if account is None:
            key, parked = known.parked(), _why(known)
            if key is None or observation.gone or observation.kind in ("delete", "restore", "stale"):
                return Unattributed(parked)
            account = follow(VISITOR + key, links)
        found = _Finding(observation, known, links, account, person, proven)
        learned, conflict = self._lessons(found)
        if not learned and conflict is None:
            return Resolved(account, person, learned, _left(found), parked=parked)
        after = {**links, **learned}
        return Resolved(
            account,
            person,
            learned,
            _left(found),
            tuple(_merges(found, learned, after)),
            tuple(_same(found, after)),
            conflict,
            parked,
        )

    def persons(self, claims: Claims, links: Links) -> list[str]:
        """Everybody the claims may mean: as whom they were counted, and who they turned out to be."""
        known = self._known(claims)
        found = [claims.person or ""]
        for key in (known.contact, known.user, known.anonymous, known.email):
            if key:
                found += [_hash_of(self._hash("contact", claims.contact) if key == known.contact else key) or ""]
                found.append(_person_behind(key, links))
        return [each for each in dict.fromkeys(found) if each]

    def _look_at(self, claims: Claims) -> _Known:
        email = tidy_email(claims.email)
        mail = mail_domain(email) if email else None
        site = site_domain(claims.domain) if claims.domain else None
        user = self._hash("user", claims.user)
        anonymous = self._hash("anon", claims.anonymous)
        return _Known(
            crm=claims.crm,
            contact=f"contact:{claims.contact}" if claims.contact else None,
            opportunity=f"opp:{claims.opportunity}" if claims.opportunity else None,
            group=f"group:{claims.group}" if claims.group else None,
            user=user,
            anonymous=anonymous,
            email=self._hash("email", email),
            mail=_domain_key(mail),
            site=_domain_key(site),
            refused=next((domain for domain in (mail, site) if isinstance(domain, NoCompany)), None),
            stranger=_hash_of(self._hash("contact", claims.contact) or user or anonymous),
        )

    def _hash(self, kind: str, text: str | None) -> str | None:
        if not text:
            return None
        digest = blake2b(f"{kind}:{text}".encode(errors="replace"), key=self._secret, digest_size=9).digest()
        return f"{kind}:{urlsafe_b64encode(digest).decode()}"

    # -- the account ---------------------------------------------------------------------------------------

    def _account(self, observation: Observation, known: _Known, links: Links) -> str | None:
        claims = observation.claims
        if claims.account:
            return claims.account
        if known.crm:
            return self._company(observation, known, known.crm, links)
        if known.contact or known.opportunity:
            found = _linked(known.contact, links) or _linked(known.opportunity, links)
            if found:
                return found
        if known.group:
            return _linked(known.group, links) or _linked(known.site, links) or known.group
        return _home(observation.kind, known, links)

    def _company(self, observation: Observation, known: _Known, crm: str, links: Links) -> str:
        """The account of a CRM's company record: its own, or that of a record of a system that leads."""
        if found := _linked(crm, links):
            return found
        if observation.kind in ("facts", "restore"):
            for key in (*observation.claims.also, known.site):
                holder = key if key in observation.claims.also else _linked(key, links)
                if holder and self._leads(holder, crm):
                    return follow(holder, links)
        return crm

    def _leads(self, one: str, other: str) -> bool:
        """Whether the account of `one` is that of `other` too, when they are the same company."""
        ranks = self._lead
        mine, theirs = ranks.get(_system(one)), ranks.get(_system(other))
        return mine is not None and theirs is not None and mine < theirs

    # -- what is learnt ------------------------------------------------------------------------------------

    def _lessons(self, found: _Finding) -> tuple[dict[str, str], Conflict | None]:
        """The links that are new or different now."""
        known, account = found.known, found.account
        learned: dict[str, str] = {}
        conflict = None
        if is_visitor(account):
            if known.anonymous is None or account != VISITOR + known.anonymous:
                learned[key_of(account)] = f"{account}|{found.proven or ''}"
            if known.email:
                learned[known.email] = f"{account}|{found.proven or ''}"
        elif is_provisional(account) and account not in found.links:
            learned[account] = f"{account}|"
        if found.observation.kind in ("facts", "restore"):
            companies, conflict = self._company_lessons(found)
            learned |= companies
        if known.crm and known.crm != account:
            learned[known.crm] = f"{account}|"
        if known.opportunity and _is_stated(found.observation.claims):
            learned[known.opportunity] = f"{account}|"
        if known.contact:
            learned |= _contact_lessons(found, known.contact)
        if known.user or known.anonymous:
            learned |= _home_lessons(found)
        changed = {key: link for key, link in learned.items() if found.links.get(key) != link}
        return changed | _moved_mail(found, changed) | _promoted(found, changed), conflict

    def _company_lessons(self, found: _Finding) -> tuple[dict[str, str], Conflict | None]:
        """A domain or group is whose claimed it first; a provisional account gives way, and a lower system."""
        known, links, account = found.known, found.links, found.account
        learned: dict[str, str] = {}
        conflict = None
        for key in (known.group, known.site, *found.observation.claims.also):
            if key is None or key == account or is_visitor(account):
                continue
            holder = _linked(key, links)
            if holder is None or (is_provisional(holder) and not is_provisional(account)):
                learned[key] = f"{account}|"
                if holder:
                    learned[holder] = f"{account}|"
            elif holder != account and self._leads(account, holder):
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


def _person_behind(key: str, links: Links) -> str:
    """Who a link's person is; a device that leads to its user is that user."""
    for _ in range(STEPS):
        link = links.get(key, "")
        account = account_of(link)
        if not is_visitor(account) or key_of(account) == key:
            return person_of(link)
        key = key_of(account)
        if key not in links:
            return _hash_of(key) or ""
    return ""


def _proven_person(claims: Claims, known: _Known, links: Links) -> str | None:
    """The hash of the e-mail, which the message has or an earlier one had."""
    if claims.person or known.email:
        return claims.person or _hash_of(known.email)
    # Of the strongest id alone: who signs in on a shared device is not its earlier user.
    key = known.contact or known.user or known.anonymous
    return (_person_behind(key, links) or None) if key else None


def _linked(key: str | None, links: Links) -> str | None:
    """The account behind a link, and what became of it."""
    if key is None or not (account := account_of(links.get(key, ""))):
        return None
    return account if account == key else follow(account, links)


def _home(kind: str, known: _Known, links: Links) -> str | None:
    """The first of the person's accounts that is no provisional one, else the first that is no visitor.

    An identify call states the e-mail, which goes first; on other calls it may be an old one.
    """
    if kind == "contact":
        keys = (known.email, known.mail, known.user, known.anonymous, known.site)
    else:
        keys = (known.user, known.anonymous, known.email, known.mail, known.site)
    first = visitor = None
    for key in keys:
        if account := _linked(key, links):
            if not is_provisional(account):
                return account
            if is_visitor(account):
                visitor = visitor or account
            elif not (kind == "contact" and known.mail and account.startswith("domain:")):
                first = first or account  # else an earlier e-mail's company, which the new one replaces
    return first or known.mail or known.site or visitor


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
    person: str | None
    proven: str | None  # the person, if known by e-mail


def _left(found: _Finding) -> str | None:
    contact = found.known.contact
    if contact is None or not _is_stated(found.observation.claims):
        return None
    before = _linked(contact, found.links)
    return before if before and before != found.account and not is_visitor(before) else None


def _contact_lessons(found: _Finding, contact: str) -> dict[str, str]:
    """The contact's account, also by e-mail: a CRM contact may write from a free-mail address."""
    person = found.proven or ""
    if found.observation.gone:
        return {contact: f"|{person}"}
    if not _is_stated(found.observation.claims):
        before = account_of(found.links.get(contact, ""))
        home = before if before and not is_visitor(before) else found.account
        return {contact: f"{home}|{person}"}
    link = f"{found.account}|{person}"
    return {contact: link, found.known.email: link} if found.known.email else {contact: link}


def _moved_mail(found: _Finding, changed: dict[str, str]) -> dict[str, str]:
    """A contact changes accounts in a message without e-mail: the address moves along."""
    link = changed.get(found.known.contact or "")
    if link is None or found.proven is None or found.known.email or found.observation.gone:
        return {}
    return {f"email:{found.proven}": link} if not is_visitor(account_of(link)) else {}


def _home_lessons(found: _Finding) -> dict[str, str]:
    """A user's home, and a device whose home is that of its user."""
    known, links = found.known, found.links
    key = known.user or known.anonymous
    home = _new_home(found, _linked(key, links))
    learned = {}
    if known.user:
        home = home or VISITOR + known.user
        learned[known.user] = f"{home}|{found.proven or ''}"
    if known.anonymous:
        if known.user:
            learned[known.anonymous] = f"{VISITOR}{known.user}|"
        elif home and home != VISITOR + known.anonymous:
            learned[known.anonymous] = f"{home}|{found.person or ''}"
    return learned


def _new_home(found: _Finding, held: str | None) -> str:
    account, claims = found.account, found.observation.claims
    settled = held if held and not is_visitor(held) else ""
    if found.observation.kind == "activity":
        # Where an event happened moves nobody; an e-mail tells at least where somebody new belongs.
        settles = found.known.email and not (found.known.group or _is_stated(claims))
        return settled or (account if settles or is_visitor(account) else held or "")
    if settled and is_provisional(account) and not is_provisional(settled):
        return settled
    return account


def _promoted(found: _Finding, changed: Mapping[str, str]) -> dict[str, str]:
    """Who was parked, and is led to by a link that now leads to an account, is of that account too."""
    promoted = {}
    for key, link in changed.items():
        visitor, home = account_of(found.links.get(key, "")), account_of(link)
        root = key_of(visitor)
        is_led = is_visitor(visitor) and root != key and account_of(found.links.get(root, "")) == visitor
        if is_led and root not in changed and home and not is_visitor(home):
            promoted[root] = f"{home}|{person_of(found.links[root])}"
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
            account = VISITOR + key if not before else ""  # a device of no account is known by having no link
        elif key.startswith(("user:", "contact:", "opp:", "email:")):
            account = before if before == VISITOR + key else ""
        else:
            account = key if not before else ""  # a CRM's record
        if account and (into := follow(account, after)) != account:
            yield Merged(account, into, person=_renamed(account, found, after))


def _renamed(visitor: str, found: _Finding, after: Links) -> tuple[str, str] | None:
    """As whom the visitor was counted, and who it is."""
    if not is_visitor(visitor) or visitor.startswith((f"{VISITOR}opp:", f"{VISITOR}email:")):
        return None
    key = key_of(visitor)
    counted = _counted_as(key, found)
    person = _person_behind(key, after) or (found.person if key in set(found.known.keys()) else None)
    return (counted, person) if counted and person and person != counted else None


def _counted_as(key: str, found: _Finding) -> str | None:
    """A contact's stranger is the hash of its id, which its key has in clear."""
    return found.known.stranger if key.startswith("contact:") else _hash_of(key)


def _same(found: _Finding, after: Links) -> Iterator[SamePerson]:
    """Who was counted as a stranger at an account, and is known by e-mail from now on."""
    known, links, proven = found.known, found.links, found.proven
    if proven is None:
        return
    for key in (known.contact, known.user, known.anonymous):
        if key is None or (link := links.get(key)) is None:
            continue
        counted, account = _counted_as(key, found), _linked(key, links)
        if not account or is_visitor(account) or counted is None or proven == counted:
            continue
        if person_of(link) in ("", counted) and not is_visitor(account_of(link)):
            yield SamePerson(account, counted, proven)


def _merged(observation: Observation, known: _Known, links: Links) -> Resolved | Unattributed:
    """A CRM made one record of several: companies are merged, contacts are one person."""
    if known.crm:
        account = follow(known.crm, links)
        others = [each for each in observation.merged if follow(each, links) != account]
        learned = dict.fromkeys(others, f"{account}|")
        merged = tuple(Merged(follow(each, links), account, by_crm=True) for each in others)
        learned |= {key_of(each.account): f"{account}|" for each in merged}
        return Resolved(account, None, learned, merged=merged)
    if known.contact and (link := links.get(known.contact)):
        account, person = follow(account_of(link), links), person_of(link)
        same, learned = [], {}
        for each in observation.merged:
            other = links.get(f"contact:{each}")
            learned[f"contact:{each}"] = link
            if other and person_of(other) and person and person_of(other) != person:
                learned[f"email:{person_of(other)}"] = link
                same.append(SamePerson(follow(account_of(other), links), person_of(other), person))
        learned = {key: new for key, new in learned.items() if links.get(key) != new}
        return Resolved(account, person or None, learned, same=tuple(each for each in same if each.account))
    return Unattributed(Nobody.UNKNOWN_CONTACT if known.contact else Nobody.NO_IDENTITY)
