"""A training over TLS with a token, and what the user is told when one of the two is wrong."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trainer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from serving import Server, server_binary

import autolrs.torch as autolrs

STEPS = 60
NAME = "localhost"


class Authority:
    """Signs certificates."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
        own = self._builder(self._name, self._key, days=1).add_extension(x509.BasicConstraints(True, None), True)
        path.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def sign(self, cert: Path, key: Path, *, days: int = 1) -> None:
        """Writes a certificate for `localhost` that is valid for so many days; below 0 it was."""
        private = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(NAME)])
        builder = self._builder(x509.Name([]), private, days).add_extension(names, True)
        cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, plain))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.utcnow()
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(days=9)).not_valid_after(
            now + datetime.timedelta(days=days)
        )


@dataclass
class Secured:
    """A server with TLS and tokens, and what a client needs for it."""

    address: str
    port: int
    ca: Path
    read: str
    write: str

    def train(self, **options: object) -> autolrs.Schedule:
        """Trains a job to its end."""
        model, optimizer = trainer.make()
        settings = {
            "server": self.address,
            "token": self.write,
            "ca": self.ca,
            "job": "toy",
            "policy": "wsd",
            **options,
        }
        with autolrs.Schedule(optimizer, model, STEPS, connect_timeout=20.0, **settings) as schedule:  # type: ignore[arg-type]
            for batch in schedule.steps(trainer.batches):
                schedule.step(trainer.train_step(model, optimizer, batch))
        return schedule


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    yield from serve(tmp_path, days=1)


@pytest.fixture
def expired(tmp_path: Path) -> Iterator[Secured]:
    yield from serve(tmp_path, days=-1)


def serve(folder: Path, days: int) -> Iterator[Secured]:
    authority = Authority(folder / "ours.pem")
    cert, key, tokens = folder / "tls.crt", folder / "tls.key", folder / "tokens.json"
    authority.sign(cert, key, days=days)
    read, write = (token(tokens, role) for role in ("read", "write"))
    running = Server(folder)
    running.start("--tls-cert", cert, "--tls-key", key, "--tokens", tokens)
    yield Secured(f"https://{NAME}:{running.port}", running.port, authority.path, read, write)
    running.kill()
    for secret in (read, write):
        assert secret.rpartition("_")[2] not in running.log()


def token(path: Path, role: str) -> str:
    create = [str(server_binary()), "token", "create", "--tokens", str(path), "--tenant", "a", "--role", role]
    return subprocess.run(create, check=True, capture_output=True, text=True).stdout.strip()


def test_trains_over_tls_with_a_token(secured: Secured) -> None:
    schedule = secured.train()
    assert schedule.done_reason == "finished"
    assert schedule.total_step == STEPS


def test_the_environment_says_the_same(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLRS_SERVER", secured.address)
    monkeypatch.setenv("AUTOLRS_TOKEN", secured.write)
    monkeypatch.setenv("AUTOLRS_CA", str(secured.ca))
    assert secured.train(server=None, token=None, ca=None).done_reason == "finished"


def test_another_authority_has_signed_it(secured: Secured, tmp_path: Path) -> None:
    other = Authority(tmp_path / "theirs.pem")
    with pytest.raises(autolrs.ServerUnavailable, match="authority that is not trusted here.*AUTOLRS_CA"):
        secured.train(ca=other.path)


def test_another_name_than_the_certificates(secured: Secured) -> None:
    address = ipaddress.ip_address("127.0.0.1")
    with pytest.raises(autolrs.ServerUnavailable, match="its certificate is for.*localhost.*127.0.0.1"):
        secured.train(server=f"https://{address}:{secured.port}")


def test_an_expired_certificate(expired: Secured) -> None:
    with pytest.raises(autolrs.ServerUnavailable, match="its certificate has expired"):
        expired.train()


def test_tokens_that_may_not_train(secured: Secured, tmp_path: Path) -> None:
    with pytest.raises(autolrs.Unauthenticated, match="has no token.*AUTOLRS_TOKEN"):
        secured.train(token=None)
    unknown = token(tmp_path / "other.json", "write")
    with pytest.raises(autolrs.Unauthenticated, match="none of this server's") as error:
        secured.train(token=unknown)
    assert unknown not in str(error.value)
    with pytest.raises(autolrs.PermissionDenied, match="needs a token with the role write; this one has the role read"):
        secured.train(token=secured.read)


def test_a_token_is_not_sent_in_the_clear(secured: Secured) -> None:
    with pytest.raises(autolrs.Error, match="a token is not sent over http://10.0.0.1:7461"):
        secured.train(server="http://10.0.0.1:7461")
