# SPDX-License-Identifier: GPL-2.0-or-later
"""Saved objects into a Kibana, with the credentials of the sink."""

from __future__ import annotations

import httpx

from sinks.elasticsearch.client import authorization, foreign, tls_context
from sinks.elasticsearch.config import ElasticsearchConfig
from sinks.elasticsearch.errors import Refused, Unreachable


async def import_into_kibana(config: ElasticsearchConfig, url: str, ndjson: bytes) -> None:
    """Create or replace the objects of `ndjson` in the Kibana at `url`.

    Raises:
        Refused, Unreachable: it did not take them all.
        SinkError: certificates or secrets cannot be read.
    """
    headers = {"kbn-xsrf": "hookline", **authorization(config)}
    files = {"file": ("hookline.ndjson", ndjson, "application/ndjson")}
    target = f"{url.rstrip('/')}/api/saved_objects/_import"
    try:
        async with httpx.AsyncClient(verify=tls_context(config), timeout=config.timeout_s) as client:
            answer = await client.post(target, params={"overwrite": "true"}, headers=headers, files=files)
    except httpx.HTTPError as error:
        raise Unreachable(f"Kibana at {url}: {error}") from None
    if answer.status_code != 200 or not answer.json().get("success"):
        raise Refused(answer.status_code, f"Kibana at {url}: {foreign(answer.text)}")
