# SPDX-License-Identifier: GPL-2.0-or-later
"""User names from a passwd file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.enrich.users import Users
from probes.event import UNKNOWN
from probes.process.exit import Exit
from tests.unit.pipeline.samples import made

LINES = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000:Alice,,,:/home/alice:/bin/sh\n"


@pytest.fixture
def passwd(tmp_path: Path) -> Path:
    path = tmp_path / "passwd"
    path.write_text(LINES, encoding="utf-8")
    return path


async def name_of(users: Users, uid: int) -> str:
    event = made(Exit, uid=uid)
    await users.enrich([event])
    return event.user


async def test_names(passwd: Path) -> None:
    """A uid has the name of the file; one that is not in it is unknown, and nothing fails."""
    users = Users(passwd)
    names = [await name_of(users, uid) for uid in (0, 1000, 1001, 0xFFFF_FFFF)]
    assert names == ["root", "alice", UNKNOWN, UNKNOWN]
    assert users.statistics()["users"] == 2


async def test_in_a_container(passwd: Path) -> None:
    """A user of a container never has the name of a user of the host."""
    event = made(Exit, uid=1000, container_id="a" * 64)
    await Users(passwd).enrich([event])
    assert event.user == UNKNOWN


async def test_a_change_is_picked_up(passwd: Path) -> None:
    """A user who is added is known after the next look, in place or by a new file."""
    users = Users(passwd)
    passwd.write_text(f"{LINES}bob:x:1001:1001::/:/bin/sh\n", encoding="utf-8")
    assert await name_of(users, 1001) == UNKNOWN
    users.refresh()
    assert await name_of(users, 1001) == "bob"
    replacement = passwd.with_name("passwd+")
    replacement.write_text("carol:x:1001:1001::/:/bin/sh\n", encoding="utf-8")
    replacement.rename(passwd)
    users.refresh()
    assert (await name_of(users, 1001), await name_of(users, 0)) == ("carol", UNKNOWN)


async def test_a_file_that_is_gone_for_a_moment(passwd: Path) -> None:
    """While the file cannot be read the names stay; what comes back is read."""
    users = Users(passwd)
    passwd.rename(passwd.with_name("away"))
    users.refresh()
    assert await name_of(users, 1000) == "alice"
    passwd.write_text("root:x:0:0::/:\n", encoding="utf-8")
    users.refresh()
    assert await name_of(users, 1000) == UNKNOWN


async def test_no_file_at_all(tmp_path: Path) -> None:
    """Without the file, as in a container from scratch, everybody is unknown."""
    assert await name_of(Users(tmp_path / "none"), 0) == UNKNOWN


async def test_the_first_name_counts(passwd: Path) -> None:
    """Of two names of one uid the first one counts, as for getpwuid(3)."""
    passwd.write_text("root:x:0:0::/:\ntoor:x:0:0::/:\n", encoding="utf-8")
    assert await name_of(Users(passwd), 0) == "root"


@given(st.binary(max_size=200))
async def test_any_file_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Comments, NIS lines, broken lines and bytes that are no text are passed over."""
    path = tmp_path_factory.getbasetemp() / "any-passwd"
    path.write_bytes(b"+::::::\n# c\nx\n:::\nnan:x:-1:\n\n" + content + b"\nlast:x:77:77::/:/bin/sh\n")
    users = Users(path)
    assert await name_of(users, 77) == "last" or b":77" in content
