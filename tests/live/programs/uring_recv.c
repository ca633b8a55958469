/* SPDX-License-Identifier: GPL-2.0-or-later */
/* uring_recv PORT: a question to 127.0.0.1 at PORT by UDP, and the answer by io_uring: RECV, RECVMSG and READ in turn. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "uring.h"

int main(int argc, char **argv)
{
	struct sockaddr_in server = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in from;
	char buffer[4096];
	struct iovec piece = {buffer, sizeof(buffer)};
	struct msghdr header = {.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &piece, .msg_iovlen = 1};
	struct io_uring_sqe wanted[] = {
		{.opcode = IORING_OP_RECV, .addr = (unsigned long)buffer, .len = sizeof(buffer)},
		{.opcode = IORING_OP_RECVMSG, .addr = (unsigned long)&header, .len = 1},
		{.opcode = IORING_OP_READ, .addr = (unsigned long)buffer, .len = sizeof(buffer)},
	};
	int client = socket(AF_INET, SOCK_DGRAM, 0);
	int error = argc == 2 ? set_up() : EINVAL;

	if (error)
		return error;
	server.sin_port = htons(atoi(argv[1]));
	if (connect(client, (struct sockaddr *)&server, sizeof(server)))
		return 1;
	for (int at = 0; at < 3; at++) {
		wanted[at].fd = client;
		if (write(client, "?", 1) != 1)
			return 1;
		printf("%d\n", submit(wanted[at]));
	}
	return 0;
}
