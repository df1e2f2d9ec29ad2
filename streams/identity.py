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
MAX_CACHED_KEYS = 65_536


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


class _Known(msgspec.Struct, gc=False):
    """A message's claims as link keys; None where nothing is claimed."""

    contact: str | None
    opportunity: str | None
    group: str | None
    user: str | None
    anonymous: str | None
    email: str | None
    mail: str | NoCompany | None  # the e-mail's domain
    site: str | NoCompany | None  # the website's domain

    def keys(self) -> list[str]:
        found = (self.contact, self.opportunity, self.group, self.user, self.anonymous, self.email)
        return [key for key in (*found, domain_key(self.mail), domain_key(self.site)) if key]


def domain_key(domain: str | NoCompany | None) -> str | None:
    return None if domain is None or isinstance(domain, NoCompany) else f"domain:{domain}"


class Resolver:
    """`secret` keys the hashes of persons: another secret, and everybody is a stranger."""

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("the identity secret is empty")
        self._secret = secret if len(secret) <= blake2b.MAX_KEY_SIZE else blake2b(secret).digest()
        self._hashed = lru_cache(maxsize=MAX_CACHED_KEYS)(self._hash)

    def link_keys(self, claims: Claims) -> list[str]:
        """The links that `resolve` will look at."""
        return self._known(claims).keys()

    def resolve(self, observation: Observation, links: Links) -> Resolved | Unattributed:
        claims = observation.claims
        known = self._known(claims)
        person = self._person(claims, known, links)
        account = _account(observation, known, links)
        learned = _lessons(observation, known, links, account or "", person or "")
        if account is None:
            return Unattributed(_why(known), learned)
        return Resolved(account, person, learned, _left(observation, known, links, account))

    def _known(self, claims: Claims) -> _Known:
        email = tidy_email(claims.email)
        return _Known(
            contact=f"contact:{claims.contact}" if claims.contact else None,
            opportunity=f"opp:{claims.opportunity}" if claims.opportunity else None,
            group=f"group:{claims.group}" if claims.group else None,
            user=self._hashed("user", claims.user) if claims.user else None,
            anonymous=self._hashed("anon", claims.anonymous) if claims.anonymous else None,
            email=self._hashed("email", email) if email else None,
            mail=mail_domain(email) if email else None,
            site=site_domain(claims.domain) if claims.domain else None,
        )

    def _person(self, claims: Claims, known: _Known, links: Links) -> str | None:
        """12 characters: of the e-mail if there is one, else as linked, else of the id itself."""
        if claims.person or known.email:
            return claims.person or _hash_of(known.email)
        for key in (known.contact, known.user, known.anonymous):
            if key and (linked := links.get(key, "").rpartition("|")[2]):
                return linked
        if known.contact:
            return _hash_of(self._hashed("contact", known.contact))
        return _hash_of(known.user or known.anonymous)

    def _hash(self, kind: str, text: str) -> str:
        digest = blake2b(f"{kind}:{text}".encode(errors="replace"), key=self._secret, digest_size=9).digest()
        return f"{kind}:{urlsafe_b64encode(digest).decode()}"


def _hash_of(key: str | None) -> str | None:
    return key.partition(":")[2] if key else None


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
        return _linked(known.group, links) or _linked(domain_key(known.site), links) or known.group
    return _home(observation.kind, known, links)


def _home(kind: str, known: _Known, links: Links) -> str | None:
    """The first of the person's accounts that is no provisional one, else the first."""
    by_id = (known.user, known.anonymous)
    by_mail = (known.email, domain_key(known.mail))
    # An identify call states the e-mail; on other calls it may be an old one.
    keys = (*by_mail, *by_id) if kind == "contact" else (*by_id, *by_mail)
    domains = (domain_key(known.mail), domain_key(known.site))
    found = [account for key in (*keys, domains[1]) if (account := _linked(key, links))]
    firm = next((account for account in found if not is_provisional(account)), None)
    return firm or next(iter(found), None) or domains[0] or domains[1]


def _why(known: _Known) -> str:
    if isinstance(known.mail, NoCompany):
        return Nobody(known.mail.value)
    if isinstance(known.site, NoCompany):
        return Nobody(known.site.value)
    for key, reason in (
        (known.opportunity, Nobody.UNKNOWN_OPPORTUNITY),
        (known.contact, Nobody.UNKNOWN_CONTACT),
        (known.user, Nobody.UNKNOWN_USER),
        (known.anonymous, Nobody.ANONYMOUS),
    ):
        if key:
            return reason
    return Nobody.NO_IDENTITY


def _lessons(
    observation: Observation, known: _Known, links: Links, account: str, person: str
) -> dict[str, str]:
    """The links that are new or different now."""
    learned: dict[str, str] = {}
    if observation.kind in ("facts", "restore"):
        _learn_company(known, links, account, learned)
    if known.contact or known.opportunity:
        _learn_records(observation, known, links, account, person, learned)
    if known.user or known.anonymous:
        _learn_home(observation, known, links, account, person, learned)
    return {key: link for key, link in learned.items() if links.get(key) != link}


def _learn_company(known: _Known, links: Links, account: str, learned: dict[str, str]) -> None:
    """A domain belongs to who claims it first; but a provisional account gives way."""
    for key in (known.group, domain_key(known.site)):
        if key is None or key == account:
            continue
        holder = links.get(key, "").rpartition("|")[0]
        if not holder or (is_provisional(holder) and not is_provisional(account)):
            learned[key] = f"{account}|"
        if holder != account and holder in learned.keys() | _yielding(holder, account, links):
            learned[holder] = f"{account}|"
