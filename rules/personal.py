"""Names that say of a value that it is about a private person, and so may not enter the log.

Names are compared in snake_case, so that `createdAt`, `Created At` and `created_at` are one.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SEAM = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_GAP = re.compile(r"[\W_]+")

# Compared without underscores, so that first_name, firstName and firstname are one.
PERSONAL = frozenset({
    "avatar", "birthdate", "birthday", "contactname", "customername", "dateofbirth", "displayname", "dob",
    "familyname", "fax", "faxnumber", "fname", "forename", "gender", "givenname", "ip", "ipaddress",
    "leadname", "lname", "mail", "middlename", "mobile", "mobilenumber", "nickname", "personname", "photo",
    "postaladdress", "signature", "ssn", "street", "streetaddress", "surname", "tel", "telephone",
    "telephonenumber", "telnumber", "username", "whatsapp", "yourname",
})  # fmt: skip
PERSONAL_ENDINGS = (
    "email", "emailaddress", "emails", "firstname", "fullname", "lastname", "mobilephone", "phone",
    "phonenumber", "phones",
)  # fmt: skip


@lru_cache(maxsize=8192)
def snake(text: str) -> str:
    """`Demo Requested`, `demoRequested` and `demo-requested` are `demo_requested`; "" if nothing is left."""
    return _GAP.sub("_", _SEAM.sub("_", text)).strip("_").lower()


@lru_cache(maxsize=8192)
def is_personal(name: str) -> bool:
    """Whether a snake_case name says that the value is about a private person."""
    bare = name.replace("_", "")
    return bare in PERSONAL or bare.endswith(PERSONAL_ENDINGS)
