# SPDX-License-Identifier: GPL-2.0-or-later
"""USB devices that come and go."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Chars, Names, Tail, u16, u32
from probes.probe import Form, Hook, Probe
from probes.text import printable, to_text

_ACTIONS = {1: "add", 2: "remove"}


class Usb(ProcessEvent, gc=False):
    """A USB device was added or removed.

    The process is most often a thread of the kernel's; it is another where somebody had the device taken apart.
    """

    data_type = 610
    event_name = "usb"
    dataset = "host"
    category = "host"
    action_type = "info"

    action: Annotated[u32, Names("What happened.", "action", "hookline.usb.action", "keyword", _ACTIONS)]
    vendor: Annotated[u16, Names("Vendor id.", "vendor_id", "hookline.usb.vendor_id", "long")]
    product: Annotated[u16, Names("Product id.", "product_id", "hookline.usb.product_id", "long")]
    device_class: Annotated[
        u32, Names("Device class; 0: its interfaces have theirs.", "device_class", "hookline.usb.class", "long")
    ]
    port: Annotated[
        bytes, Chars(16), Names("Ports from the root hub to it, 0: a root hub itself.", "port", "hookline.usb.port")
    ]
    product_info: Annotated[
        bytes, Tail(512), Names("Product, as the device says.", "product_info", "hookline.usb.product")
    ]
    manufacturer: Annotated[
        bytes, Tail(512), Names("Manufacturer, as the device says.", "manufacturer", "hookline.usb.manufacturer")
    ]
    serial: Annotated[bytes, Tail(512), Names("Serial number, as the device says.", "serial", "hookline.usb.serial")]

    def summary(self) -> str:
        what = " ".join(map(to_text, (self.manufacturer, self.product_info, self.serial)))
        action = _ACTIONS.get(self.action, str(self.action))
        return printable(f"{action} {self.vendor:04x}:{self.product:04x} {what}")


PROBE = Probe(
    event=Usb,
    forms=(
        # Not fentry: usbcore may be a module, with type information of its own.
        Form(
            "kprobe",
            hooks=(
                Hook("usb_added", "kprobe", "usb_notify_add_device", sees="devices that are ready"),
                Hook("usb_removed", "kprobe", "usb_notify_remove_device", sees="devices that go"),
            ),
            misses="devices that were there before; anything, where usbcore is a module that is loaded later",
        ),
    ),
    structs={
        "usb_device": (
            "devpath",
            "descriptor.idVendor",
            "descriptor.idProduct",
            "descriptor.bDeviceClass",
            "product",
            "manufacturer",
            "serial",
        ),
    },
)
