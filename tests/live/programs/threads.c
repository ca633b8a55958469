/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * threads exit: the leader ends first, then another thread calls exit(7).
 * threads quiet: the leader ends first, then each thread, none by exit().
 * threads exec PROGRAM TAG: a thread that is not the leader executes PROGRAM.
 * threads crowd: many threads come and go at the same time.
 */

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

enum { CROWD = 64 };

static char **arguments;

static void wait_for_leaders_end(void)
{
	char text[512] = "";

	do {
		int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

		sched_yield();
		if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
			_exit(99);
		close(fd);
	} while (!strstr(text, ") Z "));
}

static void *work(void *nothing)
{
	(void)nothing;
	if (!strcmp(arguments[1], "exec")) {
		execv(arguments[2], arguments + 2);
		_exit(98);
	}
	if (!strcmp(arguments[1], "crowd"))
		return NULL;
	wait_for_leaders_end();
	if (!strcmp(arguments[1], "exit"))
		exit(7);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[CROWD];
	int number = argc > 1 && !strcmp(argv[1], "crowd") ? CROWD : 4;

	if (argc > 1 && !strcmp(argv[1], "exec"))
		number = 1;
	arguments = argv;
	for (int i = 0; i < number; i++)
		if (pthread_create(&threads[i], NULL, work, NULL))
			return 97;
	if (number == 4)
		pthread_exit(NULL);
	for (int i = 0; i < number; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
