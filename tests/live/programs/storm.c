/* SPDX-License-Identifier: GPL-2.0-or-later */
/* storm COUNT: so many processes that end at once, one after the other. */

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc == 2 ? atol(argv[1]) : -1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (long i = 0; i < count; i++) {
		pid_t child = vfork();

		if (child == 0)
			_exit(0);
		if (child < 0 || waitpid(child, NULL, 0) != child)
			return 1;
	}
	return count < 0;
}
