/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * deadfs FOLDER FILE: a FUSE mount on FOLDER whose one file, NAME "file", has the content of FILE. Says "." when it is
 * mounted. Once its standard input has a byte, it never answers again; at the end of its input it unmounts and ends.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char content[1 << 20], request[1 << 20];
static long size;

static void attributes(struct fuse_attr *attr, unsigned long number)
{
	attr->ino = number;
	attr->size = number == 1 ? 0 : size;
	attr->mode = number == 1 ? S_IFDIR | 0755 : S_IFREG | 0755;
	attr->nlink = 1;
	attr->mtime = attr->ctime = attr->atime = 1000000000;
}

static void answer(int device, unsigned long unique, int error, const void *data, size_t length)
{
	struct fuse_out_header header = { sizeof(header) + length, error, unique };
	struct iovec parts[] = { { &header, sizeof(header) }, { (void *)data, length } };

	/* An interrupted caller is gone: nothing is lost. */
	if (writev(device, parts, 2) < 0 && errno != ENOENT)
		perror("answer");
}

static void serve(int device)
{
	struct fuse_in_header *in = (void *)request;
	void *body = in + 1;
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
				      .max_write = 65536, .max_readahead = 65536 };
	struct fuse_entry_out entry = { .nodeid = 2, .entry_valid = 3600 };
	struct fuse_attr_out attr = {};
	struct fuse_open_out opened = { .fh = 1 };
	struct fuse_read_in *wanted = body;
	long left;

	if (read(device, request, sizeof(request)) < (ssize_t)sizeof(*in))
		return;
	switch (in->opcode) {
	case FUSE_INIT:
		answer(device, in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		attributes(&entry.attr, 2);
		if (strcmp(body, "file"))
			answer(device, in->unique, -ENOENT, NULL, 0);
		else
			answer(device, in->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
		attributes(&attr.attr, in->nodeid);
		answer(device, in->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		answer(device, in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		left = size - (long)wanted->offset;
		if (left > wanted->size)
			left = wanted->size;
		answer(device, in->unique, 0, content + wanted->offset, left > 0 ? left : 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer(device, in->unique, in->opcode == FUSE_RELEASE || in->opcode == FUSE_FLUSH ? 0 : -ENOSYS,
		       NULL, 0);
	}
}

int main(int argc, char **argv)
{
	int device = open("/dev/fuse", O_RDWR);
	struct pollfd waits[] = { { 0, POLLIN }, { device, POLLIN } };
	int file = argc == 3 ? open(argv[2], O_RDONLY) : -1;
	char options[100], order;

	if (device < 0 || file < 0)
		return 1;
	size = read(file, content, sizeof(content));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
	if (mount("deadfs", argv[1], "fuse", 0, options))
		return 1;
	if (write(1, ".", 1) != 1)
		return 1;
	for (;;) {
		if (poll(waits, 2, -1) < 0)
			return 1;
		if (waits[0].revents) {
			if (read(0, &order, 1) != 1)
				break;
			/* From now on, only the end of the input counts. */
			waits[1].fd = -1;
			if (write(1, "!", 1) != 1)
				return 1;
		} else if (waits[1].revents) {
			serve(device);
		}
	}
	return umount2(argv[1], MNT_DETACH) != 0;
}
