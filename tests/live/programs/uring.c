/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uring FOLDER PORT: by io_uring creates FOLDER/openat and FOLDER/openat2, opens the first again, connects to
 * 127.0.0.1 at PORT and at port 1. Tells the five results in a line each.
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <stdio.h>

#include "uring.h"

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
	int error;

	if (argc != 3 || chdir(argv[1]))
		return 1;
	error = set_up();
	if (error)
		return error;
	printf("%d\n", open_by(IORING_OP_OPENAT, "openat", O_EXCL));
	printf("%d\n", open_by(IORING_OP_OPENAT2, "openat2", O_EXCL));
	printf("%d\n", open_by(IORING_OP_OPENAT, "openat", 0));
	printf("%d\n", connect_to(atoi(argv[2])));
	printf("%d\n", connect_to(1));
	return 0;
}
