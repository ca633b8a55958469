/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uring FOLDER PORT: by io_uring creates FOLDER/openat and FOLDER/openat2, opens the first again, connects to
 * 127.0.0.1 at PORT and at port 1. Tells the five results in a line each.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct io_uring_params params;
static struct io_uring_sqe *entries;
static char *rings;
static int ring;

static int submit(struct io_uring_sqe entry)
{
	unsigned *tail = (unsigned *)(rings + params.sq_off.tail);
	unsigned *head = (unsigned *)(rings + params.cq_off.head);
	unsigned mask = *(unsigned *)(rings + params.sq_off.ring_mask);
	struct io_uring_cqe *done = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
	int result;

	entries[*tail & mask] = entry;
	((unsigned *)(rings + params.sq_off.array))[*tail & mask] = *tail & mask;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		exit(errno);
	result = done[*head & *(unsigned *)(rings + params.cq_off.ring_mask)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

static int open_by(int opcode, const char *name, int extra)
{
	struct open_how how = {.flags = O_WRONLY | O_CREAT | extra, .mode = 0600};
	struct io_uring_sqe entry = {.opcode = opcode, .fd = AT_FDCWD, .addr = (unsigned long)name};

	if (opcode == IORING_OP_OPENAT) {
		entry.len = 0600;
		entry.open_flags = O_WRONLY | O_CREAT | extra;
	} else {
		entry.len = sizeof(how);
		entry.off = (unsigned long)&how;
	}
	return submit(entry);
}

static int connect_to(int port)
{
	struct sockaddr_in peer = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct io_uring_sqe entry = {
		.opcode = IORING_OP_CONNECT,
		.fd = socket(AF_INET, SOCK_STREAM, 0),
		.addr = (unsigned long)&peer,
		.off = sizeof(peer),
	};

	return submit(entry);
}

int main(int argc, char **argv)
{
	if (argc != 3 || chdir(argv[1]))
		return 1;
	ring = syscall(SYS_io_uring_setup, 4, &params);
	if (ring < 0)
		return errno;
	rings = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	entries = mmap(NULL, params.sq_entries * sizeof(*entries), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		       IORING_OFF_SQES);
	if (rings == MAP_FAILED || entries == MAP_FAILED)
		return errno;
	printf("%d\n", open_by(IORING_OP_OPENAT, "openat", O_EXCL));
	printf("%d\n", open_by(IORING_OP_OPENAT2, "openat2", O_EXCL));
	printf("%d\n", open_by(IORING_OP_OPENAT, "openat", 0));
	printf("%d\n", connect_to(atoi(argv[2])));
	printf("%d\n", connect_to(1));
	return 0;
}
