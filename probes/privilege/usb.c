/* SPDX-License-Identifier: GPL-2.0-only */
/* Where usbcore tells the rest of the kernel of a device: when it is ready, and before it is taken apart. */

enum { USB_ADD = 1, USB_REMOVE };

/* A string that the device gave of itself, NULL where it has none; without its NUL. */
static __always_inline u32 usb_append(struct hl_record *record, const char *text, u32 cut)
{
	u32 length = hl_append_string(record, text, HL_USB_PRODUCT_INFO_MAX, bpf_probe_read_kernel_str);

	if (length == HL_USB_PRODUCT_INFO_MAX)
		record->header.flags |= cut;
	return hl_chop(record, length);
}

static __always_inline int usb_tell(void *ctx, u32 action)
{
	struct usb_device *device = (struct usb_device *)hl_argument(ctx, HL_FORM_USB, 0);
	struct hl_record *record = hl_begin(HL_KIND_USB, HL_SLOT_USB, HL_SIZE_USB);
	struct hl_usb *body;

	if (!record)
		return 0;
	body = hl_body(record, usb);
	body->action = action;
	body->vendor = READ(device->descriptor_idVendor);
	body->product = READ(device->descriptor_idProduct);
	body->device_class = READ(device->descriptor_bDeviceClass);
	bpf_probe_read_kernel_str(body->port, sizeof(body->port), &device->devpath);
	body->product_info_length = usb_append(record, READ(device->product), HL_USB_PRODUCT_INFO_CUT);
	body->manufacturer_length = usb_append(record, READ(device->manufacturer), HL_USB_MANUFACTURER_CUT);
	body->serial_length = usb_append(record, READ(device->serial), HL_USB_SERIAL_CUT);
	hl_submit(record);
	return 0;
}

int usb_added(struct pt_regs *ctx)
{
	return usb_tell(ctx, USB_ADD);
}

int usb_removed(struct pt_regs *ctx)
{
	return usb_tell(ctx, USB_REMOVE);
}
