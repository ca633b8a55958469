/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * churn COUNT PAUSE PATH: creates and removes PATH as often, with pauses of so many microseconds; COUNT 0: until
 * killed.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc == 4 ? atol(argv[1]) : -1;
	useconds_t pause = argc == 4 ? atol(argv[2]) : 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (long i = 0; !count || i < count; i++) {
		int fd = open(argv[3], O_WRONLY | O_CREAT | O_EXCL, 0600);

		if (fd < 0 || close(fd) || unlink(argv[3]))
			return 1;
		if (pause)
			usleep(pause);
	}
	return count < 0;
}
