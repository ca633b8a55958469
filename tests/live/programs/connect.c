/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * connect COUNT PAUSE: connects to loopback as often, v4 and v6 in turn, with pauses of so many microseconds, and
 * tells of each connection "family descriptor local-port remote-port". COUNT 0: until killed, and tells nothing.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct end {
	int family, listener;
	socklen_t size;
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
};

static int listen_on(struct end *end)
{
	end->listener = socket(end->family, SOCK_STREAM, 0);
	return end->listener < 0 || bind(end->listener, &end->any, end->size) || listen(end->listener, 8) ||
	       getsockname(end->listener, &end->any, &end->size);
}

static int connect_to(const struct end *end, int tell)
{
	struct linger at_once = {1, 0}; /* no TIME_WAIT: ports do not run out */
	struct end local = {.size = sizeof(local.v6)};
	int client = socket(end->family, SOCK_STREAM, 0);
	int server;

	if (client < 0 || connect(client, &end->any, end->size) ||
	    getsockname(client, &local.any, &local.size))
		return 1;
	server = accept(end->listener, NULL, NULL);
	if (server < 0 || setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)))
		return 1;
	/* The port is at the same place in both. */
	if (tell)
		printf("%d %d %d %d\n", end->family, client, ntohs(local.v4.sin_port), ntohs(end->v4.sin_port));
	return close(client) || close(server);
}

int main(int argc, char **argv)
{
	struct end v4 = {.family = AF_INET, .size = sizeof(v4.v4)};
	struct end v6 = {.family = AF_INET6, .size = sizeof(v6.v6)};
	long count = argc == 3 ? atol(argv[1]) : -1;
	useconds_t pause = argc == 3 ? atol(argv[2]) : 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	v4.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	v6.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	if (listen_on(&v4) || listen_on(&v6))
		return 1;
	for (long i = 0; !count || i < count; i++) {
		if (connect_to(i % 2 ? &v6 : &v4, count > 0))
			return 1;
		if (pause)
			usleep(pause);
	}
	return count < 0 || fflush(stdout);
}
