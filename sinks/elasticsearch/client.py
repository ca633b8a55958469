# SPDX-License-Identifier: GPL-2.0-or-later
"""The official client on trio, set up from the configuration; what goes wrong, in words."""

from __future__ import annotations

import base64
import logging
import os
import ssl
import warnings
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import elastic_transport
import trio
from elasticsearch import AsyncElasticsearch, ElasticsearchWarning
from elasticsearch.serializer import Serializer

from sinks.elasticsearch.config import ElasticsearchConfig
from sinks.elasticsearch.errors import Refused, Unreachable
from sinks.protocol import SinkError

# What they say is said again by us, once and in one line.
logging.getLogger("elastic_transport").addHandler(logging.NullHandler())
logging.getLogger("elastic_transport").propagate = False
warnings.filterwarnings("ignore", category=ElasticsearchWarning)

_DRIP = 2.0
"""Times the timeout, after which an answer that still trickles in is given up."""

_GZIP = 16 + zlib.MAX_WBITS
_SECRET_BYTES = 65_536
_FOREIGN = 100
"""Characters that are shown of an answer that is not from an Elasticsearch."""


class _Bytes(Serializer):
    """NDJSON that is encoded, and perhaps compressed, already."""

    mimetype = "application/vnd.elasticsearch+x-ndjson"

    def dumps(self, data: bytes) -> bytes:
        return data

    def loads(self, data: bytes) -> bytes:
        return data


class _Node(elastic_transport.HttpxAsyncHttpNode):
    """Also for IPv6 addresses: httpx wants them in brackets, and is given them without."""

    def __init__(self, config: elastic_transport.NodeConfig) -> None:
        if ":" not in config.host:
            super().__init__(config)
            return
        super().__init__(config.replace(host="localhost"))
        self._config, self._host = config, config.host
        self.client.base_url = self.base_url


class Client:
    """An async context manager: inside, requests can be made."""

    def __init__(self, config: ElasticsearchConfig) -> None:
        """Raises SinkError: a file or a variable cannot be read or used."""
        self._config = config
        self._client = _client(config)
        kind = "application/vnd.elasticsearch+{}; compatible-with=" + str(config.compatible_with)
        self._json = {"accept": kind.format("json"), "content-type": kind.format("json")}
        self._ndjson = {"accept": kind.format("json"), "content-type": kind.format("x-ndjson")}
        if config.compression == "gzip":
            self._ndjson["content-encoding"] = "gzip"
        self.sent_bytes = 0
        """Of bulk bodies, as they went out."""

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await self._client.close()

    async def bulk(self, body: bytes, filter_path: str) -> Any:
        """The answer to a ``_bulk`` request. Raises Refused, Unreachable."""
        if self._config.compression == "gzip":
            body = await trio.to_thread.run_sync(_gzip, body)
        self.sent_bytes += len(body)
        return await self._request("POST", "/_bulk", self._ndjson, body, {"filter_path": filter_path})

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """The answer to any other. Raises Refused, Unreachable."""
        return await self._request(method, path, self._json if body is not None else self._asking(), body, None)

    def _asking(self) -> dict[str, str]:
        return {"accept": self._json["accept"]}

    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: object, params: dict[str, str] | None
    ) -> Any:
        try:
            with trio.fail_after(_DRIP * self._config.timeout_s):
                answer = await self._client.perform_request(method, path, headers=headers, body=body, params=params)
        except trio.TooSlowError:
            raise Unreachable(f"no whole answer within {_DRIP * self._config.timeout_s:g} s") from None
        except elastic_transport.ApiError as error:
            raise Refused(error.meta.status, _error_words(error)) from None
        except elastic_transport.ConnectionTimeout:
            raise Unreachable(f"no answer within {self._config.timeout_s:g} s") from None
        except elastic_transport.TransportError as error:
            raise Unreachable(_reason(error)) from None
        return answer.body


def _client(config: ElasticsearchConfig) -> AsyncElasticsearch:
    tls: dict[str, object] = {}
    if any(urlsplit(host).scheme == "https" for host in config.hosts):
        tls["ssl_context"] = tls_context(config)
    try:
        return AsyncElasticsearch(
            [_with_port(host) for host in config.hosts],
            node_class=_Node,
            serializers={_Bytes.mimetype: _Bytes()},
            connections_per_node=config.max_requests,
            request_timeout=config.timeout_s,
            max_retries=0,  # the pipeline retries, and its pauses know trio
            headers=authorization(config),
            **tls,  # type: ignore[arg-type] # by their names
        )
    except ValueError as error:
        raise SinkError(f"hosts cannot be used: {error}") from None


def authorization(config: ElasticsearchConfig) -> dict[str, str]:
    """The header that says who asks. Raises SinkError."""
    if config.user:
        password = _secret(config.password_file, config.password_env, "password")
        return {"authorization": "Basic " + base64.b64encode(f"{config.user}:{password}".encode()).decode()}
    if config.api_key_file or config.api_key_env:
        return {"authorization": "ApiKey " + _secret(config.api_key_file, config.api_key_env, "api_key")}
    return {}


def _with_port(host: str) -> str:
    parts = urlsplit(host)
    if parts.port is not None:
        return host
    port = 443 if parts.scheme == "https" else 9200
    return parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:{port}").geturl()


def tls_context(config: ElasticsearchConfig) -> ssl.SSLContext:
    """Whom to trust and what to show. Raises SinkError."""
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(f"ca_file: {config.ca_file} cannot be used ({_words(error)}): name a PEM file") from None
    if not config.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.cert_file:
        try:
            context.load_cert_chain(config.cert_file, config.key_file)
        except (OSError, ssl.SSLError) as error:
            raise SinkError(
                f"cert_file and key_file: {config.cert_file} and {config.key_file} cannot be used "
                f"({_words(error)}): name PEM files that belong together"
            ) from None
    return context


def _secret(file: str, variable: str, key: str) -> str:
    if file:
        try:
            with Path(file).open("rb") as opened:
                secret = opened.read(_SECRET_BYTES).decode("utf-8").partition("\n")[0].strip()
        except (OSError, ValueError) as error:
            raise SinkError(f"{key}_file: {file} cannot be read ({_words(error)})") from None
    else:
        secret = os.environ.get(variable, "")
    if key == "api_key" and not (secret.isascii() and secret.isprintable()):
        raise SinkError(f"{key}_file or {key}_env: no encoded API key, which has ASCII letters, digits and = alone")
    if not secret:
        raise SinkError(f"{key}_file: {file} is empty" if file else f"{key}_env: the variable {variable} is not set")
    return secret


def _reason(error: elastic_transport.TransportError) -> str:
    """The words of what lies deepest and has some: httpx and trio wrap what TLS or the system said."""
    reason = str(error.message) or type(error).__name__
    outer: BaseException = error
    while inner := outer.__cause__ or outer.__context__:
        outer = inner
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"TLS: the server's certificate is refused: {inner.verify_message}"
        if isinstance(inner, ssl.SSLError):
            return f"TLS: {inner.reason or inner}"
        if isinstance(inner, OSError) and inner.strerror:
            reason = inner.strerror
    return reason


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _error_words(error: elastic_transport.ApiError) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        inner = body["error"]
        return f"{inner.get('type')}: {inner.get('reason')}"[:500]
    if isinstance(body, dict):
        return str(body.get("error"))[:500]
    return foreign(str(body or error.message))


def foreign(text: str) -> str:
    """What no Elasticsearch says, such as a page: enough to recognise it, on one line."""
    return " ".join(text.split())[:_FOREIGN]


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, 1, _GZIP)
