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


@contextmanager
def ssh_server(place: Path, name: str) -> Iterator[dict[str, str]]:
    """A real sshd, which a user's own configuration calls `name`; yields the environment in which sftp knows it."""
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
    sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", place / "sshd_config"])
    try:
        until(lambda: listens(port))
        yield {"PATH": f"{place}/bin:{os.environ['PATH']}"}
    finally:
        sshd.terminate()
        sshd.wait(10)


@contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """Moto's server with an empty bucket `bucket`; yields its address."""
    port = free_port()
    server = subprocess.Popen(
        [PROGRAM.parent / ".venv/bin/moto_server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: listens(port), 30)
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=5).close()
        yield address
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
