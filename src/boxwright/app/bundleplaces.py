"""Where bundles are uploaded to: a directory, a server over SSH, a bucket; the places of binary repositories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from boxwright.errors import UsageError

if TYPE_CHECKING:
    from boxwright.repositories.binary.place import Shelf

TIME_LIMIT = 30.0
"""After how many seconds a server that says nothing is given up."""
LONGEST = 7 * 86400
"""S3 takes no presigned address for longer (AWS Signature Version 4, X-Amz-Expires), in seconds."""


@contextmanager
def opened(address: str, environment: Mapping[str, str]) -> Iterator[Shelf]:
    """The place at ``s3://BUCKET/PREFIX``, ``ssh://[USER@]HOST[:PORT]/PATH`` or a directory. Raises `bundle.place`.

    A bucket's server is AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, its region AWS_REGION or AWS_DEFAULT_REGION.
    """
    place = _place(address, environment)
    try:
        yield place
    finally:
        place.close()


def _place(address: str, environment: Mapping[str, str]) -> Shelf:
    kind, distant, rest = address.partition("://")
    if not distant:
        from boxwright.repositories.binary.directory import DirectoryPlace

        return DirectoryPlace(address.rstrip("/") or "/")
    if kind == "ssh" and rest:
        from boxwright.repositories.binary.sftp import SftpPlace

        return SftpPlace(address, TIME_LIMIT, environment)
    if kind == "s3" and rest.strip("/"):
        from boxwright.repositories.binary.s3 import BucketPlace

        endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", "")
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", "")
        return BucketPlace(
            address, endpoint=endpoint, region=region, insecure=False, time_limit=TIME_LIMIT, environment=environment
        )
    hint = "s3://BUCKET/PREFIX, ssh://USER@HOST/PATH or a directory"
    raise UsageError("bundle.place", f"bundles can't be uploaded to {address}", hint=hint)


def check_address(address: str, environment: Mapping[str, str]) -> None:
    """Raise where no place can be at an address; nothing is asked of it yet."""
    _place(address, environment).close()


def presigned(address: str, names: list[str], seconds: int, environment: Mapping[str, str]) -> list[str]:
    """Addresses by which anybody can read these objects of a bucket for so long, at most LONGEST.

    Raises UsageError `bundle.presign`.
    """
    if not address.startswith("s3://"):
        raise UsageError("bundle.presign", f"{address}: only objects of a bucket have presigned addresses")
    from boxwright.repositories.binary.s3 import BucketPlace

    with opened(address, environment) as place:
        if not isinstance(place, BucketPlace):  # pragma: no cover - the address says so
            raise TypeError(address)
        return place.presigned(names, seconds)
