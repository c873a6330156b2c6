"""Whom a central is believed to be, and why one could not be talked to."""

from __future__ import annotations

import ssl

from vini.bus import frames
from vini.model import Denied, ViniError


def closed(code: int | None, reason: str | None) -> ViniError:
    """What it means that the central closed the connection so."""
    if code == frames.DISPLACED:
        return Denied("another connection took this node's place: does a second machine use a copy of its identity?")
    if code == frames.REFUSED:
        return Denied(f"the central closed the connection: {reason}")
    return ViniError(f"the central closed the connection: {reason}" if reason else "the central hung up.")


def trusting(ca: str) -> ssl.SSLContext:
    """Believes those whose certificate is of this authority, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca)
    return context


def unreachable(error: BaseException) -> str:
    """Why a central could not be talked to, as a sentence with a next step."""
    match error:
        case ssl.SSLCertVerificationError(verify_code=9):
            return "its certificate is not valid yet by this machine's clock; set the clock (`timedatectl`)."
        case ssl.SSLCertVerificationError(verify_code=10):
            return "its certificate has expired, by this machine's clock; compare the clocks of both (`timedatectl`)."
        case ssl.SSLCertVerificationError(verify_code=18 | 19 | 20 | 21):
            return "it is not the central that this machine joined: its certificate is of another authority."
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not for this name: {error.verify_message.rstrip('.')}; on the central, "
                "`vini central rename NAME...` has it made for others."
            )
        case ssl.SSLError():
            return f"what answers there does not speak TLS as a central does ({error.reason or error})."
        case TimeoutError():
            return "it does not answer; check the address, and that no firewall is in between."
        case ConnectionRefusedError():
            return "nobody listens there; is the central running (`vini central run`), and is the port right?"
        case OSError():
            return f"there is no way to it ({error.strerror or error}); check the address and this machine's network."
        case _:
            return f"the connection broke ({error or type(error).__name__})."
