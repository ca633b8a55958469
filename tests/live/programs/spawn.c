/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spawn COUNT PAUSE PROGRAM TAG: runs "PROGRAM TAG NUMBER" one after another, with pauses of so many
 * microseconds; COUNT 0: until killed.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc == 5 ? atol(argv[1]) : -1;
	useconds_t pause = argc == 5 ? atol(argv[2]) : 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (long i = 0; !count || i < count; i++) {
		char number[24];
		int status;
		pid_t child;

		snprintf(number, sizeof(number), "%ld", i);
		child = fork();
		if (child == 0) {
			execv(argv[3], (char *[]){argv[3], argv[4], number, NULL});
			_exit(127);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status)
			return 1;
		if (pause)
			usleep(pause);
	}
	return count < 0;
}
