"""Which account a message belongs to, and which person.

A message claims identities; what earlier messages taught about them are *links*, a map from link
key to `account|person` (either may be empty). The resolver is pure: the caller loads the links,
asks, and stores what was `learned`:

    links = load(keys of all observations by resolver.link_keys)
    links |= load(further_keys(links.values()))
    for observation in batch:
        links.update(resolver.resolve(observation, links).learned)

**Keys.** Companies stand in clear (`domain:acme.example`, `group:acme`), as do the CRM's record
ids (`contact:`, `opp:`). Persons are keyed hashes (`email:`, `user:`, `anon:`): what is stored
cannot be turned back into an address without the secret.

**Provisional accounts.** Where no CRM account is known, the company's domain or the group stands
for it, and the account's id is the link key itself: `domain:acme.example`. Once a CRM account is
known, the link of that key says so; a link that leads to a provisional account is followed that
one step. So `learned` with such a key is at the same time the news that two accounts are one.

**Home.** A user has one account, that of the newest `identify` or `group` call; a CRM account does
not give way to a provisional one. What an event names as its own group counts for that event only.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from streams.adapters.base import Claims, Observation
from streams.domains import NoCompany, mail_domain, site_domain, tidy_email

Links: TypeAlias = Mapping[str, str]
PROVISIONAL = ("domain:", "group:", "visitor:")
MAX_CACHED = 16_384


class Nobody(StrEnum):
    """Why a message belongs to no account."""

    ANONYMOUS = "anonymous"
    UNKNOWN_USER = "unknown_user"
    UNKNOWN_CONTACT = "unknown_contact"
    UNKNOWN_OPPORTUNITY = "unknown_opportunity"
    FREE_MAIL = "free_mail"
    DISPOSABLE_MAIL = "disposable_mail"
    BAD_DOMAIN = "bad_domain"
    NO_IDENTITY = "no_identity"


class Resolved(msgspec.Struct, frozen=True, gc=False):
    account: str
    person: str | None = None
    learned: dict[str, str] = msgspec.field(default_factory=dict)
    left: str | None = None  # contact: the account the person belonged to until now


class Unattributed(msgspec.Struct, frozen=True, gc=False):
    """Of no account, yet. Something may have been learned all the same."""

    reason: str  # a `Nobody`, for counting
    learned: dict[str, str] = msgspec.field(default_factory=dict)


def is_provisional(account: str) -> bool:
    return account.startswith(PROVISIONAL)


def further_keys(links: Iterable[str]) -> list[str]:
    """What to load next: the keys of provisional accounts that loaded links lead to."""
    accounts = {link.rpartition("|")[0] for link in links}
    return sorted(account for account in accounts if is_provisional(account))


class _Known(msgspec.Struct, frozen=True, gc=False):
    """A message's claims as link keys; None where nothing is claimed."""

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
            self.contact, self.opportunity, self.group, self.user,
            self.anonymous, self.email, self.mail, self.site,
        )  # fmt: skip
        return [key for key in found if key]


class Resolver:
    """`secret` keys the hashes of persons: another secret, and everybody is a stranger."""

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("the identity secret is empty")
        self._secret = secret if len(secret) <= blake2b.MAX_KEY_SIZE else blake2b(secret).digest()
        # One visitor sends many messages, and each is asked for twice: its keys, then its account.
        self._known = lru_cache(maxsize=MAX_CACHED)(self._look_at)

    def link_keys(self, claims: Claims) -> list[str]:
        """The links that `resolve` will look at."""
        return self._known(claims).keys()

    def resolve(self, observation: Observation, links: Links) -> Resolved | Unattributed:
        """`links` holds what is stored under `link_keys` and `further_keys`; more is not looked at."""
        claims = observation.claims
        known = self._known(claims)
        proven = _proven_person(claims, known, links)
        person = proven or known.stranger
        account = _account(observation, known, links)
        learned = _lessons(_Finding(observation, known, links, account, person, proven))
        if account is None:
            return Unattributed(_why(known), learned)
        return Resolved(account, person, learned, _left(observation, known, links, account))

    def _look_at(self, claims: Claims) -> _Known:
        email = tidy_email(claims.email)
        mail = mail_domain(email) if email else None
        site = site_domain(claims.domain) if claims.domain else None
        user = self._hash("user", claims.user)
        anonymous = self._hash("anon", claims.anonymous)
        return _Known(
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


def _hash_of(key: str | None) -> str | None:
    return key.partition(":")[2] if key else None


def _domain_key(domain: str | NoCompany | None) -> str | None:
    return f"domain:{domain}" if type(domain) is str else None


def _proven_person(claims: Claims, known: _Known, links: Links) -> str | None:
    """The hash of the e-mail, which the message has or an earlier one had."""
    if claims.person or known.email:
        return claims.person or _hash_of(known.email)
    # Of the strongest id alone: who signs in on a shared device is not its earlier user.
    key = known.contact or known.user or known.anonymous
    return (links.get(key, "").rpartition("|")[2] or None) if key else None


def _linked(key: str | None, links: Links) -> str | None:
    """The account behind a link, one step further when that is provisional."""
    if key is None or not (account := links.get(key, "").rpartition("|")[0]):
        return None
    if is_provisional(account) and account != key:
        return links.get(account, "").rpartition("|")[0] or account
    return account


def _account(observation: Observation, known: _Known, links: Links) -> str | None:
    claims = observation.claims
    if claims.account or claims.crm:
        return claims.account or claims.crm
    if known.contact or known.opportunity:
        found = _linked(known.contact, links) or _linked(known.opportunity, links)
        if found:
            return found
    if known.group:
        return _linked(known.group, links) or _linked(known.site, links) or known.group
    return _home(observation.kind, known, links)


def _home(kind: str, known: _Known, links: Links) -> str | None:
    """The first of the person's accounts that is no provisional one, else the first.

    An identify call states the e-mail, which goes first; on other calls it may be an old one.
    """
    if kind == "contact":
        keys = (known.email, known.mail, known.user, known.anonymous, known.site)
    else:
        keys = (known.user, known.anonymous, known.email, known.mail, known.site)
    first = None
    for key in keys:
        if account := _linked(key, links):
            if not is_provisional(account):
                return account
            if not (kind == "contact" and known.mail and account.startswith("domain:")):
                first = first or account  # else an earlier e-mail's company, which the new one replaces
    return first or known.mail or known.site


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


def _left(observation: Observation, known: _Known, links: Links, account: str) -> str | None:
    if known.contact is None or not _is_stated(observation.claims):
        return None
    before = links.get(known.contact, "").rpartition("|")[0]
    return before if before != account and before else None


def _is_stated(claims: Claims) -> bool:
    return bool(claims.account or claims.crm)


class _Finding(msgspec.Struct, gc=False):
    """What was found out about an observation: all that lessons are drawn from."""

    observation: Observation
    known: _Known
    links: Links
    account: str | None
    person: str | None
    proven: str | None  # the person, if known by e-mail


def _lessons(found: _Finding) -> dict[str, str]:
    """The links that are new or different now."""
    known = found.known
    learned: dict[str, str] = {}
    if found.observation.kind in ("facts", "restore"):
        learned |= _company_lessons(known, found.links, found.account)
    if known.opportunity and _is_stated(found.observation.claims):
        learned[known.opportunity] = f"{found.account}|"
    if known.contact:
        learned |= _contact_lessons(found, known.contact)
    if known.user or known.anonymous:
        learned |= _home_lessons(found)
    changed = {key: link for key, link in learned.items() if found.links.get(key) != link}
    return changed | _moved_mail(found, changed)


def _company_lessons(known: _Known, links: Links, account: str | None) -> dict[str, str]:
    """A domain or group belongs to who claims it first; a provisional account gives way."""
    learned = {}
    for key in (known.group, known.site):
        if key is None or account is None or key == account:
            continue
        holder = _linked(key, links)
        if holder is None or (is_provisional(holder) and not is_provisional(account)):
            learned[key] = f"{account}|"
            if holder:
                learned[holder] = f"{account}|"
    return learned


def _contact_lessons(found: _Finding, contact: str) -> dict[str, str]:
    """The contact's account, also by e-mail: a CRM contact may write from a free-mail address."""
    person = found.proven or ""
    if found.observation.gone:
        return {contact: f"|{person}"}
    if not _is_stated(found.observation.claims):
        return {contact: f"{found.links.get(contact, '').rpartition('|')[0]}|{person}"} if person else {}
    link = f"{found.account}|{person}"
    return {contact: link, found.known.email: link} if found.known.email else {contact: link}


def _moved_mail(found: _Finding, changed: dict[str, str]) -> dict[str, str]:
    """A contact changes accounts in a message without e-mail: the address moves along."""
    link = changed.get(found.known.contact or "")
    if link is None or found.proven is None or found.known.email or found.observation.gone:
        return {}
    return {f"email:{found.proven}": link}


def _home_lessons(found: _Finding) -> dict[str, str]:
    """A device takes on the home of the user who is signed in."""
    known, links = found.known, found.links
    held = _linked(known.user or known.anonymous, links)
    home = _new_home(found, held)
    learned = {}
    if known.user and (home or found.proven):
        learned[known.user] = f"{home}|{found.proven or ''}"
    if known.anonymous and (home or found.proven):
        learned[known.anonymous] = f"{home}|{found.person or ''}"
    return learned


def _new_home(found: _Finding, held: str | None) -> str:
    account, claims = found.account or "", found.observation.claims
    if found.observation.kind == "activity":
        # Where an event happened moves nobody; an e-mail tells at least where somebody new belongs.
        settles = found.known.email and not (found.known.group or _is_stated(claims))
        return held or (account if settles else "")
    if held and (not account or (is_provisional(account) and not is_provisional(held))):
        return held
    return account
