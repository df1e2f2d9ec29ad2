"""TLS as a client wants it: the server's certificate is one that we trust, made out to the host that we asked."""

from __future__ import annotations

import ssl


def client_context(named: str, ca: str, cert: str, key: str) -> ssl.SSLContext:
    """For connections to servers. `ca`, `cert` and `key` are PEM files, "" for none: without `ca` the system's
    authorities are trusted, `cert` and `key` are what we show ourselves.

    `named` begins the names of the settings that these come from (`ISOTHERM_KAFKA`). Raises ValueError, which says
    which of them cannot be used and why.
    """
    try:
        made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca or None)
    except OSError as error:
        raise ValueError(f"{named}_CA: {ca} holds no certificates that can be read: {_why(error)}") from None
    made.check_hostname = True  # said outright: whoever makes contexts elsewhere may have other defaults
    made.verify_mode = ssl.CERT_REQUIRED
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert:
        try:
            made.load_cert_chain(cert, key or None, _no_password)
        except (OSError, _Encrypted) as error:
            files = f"{cert} and {key}" if key else cert
            raise ValueError(
                f"{named}_CERT, {named}_KEY: {files} hold no certificate with its key: {_why(error)}"
            ) from None
    return made


class _Encrypted(Exception):
    """The key is encrypted."""


def _no_password() -> str:
    """OpenSSL would ask whoever sits at the terminal."""
    raise _Encrypted("the key is encrypted, and there is no setting for its password")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
