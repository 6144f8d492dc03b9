"""Credentials for buckets that nobody wrote down: of a role for which a token stands, a container's, an instance's.

As the SDKs of AWS find them, in the order of the base containers' installer (docs/bundles.md). They end some time, so
the client of buckets asks again for new ones. obstore knows these ways too, but ends the program where a metadata
service answers something unexpected.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from boxwright.errors import FetchError

METADATA = "http://169.254.169.254"
CONTAINER = "http://169.254.170.2"
PATIENCE = 1.0
"""Seconds for which a metadata service is waited for: elsewhere than on an instance nobody answers there."""
ANSWER_SECONDS = 10.0
MOST = 1 << 16
_ROLE = re.compile(r"[\w+=,.@/-]{1,300}\Z")
Give = Callable[[], dict[str, Any]]
"""Gives credentials as obstore takes them. Raises FetchError `repository.credentials`."""


class Found(NamedTuple):
    """What gives credentials, and the instance's region (empty: not known)."""

    give: Give
    region: str = ""


class _NoRedirections(urllib.request.HTTPRedirectHandler):
    """Credentials are where they are said to be."""

    def redirect_request(self, *_: Any) -> None:  # noqa: ANN401 - of no interest
        """None of them is followed."""


def find_credentials(environment: Mapping[str, str]) -> Found | None:
    """What this machine gives its programs; None where it gives nothing."""
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return Found(partial(_of_role, environment))
    if environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or environment.get(
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
    ):
        return Found(partial(_of_container, environment))
    if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    metadata = f"{environment.get('AWS_EC2_METADATA_SERVICE_ENDPOINT') or METADATA}/latest"
    try:
        role = _roles(metadata)
        region = _metadata(metadata, "placement/region")
    except FetchError:
        return None
    return Found(partial(_of_instance, metadata), region if _ROLE.match(region) else "") if role else None


def _of_instance(metadata: str) -> dict[str, Any]:
    """IMDSv2: a token first, by which the service knows that no proxy was led to ask."""
    role = _roles(metadata)
    if not role:
        raise _none("the instance has no role any more")
    return _parsed(_metadata(metadata, f"iam/security-credentials/{role}"), "Token")


def _roles(metadata: str) -> str:
    names = _metadata(metadata, "iam/security-credentials/").splitlines()
    return names[0].strip() if names and _ROLE.match(names[0].strip()) else ""


def _metadata(metadata: str, what: str) -> str:
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    token = _asked(f"{metadata}/api/token", lifetime, method="PUT", seconds=PATIENCE)
    if not _ROLE.match(token):
        raise _none(f"{metadata} gives no token")
    return _asked(f"{metadata}/meta-data/{what}", {"X-aws-ec2-metadata-token": token}, seconds=PATIENCE)


def _of_container(environment: Mapping[str, str]) -> dict[str, Any]:
    relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
    token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    token = _read(file) if file else token
    address = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or f"{CONTAINER}{relative}"
    return _parsed(_asked(address, {"Authorization": token} if token else {}), "Token")


def _of_role(environment: Mapping[str, str]) -> dict[str, Any]:
    """AssumeRoleWithWebIdentity (AWS Security Token Service), for which no signature is needed."""
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    service = environment.get("AWS_ENDPOINT_URL_STS") or environment.get("AWS_ENDPOINT_URL")
    asked = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": environment.get("AWS_ROLE_ARN", ""),
        "RoleSessionName": environment.get("AWS_ROLE_SESSION_NAME") or "boxwright",
        "WebIdentityToken": _read(environment["AWS_WEB_IDENTITY_TOKEN_FILE"]),
    }
    answer = _asked(f"{service or f'https://sts.{region}.amazonaws.com'}/", {}, urllib.parse.urlencode(asked).encode())
    return _parsed(json.dumps(dict(re.findall(r"<(\w+)>([^<]*)</\1>", answer))), "SessionToken")


def _parsed(text: str, token: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        until = str(found.get("Expiration") or "")
        return {
            "access_key_id": str(found["AccessKeyId"]),
            "secret_access_key": str(found["SecretAccessKey"]),
            "token": str(found.get(token) or "") or None,
            "expires_at": datetime.fromisoformat(until) if until else None,
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _none("what this machine gives as credentials is none") from error


def _asked(
    address: str, headers: Mapping[str, str], data: bytes | None = None, *, method: str = "", seconds: float = 0
) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirections)
    try:
        request = urllib.request.Request(address, data, dict(headers), method=method or None)  # noqa: S310
        with opener.open(request, timeout=seconds or ANSWER_SECONDS) as answer:
            return str(answer.read(MOST).decode("utf-8", "replace"))
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise _none(f"{address} gives no credentials: {error}") from error


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError) as error:
        raise _none(f"{path} can't be read: {error}") from error


def _none(text: str) -> FetchError:
    hint = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say which credentials count"
    return FetchError("repository.credentials", text, hint=hint)
