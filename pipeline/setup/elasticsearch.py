# SPDX-License-Identifier: GPL-2.0-or-later
"""``hookline setup elasticsearch``: templates, lifecycle and Kibana's objects. Running it again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import trio

from pipeline.failure import FAILED, complain
from pipeline.setup import kibana, templates
from sinks.elasticsearch import ElasticsearchConfig, Refused, Unreachable, connect, import_into_kibana

_NO_SUCH_API = frozenset({400, 404, 405})
"""What a server says to a path that it does not know."""

_KEEP_DAYS = 90

Say = Callable[[str], None]


def setup(config: ElasticsearchConfig, kibana_url: str | None, *, dry_run: bool, say: Say = print) -> int:
    """Install everything, or with `dry_run` print it; gives the exit code.

    Raises:
        SinkError: certificates or secrets cannot be read.
    """
    if dry_run:
        _show(say)
        return 0
    try:
        trio.run(_install, config, kibana_url, say)
    except (Refused, Unreachable) as error:
        complain(f"setup is not finished: {error}")
        return FAILED
    return 0


def _show(say: Say) -> None:
    bodies = {f"/_ilm/policy/{templates.POLICY}": templates.policy(_KEEP_DAYS), **templates.templates(lifecycle=True)}
    for path, body in bodies.items():
        say(f"PUT {path}\n{json.dumps(body, indent=2)}\n")
    say(f"POST /api/saved_objects/_import (Kibana)\n{kibana.ndjson()}")


async def _install(config: ElasticsearchConfig, kibana_url: str | None, say: Say) -> None:
    async with connect(config) as client:
        lifecycle = True
        try:
            await client.request("PUT", f"/_ilm/policy/{templates.POLICY}", templates.policy(_KEEP_DAYS))
            say(f"lifecycle policy {templates.POLICY}: installed")
        except Refused as error:
            if error.status not in _NO_SUCH_API or "no handler" not in str(error):
                raise
            lifecycle = False
            say(
                "lifecycle policy: this server has no lifecycle management; events are kept until somebody deletes them"
            )
        for path, body in templates.templates(lifecycle=lifecycle).items():
            await client.request("PUT", path, body)
            say(f"{path.removeprefix('/_').replace('/', ' ').replace('_', ' ')}: installed")
        try:
            path = f"/{templates.PATTERN}/_mapping?allow_no_indices=true&ignore_unavailable=true"
            await client.request("PUT", path, templates.mappings())
            say("data streams that exist: they know every field now")
        except Refused as error:
            say(
                f"data streams that exist: they keep their old mapping until they roll over "
                f"(POST /DATA_STREAM/_rollover), for {error}"
            )
    if kibana_url is None:
        say("Kibana: nothing installed, for no --kibana URL is given")
    else:
        await import_into_kibana(config, kibana_url, kibana.ndjson().encode())
        say(f"Kibana at {kibana_url}: data view, searches and dashboard installed")
