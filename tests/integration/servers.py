"""Servers of a test's own on loopback: SSH, and S3 with accounts and checked signatures."""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import PROGRAM
from tests.integration.conftest import free_port, until

POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


class Ssh(NamedTuple):
    """A real sshd that can be started, again too, and the environment in which sftp knows it by its name."""

    configuration: Path
    port: int
    environment: dict[str, str]

    def start(self) -> subprocess.Popen[bytes]:
        """It answers then."""
        server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", self.configuration])
        until(lambda: listens(self.port))
        return server


def prepare_ssh(place: Path, name: str) -> Ssh:
    """Keys and configurations in a new directory; a user's own configuration calls the server `name`."""
    place.mkdir()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key], check=True)
    port = free_port()
    (place / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nAuthorizedKeysFile {place}/user.pub\n"
        "PidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    (place / "config").write_text(
        f"Host {name}\n HostName 127.0.0.1\n Port {port}\n User root\n IdentityFile {place}/user\n"
        f" UserKnownHostsFile {place}/known\n StrictHostKeyChecking accept-new\n"
    )
    (place / "bin").mkdir()
    (place / "bin/sftp").write_text(f'#!/bin/sh\nexec /usr/bin/sftp -F {place}/config "$@"\n')
    (place / "bin/sftp").chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    return Ssh(place / "sshd_config", port, {"PATH": f"{place}/bin:{os.environ['PATH']}"})


@contextmanager
def ssh_server(place: Path, name: str) -> Iterator[dict[str, str]]:
    """A running one; yields its environment."""
    prepared = prepare_ssh(place, name)
    sshd = prepared.start()
    try:
        yield prepared.environment
    finally:
        sshd.terminate()
        sshd.wait(10)


def start_s3(port: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Moto's server with an empty bucket `bucket`; it answers then."""

    def answers() -> bool:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            return False
        return True

    words: list[str | Path] = [PROGRAM.parent / ".venv/bin/moto_server", "-p", str(port)]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(words, stdout=quiet, stderr=quiet, env={**environment})
    until(answers, 30)
    return server


@contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """One with these variables; yields its address."""
    port = free_port()
    server = start_s3(port, {**os.environ, **environment})
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


class Account(NamedTuple):
    """An S3 server that checks signatures, and the environment of the one user that it knows."""

    address: str
    environment: dict[str, str]


def s3_client(environment: Mapping[str, str], service: str = "s3") -> Any:
    """A client of AWS's own library."""
    import boto3

    return boto3.client(
        service,
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


@contextmanager
def s3_account() -> Iterator[Account]:
    """Moto's server with its accounts in force: who does not sign as the user is refused."""
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="4") as address:
        anybody = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
        iam = s3_client(anybody, "iam")
        iam.create_user(UserName="user")
        iam.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=POLICY)
        made = iam.create_access_key(UserName="user")["AccessKey"]
        keys = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
        yield Account(address, {**keys, "AWS_ENDPOINT_URL": address})
