# SPDX-License-Identifier: GPL-2.0-or-later
"""A USB device that goes and comes back; the guests of tests/kernels have an emulated one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.tools import until

pytestmark = pytest.mark.needs("kprobes", "usb")

USB = 610
DEVICES = Path("/sys/bus/usb/devices")
TEXTS = {"product_info": "product", "manufacturer": "manufacturer", "serial": "serial"}


@pytest.fixture
def stick() -> Iterator[Path]:
    """The first device that is no hub; afterwards it is there again."""
    [device, *_] = [path.parent for path in DEVICES.glob("*/devpath") if path.read_text() != "0\n"]
    yield device.resolve()
    until((DEVICES / device.name / "product").exists, "the device is back")


def said_by_sysfs(device: Path) -> dict[str, str]:
    """What the event must say, from the files that the kernel makes of the device."""

    def read(name: str) -> str:
        return (device / name).read_text().rstrip("\n")

    return {
        **{field: read(name) for field, name in TEXTS.items()},
        "vendor_id": str(int(read("idVendor"), 16)),
        "product_id": str(int(read("idProduct"), 16)),
        "device_class": str(int(read("bDeviceClass"), 16)),
        "port": read("devpath"),
    }


@pytest.mark.guest("usb", silent=True)
def test_a_driver_that_goes(stick: Path, collector: Collector) -> None:
    """A driver that lets go of a device, and takes hold of it again, is no event: the device stays."""
    [interface, *_] = [path for path in stick.glob(f"{stick.name}:*") if (path / "driver").exists()]
    driver = (interface / "driver").resolve()
    before = len([each for each in collector.sync() if each["data_type"] == str(USB)])
    (driver / "unbind").write_text(interface.name)
    assert not (interface / "driver").exists()
    (driver / "bind").write_text(interface.name)
    assert (interface / "driver").exists()
    assert len([each for each in collector.sync() if each["data_type"] == str(USB)]) == before


@pytest.mark.guest("usb")
def test_a_device_goes_and_comes_back(stick: Path, collector: Collector) -> None:
    """A device that is taken apart and found again is told each time, with what it says of itself."""
    wanted = said_by_sysfs(stick)
    bus = stick.parent  # the root hub; without its power switch a port finds what is in it anew

    def told() -> list[Event]:
        events = [each for each in collector.sync() if each["data_type"] == str(USB)]
        return [each for each in events if each["serial"] == wanted["serial"]]

    before = len(told())
    (bus / "authorized").write_text("0")  # a hub without authorization lets go of its devices
    until(lambda: len(told()) > before, "the removal")
    (bus / "authorized").write_text("1")
    until(lambda: len(told()) > before + 1, "the addition")
    gone, back = told()[before:]
    assert {name: gone[name] for name in wanted} == wanted
    assert {name: back[name] for name in wanted} == wanted
    assert (gone["action"], back["action"]) == ("2", "1")
