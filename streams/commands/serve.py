"""The HTTP API and its page."""

from __future__ import annotations

from typing import Literal

from streams.terminal import NO, err, fail, out, read_settings


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    admit: str | None = None,
    role: Literal["reader", "operator", "admin"] = "reader",
    log_level: str = "INFO",
) -> None:
    """Show where accounts stand, who is in a segment, and what changes: as a page, and as an HTTP API.

    HOST and PORT come before ISOTHERM_API_HOST and ISOTHERM_API_PORT. With ADMIT nothing is served: a token of
    that name and ROLE is printed, once, and the line for the file that ISOTHERM_API_TOKENS names.

    Example: isotherm serve --admit dashboard --role reader
    """
    if admit is not None:
        print_token(admit, role)
        return
    from streams.api.run import serve as answer
    from streams.preflight import SettingsError

    given = {"api_host": host, "api_port": port}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    try:
        answer(settings, log_level)
    except SettingsError as error:
        fail(str(error), NO)


def print_token(name: str, role: str) -> None:
    """The line for the file goes to standard output; the token does not, so that it never ends in the file."""
    from streams.api.rights import new_token

    if not (name.isprintable() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()):
        fail(f"{name!r} is no name: letters, digits, '.', '_' and '-'", 2)
    token, digest = new_token()
    err.print(f"the token, which nobody can show you again: {token}", markup=False)
    out.print(f'- {{name: "{name}", sha256: "{digest}", role: {role}}}', markup=False)
