"""Certificates and kubeconfigs: one certificate authority per cluster.

What Kubernetes expects in a certificate's subject is on
https://kubernetes.io/docs/setup/best-practices/certificates/ : the organisation
is the group, the common name the user.
"""

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.paths import write_atomically

_VALID_DAYS = 365


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _name(user: str, groups: Sequence[str]) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        + [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Pki:
    """The certificates of one cluster in one folder; what is there already is kept.

    Files: ``ca.crt``, ``ca.key``, ``service-accounts.{key,pub}`` and a pair per component.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The certificate goes last: a folder with ca.crt is whole, whatever was killed when.
        if not self.ca.exists():
            self._make_authority()

    @property
    def ca(self) -> Path:
        """Certificate of the authority."""
        return self.folder / "ca.crt"

    def certificate(self, name: str) -> Path:
        """Return the path of the certificate that ``issue(name, …)`` makes."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the path of the private key that ``issue(name, …)`` makes."""
        return self.folder / f"{name}.key"

    def _write_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomically(self.key(name), _pem_of_key(key), mode=0o600)
        return key

    def _make_authority(self) -> None:
        accounts = self._write_key("service-accounts").public_key()
        public = accounts.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_atomically(self.folder / "service-accounts.pub", public.decode())
        key = self._write_key("ca")
        name = _name("devcluster", [])
        builder = self._builder(name, key.public_key()).issuer_name(name)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        signed = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        write_atomically(self.ca, signed.public_bytes(serialization.Encoding.PEM).decode())

    @staticmethod
    def _builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            # A clock that is set back a little must not make a new certificate invalid.
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        )

    def issue(
        self, name: str, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()
    ) -> None:
        """Make ``<name>.crt`` and ``<name>.key`` for a user or server, unless they are there."""
        if self.certificate(name).exists():
            return
        authority = x509.load_pem_x509_certificate(self.ca.read_bytes())
        signer = serialization.load_pem_private_key(self.key("ca").read_bytes(), None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise DevClusterError(f"{self.key('ca')} is not an authority's key of ours")
        key = self._write_key(name)
        builder = (
            self._builder(_name(user, groups), key.public_key())
            .issuer_name(authority.subject)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        signed = builder.sign(signer, hashes.SHA256())
        pem = signed.public_bytes(serialization.Encoding.PEM).decode()
        write_atomically(self.certificate(name), pem)

    def kubeconfig(self, name: str, server: str, path: Path, *, embed: bool = False) -> Path:
        """Write a kubeconfig for the certificate ``name``; embedded ones can be copied away."""
        files = {
            "certificate-authority": self.ca,
            "client-certificate": self.certificate(name),
            "client-key": self.key(name),
        }
        fields = {key: str(file) for key, file in files.items()}
        if embed:
            fields = {f"{key}-data": _base64(file) for key, file in files.items()}
        ending = "-data" if embed else ""
        cluster = {
            "server": server,
            f"certificate-authority{ending}": fields[f"certificate-authority{ending}"],
        }
        user = {key: value for key, value in fields.items() if key.startswith("client")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "devcluster", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [
                {"name": "devcluster", "context": {"cluster": "devcluster", "user": name}}
            ],
            "current-context": "devcluster",
        }
        # JSON is YAML.
        write_atomically(path, json.dumps(config, indent=2), mode=0o600)
        return path


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
