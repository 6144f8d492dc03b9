"""A bucket of any S3-compatible server, by obstore (the object_store crate): conditional puts, retries, streams.

Credentials are those that every S3 client takes: AWS_* variables, else the profile of ~/.aws/credentials, else what the
machine gives its programs (instancecredentials.py). Without any, requests are not signed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from boxwright.errors import FetchError
from boxwright.repositories.binary.place import Listed, MissingError, Upload, at_once, checked

if TYPE_CHECKING:
    from obstore.store import S3Store

PIECE = 1 << 20
_WHOLE = 8 << 20
"""Objects up to this size are put in one conditional request."""


class BucketPlace:
    """Objects of a bucket, below a prefix."""

    distant = True
    loose = False

    def __init__(
        self,
        path: str,
        *,
        endpoint: str,
        region: str,
        insecure: bool,
        time_limit: float,
        environment: Mapping[str, str],
    ) -> None:
        bucket, _, prefix = path.removeprefix("s3://").partition("/")
        self.where = f"s3://{bucket}/{prefix}".rstrip("/")
        self._prefix = prefix.strip("/")
        self._region = region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", "")
        self._options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        self._environment = environment
        self._bucket = bucket
        self._plain = insecure or endpoint.startswith("http://")
        self._time_limit = time_limit
        self._store: S3Store | None = None

    def _opened(self) -> S3Store:
        if self._store is None:
            from obstore.store import S3Store

            self._options |= self._credentials()
            self._store = S3Store(
                self._bucket,
                prefix=self._prefix or None,
                client_options={
                    "allow_http": self._plain,
                    "connect_timeout": timedelta(seconds=min(10.0, self._time_limit)),
                    "timeout": timedelta(seconds=self._time_limit * 10),
                },
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=self._time_limit)},
                region=self._region or "us-east-1",
                **self._options,
            )
        return self._store

    def _credentials(self) -> dict[str, Any]:
        """Credentials for the client; without, requests are plain. Raises FetchError `repository.credentials`."""
        given = _written_credentials(self._environment)
        if given:
            return dict(given)
        from boxwright.repositories.binary.instancecredentials import find_credentials

        found = find_credentials(self._environment)
        if found is None:
            return {"skip_signature": True}
        self._region = self._region or found.region
        found.give()  # obstore would wrap what is wrong
        return {"credential_provider": found.give}

    def read(self, name: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The object's bytes."""
        import obstore

        options: Any = None
        if size is not None:
            options = {"range": (start, start + size)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            for piece in obstore.get(self._opened(), checked(name), options=options).stream(min_chunk_size=PIECE):
                yield bytes(piece)
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            raise MissingError(self.where, name) from None
        except obstore.exceptions.BaseError as error:
            raise self._failed(name, error) from error

    def present(self, names: Collection[str]) -> set[str]:
        """Those that are there, a request for each."""
        import obstore

        def is_there(name: str) -> bool:
            try:
                obstore.head(self._opened(), checked(name))
            except (FileNotFoundError, obstore.exceptions.NotFoundError):
                return False
            except obstore.exceptions.BaseError as error:
                raise self._failed(name, error) from error
            return True

        asked = list(names)
        return {name for name, there in zip(asked, at_once(is_there, asked), strict=True) if there}

    def put(self, uploads: Sequence[Upload]) -> list[str]:
        """Put objects that are not there yet (a conditional request)."""
        made = at_once(self._put, uploads)
        return [upload.name for upload, new in zip(uploads, made, strict=True) if not new]

    def _put(self, upload: Upload) -> bool:
        import obstore

        try:
            if upload.path and os.stat(upload.path).st_size > _WHOLE:
                # In parts, which no server makes conditional: what is as large as this is named by its own digest.
                with open(upload.path, "rb") as file:
                    obstore.put(self._opened(), checked(upload.name), file)
                return True
            data = upload.data
            if upload.path:
                with open(upload.path, "rb") as file:
                    data = file.read()
            obstore.put(self._opened(), checked(upload.name), data, mode="create", use_multipart=False)
        except obstore.exceptions.AlreadyExistsError:
            return False
        except obstore.exceptions.BaseError as error:
            raise self._failed(upload.name, error) from error
        return True

    def replace(self, upload: Upload) -> None:
        """Put an object over what is there, which S3 does at once."""
        import obstore

        try:
            obstore.put(self._opened(), checked(upload.name), upload.data, use_multipart=False)
        except obstore.exceptions.BaseError as error:
            raise self._failed(upload.name, error) from error

    def presigned(self, names: Sequence[str], seconds: int) -> list[str]:
        """Addresses by which anybody can read these objects for so long (SigV4 in the query)."""
        import obstore

        store = self._opened()
        if self._options.get("skip_signature"):
            hint = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws/credentials"
            raise FetchError(
                "repository.credentials", f"{self.where}: without credentials nothing is signed", hint=hint
            )
        try:
            return list(obstore.sign(store, "GET", [checked(it) for it in names], timedelta(seconds=seconds)))
        except obstore.exceptions.BaseError as error:
            raise self._failed("objects", error) from error

    def names(self, prefix: str) -> Iterator[Listed]:
        """Every object below `prefix`, a thousand with each request."""
        import obstore

        try:
            for page in obstore.list(self._opened(), prefix.rstrip("/") or None):
                for item in page:
                    yield Listed(item["path"], item["size"], int(item["last_modified"].timestamp()))
        except obstore.exceptions.BaseError as error:
            raise self._failed(prefix, error) from error

    def delete(self, names: Collection[str]) -> None:
        """Remove objects, a thousand with each request."""
        import obstore

        if not names:
            return
        try:
            with suppress(FileNotFoundError, obstore.exceptions.NotFoundError):
                obstore.delete(self._opened(), [checked(name) for name in names])
        except obstore.exceptions.BaseError as error:
            raise self._failed("objects", error) from error

    def sweep(self, before: int) -> int:
        """Nothing is ever half put."""
        return 0

    def close(self) -> None:
        """Let go of connections."""
        self._store = None

    def _failed(self, name: str, error: Exception) -> FetchError:
        text = " ".join(str(error).split("\n\nDebug source:")[0].split())
        return FetchError("repository.s3", f"{self.where}/{name}: {text[:500]}")


def _written_credentials(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The credentials of the environment, else of the shared file."""
    names = {
        "access_key_id": "AWS_ACCESS_KEY_ID",
        "secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "session_token": "AWS_SESSION_TOKEN",
    }
    found = {key: environment[name] for key, name in names.items() if environment.get(name)}
    if not found:
        import configparser

        home = environment.get("HOME", "")
        parser = configparser.ConfigParser()
        parser.read(environment.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials")
        profile = environment.get("AWS_PROFILE", "default")
        if parser.has_section(profile):
            section = parser[profile]
            found = {key: section[f"aws_{key}"] for key in names if f"aws_{key}" in section}
    return found
