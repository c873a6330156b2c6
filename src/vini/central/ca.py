"""The central's own certificate authority: by it nodes know the central, wherever it moves.

The authority lasts ten years; the server's certificate a year, and is made anew a month before its end.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vini import durable
from vini.model import Value, ViniError

log = logging.getLogger("vini.central")
_EARLIER = timedelta(hours=1)  # clocks of machines that join may be a little behind
_AUTHORITY, _SERVER, _RENEWED = timedelta(days=3650), timedelta(days=365), timedelta(days=30)
_LAST_YEAR = timedelta(days=365)  # of the authority: its end is told of
_LOOK_S = 60.0  # between looks whether the server's certificate is to be made anew: also when the clock was set


class Served(Value, frozen=True):
    """What a TLS server is started with."""

    certificate: Path  # PEM, the server's and the authority's
    key: Path


class Authority:
    """Made when first opened; kept in a directory that only root may read."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time):
        self._directory, self._clock = directory, clock
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._at = directory / "ca.pem"
        if not self._at.exists():
            self._make()
        try:
            self._key = _read_key(directory / "ca.key")
            self._certificate = x509.load_pem_x509_certificate(self._at.read_bytes())
        except (OSError, ValueError) as e:
            raise ViniError(
                f"The central's authority in {directory} can't be read: {e}. Restore it from a backup; "
                "with a new one, every node has to join again."
            ) from e

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("VINI central")
        made = _begun(name, name, key, _moment(self._clock()), _AUTHORITY)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = made.add_extension(_usage(signs_certificates=True), critical=True)
        _write(self._directory / "ca.key", _private(key), 0o600)
        _write(self._at, made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), 0o644)

    @property
    def path(self) -> Path:
        """Of the file that holds what nodes trust."""
        return self._at

    @property
    def pem(self) -> str:
        """What nodes trust."""
        return self._certificate.public_bytes(Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal digits."""
        return fingerprint(self.pem)

    def check(self) -> str:
        """A sentence where it ends within a year, else "".  Raises ViniError where nobody would believe it, by the
        clock."""
        begins, ends = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        now = _moment(self._clock())
        another = (  # engine.seed stays: by it nats-servers know the centrals
            f"move ca.pem, ca.key, server.pem and server.key in {self._directory} away and start the central: it makes "
            "others, by which every node has to join again (`vini node reinstall` and `vini node token` here, `vini "
            "node leave` and `vini node join` there), and people log in by the new fingerprint; of several centrals "
            "end all, start one, and copy its ca.pem and ca.key over those of the others before they start"
        )
        if not begins <= now <= ends:
            more = f"; if the clock is right, {another}" if now > ends else ""
            raise ViniError(
                f"The central's authority in {self._directory} is good from {begins:%Y-%m-%d %H:%M} to "
                f"{ends:%Y-%m-%d %H:%M} UTC, and this machine's clock shows {now:%Y-%m-%d %H:%M}, so no node would "
                f"believe it; set the clock (`timedatectl`), and start the central again{more}."
            )
        if ends - now < _LAST_YEAR:
            return f"The central's authority ends on {ends:%Y-%m-%d}, and the testbed with it; before that, {another}."
        return ""

    def serve(self, names: Sequence[str]) -> Served:
        """The server's certificate for these names and addresses, made (anew) where that is needed."""
        return self.issue(self._served, names)

    def issue(
        self, served: Served, names: Sequence[str], key: ec.EllipticCurvePrivateKey | None = None, dials: bool = False,
        early: timedelta = _RENEWED,
    ) -> Served:  # fmt: skip
        """One of any server's, with this key where one is given; `dials`: it shows it also to those that it dials;
        `early`: so long before its end it is made anew."""
        if not self._is_good(served, names, key, early):
            self._issue(served, names, key, dials)
        return served

    @property
    def _served(self) -> Served:
        return Served(self._directory / "server.pem", self._directory / "server.key")

    def _is_good(
        self, served: Served, names: Sequence[str], key: ec.EllipticCurvePrivateKey | None = None,
        early: timedelta = _RENEWED,
    ) -> bool:  # fmt: skip
        try:
            certificate = x509.load_pem_x509_certificate(served.certificate.read_bytes())
            kept = _read_key(served.key).public_key()
        except (OSError, ValueError):
            return False
        same_key = certificate.public_key() == kept == (key.public_key() if key else kept)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        now = _moment(self._clock())
        begun, ends = certificate.not_valid_before_utc <= now, certificate.not_valid_after_utc - early > now
        ours = certificate.issuer == self._certificate.subject and _is_signed_by(certificate, self._certificate)
        return same_key and ours and begun and ends and list(held) == _alternatives(names)

    def _issue(self, served: Served, names: Sequence[str], key: ec.EllipticCurvePrivateKey | None, dials: bool) -> None:
        key = key or ec.generate_private_key(ec.SECP256R1())
        made = _begun(_name(names[0]), self._certificate.subject, key, _moment(self._clock()), _SERVER)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if dials else [])]
        made = made.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = made.add_extension(authority, critical=False)
        _write(served.key, _private(key), 0o600)
        text = made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM) + self.pem.encode()
        _write(served.certificate, text, 0o644)

    async def keep(
        self, context: ssl.SSLContext, names: Sequence[str], also: Callable[[bool], None] = lambda _: None
    ) -> None:
        """Have a server that runs use a new certificate in time, and tell `also` at each look whether it is a new one;
        until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            also(self.renew(context, names))

    def renew(self, context: ssl.SSLContext, names: Sequence[str]) -> bool:
        """One look: connections that begin from now on see a certificate that is good; whether it is a new one."""
        if self._is_good(self._served, names):
            return False
        try:
            served = self.serve(names)
            context.load_cert_chain(served.certificate, served.key)
        except (OSError, ViniError) as e:
            log.warning("The server's certificate can't be made anew: %s", e)
            return False
        log.info("The server's certificate was made anew.")
        return True


def fingerprint(pem: str) -> str:
    """SHA-256 of a certificate, in hexadecimal digits."""
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lasts: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs_certificates, crl_sign=signs_certificates, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    """Names and addresses as a certificate holds them (RFC 5280, 4.2.1.6)."""
    out: list[x509.GeneralName] = []
    for name in names:
        try:
            out.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            out.append(x509.DNSName(name))
    return out


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} holds no key on an elliptic curve")
    return key


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        durable.write(path, content, mode)
    except OSError as e:
        raise ViniError(f"{path} can't be written: {e.strerror}; check the disk and whose directory it is.") from e
