/* SPDX-License-Identifier: GPL-2.0-or-later */
/* uring_accept: accepts one loopback connection by io_uring; tells "descriptor local-port remote-port". */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "uring.h"

int main(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, peer;
	socklen_t size = sizeof(here), peer_size = sizeof(peer);
	int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
	struct io_uring_sqe entry = {.opcode = IORING_OP_ACCEPT, .fd = listener};
	int error = set_up();

	if (error)
		return error;
	if (bind(listener, (struct sockaddr *)&here, size) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&here, &size) ||
	    connect(client, (struct sockaddr *)&here, size) ||
	    getsockname(client, (struct sockaddr *)&peer, &peer_size))
		return 1;
	printf("%d %d %d\n", submit(entry), ntohs(here.sin_port), ntohs(peer.sin_port));
	return 0;
}
