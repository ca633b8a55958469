/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * execstorm RATE FIRST COUNT FOLDER: runs FOLDER/FIRST, FOLDER/FIRST+1, ... , RATE a second, and says how long it took in
 * seconds.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double rate = argc == 5 ? atof(argv[1]) : 0, begin = now();
	long first = argc == 5 ? atol(argv[2]) : 0, count = argc == 5 ? atol(argv[3]) : 0;

	if (rate <= 0 || chdir(argv[4]))
		return 1;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (long i = 0; i < count; i++) {
		double early = begin + i / rate - now();
		char name[24];
		int status;
		pid_t child;

		if (early > 0) {
			struct timespec pause = { 0, early * 1e9 };

			nanosleep(&pause, NULL);
		}
		snprintf(name, sizeof(name), "%ld", first + i);
		child = vfork();
		if (child == 0) {
			execl(name, name, NULL);
			_exit(127);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status)
			return 1;
	}
	printf("%.3f\n", now() - begin);
	return 0;
}
