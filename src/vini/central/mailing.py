"""Sends one mail, through the server that the operator named; and says in a sentence why that failed."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate

from vini.model import ViniError
from vini.rules import notices as rules
from vini.rules.nouns import Event

_TIMEOUT_S = 10.0  # for each answer of the server


class Unsent(ViniError):
    """It could not be delivered, and why; `alone`: another might be, by the same way; `for_good`: this never will."""

    def __init__(self, why: str, alone: bool = False, for_good: bool = False):
        super().__init__(why)
        self.alone, self.for_good = alone, for_good


def send(mail: rules.Mail, to: str, event: Event, url: str) -> None:
    """Raises Unsent."""
    at = f"{mail.server}:{mail.port}"
    try:
        message = _message(mail, to, event, url)
    except (ValueError, IndexError, MessageError) as e:  # email's ways to say what is no address
        raise Unsent(f"No mail can be made for {to!r} ({e or type(e).__name__}).", alone=True, for_good=True) from e
    try:
        with _connected(mail) as server:
            _hand_over(server, message, to)
    except OSError as e:  # also smtplib.SMTPException
        raise Unsent(f"The mail server {at} {_why(mail, e)}", *_kind(e)) from e
    except ValueError as e:  # a name that no server can have, or a password beyond ASCII
        raise Unsent(f"The mail server {at} can't be asked so ({e}); see its name, the user and the password.") from e


def _hand_over(server: smtplib.SMTP, message: EmailMessage, to: str) -> None:
    try:
        server.send_message(message, to_addrs=[to])
    except (ValueError, IndexError, MessageError) as e:  # it can't be written down; that may be a mistake of ours
        raise Unsent(f"The mail for {to!r} can't be sent ({e or type(e).__name__}).", alone=True) from e


@contextmanager
def _connected(mail: rules.Mail) -> Iterator[smtplib.SMTP]:
    """Let in, where it asks for that.  What it took is taken, however it says good-bye."""
    context = ssl.create_default_context()
    if mail.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(mail.server, mail.port, timeout=_TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(mail.server, mail.port, timeout=_TIMEOUT_S)
    try:
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user:
            server.login(mail.user, mail.password)
        yield server
        with suppress(OSError):
            server.quit()
    finally:
        server.close()


def _message(mail: rules.Mail, to: str, event: Event, url: str) -> EmailMessage:
    made = EmailMessage()
    subject, body = rules.text(event, url)
    local, _, domain = to.rpartition("@")
    made["From"], made["To"], made["Subject"] = mail.sender, Address(username=local, domain=domain), subject
    made["Date"] = formatdate(event.at)  # it may be late, and says of the time when that happened what was true then
    which = hashlib.sha256(f"{url} {event.id} {event.at} {to}".encode()).hexdigest()[:32]
    made["Message-ID"] = f"<{which}@{mail.sender.rpartition('@')[2].rstrip('>')}>"  # the same when it is sent again
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody on holiday answers
    made.set_content(body)
    return made


def _kind(error: OSError) -> tuple[bool, bool]:
    """Whether it is this mail's own failure, and whether for good: that its address is wrong (RFC 3463, X.1.X)."""
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            return True, all(code >= 500 and said.startswith(b"5.1.") for code, said in refused.values())
        case smtplib.SMTPDataError() | smtplib.SMTPNotSupportedError():
            return True, False
        case _:
            return False, False


def _why(mail: rules.Mail, error: OSError) -> str:
    """The rest of the sentence, with a next step for who runs the central."""
    match error:
        case smtplib.SMTPAuthenticationError():
            return f"does not let {mail.user!r} in ({_said(error)}); see the user and the password."
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            told = "; ".join(f"{code} {said.decode(errors='replace')}" for code, said in refused.values())
            return f"does not take mail for {', '.join(refused)} ({told}); is the address right, and may we send there?"
        case smtplib.SMTPSenderRefused():
            return f"does not take mail from {mail.sender} ({_said(error)}); see the sender, and the user."
        case smtplib.SMTPResponseException():
            return f"refuses: {_said(error)}."
        case smtplib.SMTPNotSupportedError() if mail.security == "starttls" and "STARTTLS" in str(error):
            return (
                "does not offer STARTTLS; --security tls (port 465) encrypts from the first byte on, none not at all."
            )
        case smtplib.SMTPServerDisconnected() if mail.security != "tls":
            return f"hung up ({error}); where it speaks TLS from the first byte on, as at port 465: --security tls."
        case ssl.SSLCertVerificationError():
            return (
                f"shows a certificate that this machine does not believe ({error.verify_message.rstrip('.')}); name "
                "it as the certificate does, and let this machine know the authority (`update-ca-certificates`)."
            )
        case ssl.SSLError():
            return f"does not speak TLS as asked ({error.reason or error}); see the port, and --security."
        case TimeoutError():
            return f"does not answer within {_TIMEOUT_S:.0f} s; see its name and port, and --security."
        case smtplib.SMTPException():
            return f"could not be talked to: {str(error).rstrip('.')}."
        case _:
            return f"can't be reached ({error.strerror or error}); see its name and port, and that it runs."


def _said(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error
    return f"{error.smtp_code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
