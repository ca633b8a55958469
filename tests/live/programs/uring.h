/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The least io_uring that a test needs: one entry at a time, and its result. */

#include <errno.h>
#include <linux/io_uring.h>
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

/* 0, or the errno of a kernel without io_uring. */
static int set_up(void)
{
	ring = syscall(SYS_io_uring_setup, 4, &params);
	if (ring < 0)
		return errno;
	rings = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	entries = mmap(NULL, params.sq_entries * sizeof(*entries), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		       IORING_OFF_SQES);
	return rings == MAP_FAILED || entries == MAP_FAILED ? errno : 0;
}
