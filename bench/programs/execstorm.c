/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * execstorm RATE FIRST COUNT FOLDER: runs FOLDER/FIRST, FOLDER/FIRST+1, ... , RATE a second, and says how long it took in
 * seconds. Each has its time, whatever became of those before; of several processes that run them, one may be late
 * without making the others late.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNNERS 4

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static int execute(long number)
{
	char name[24];
	int status;
	pid_t child;

	snprintf(name, sizeof(name), "%ld", number);
	child = vfork();
	if (child == 0) {
		execl(name, name, NULL);
		_exit(127);
	}
	return child < 0 || waitpid(child, &status, 0) != child || status;
}

static int run(double begin, double rate, long first, long count, long runner)
{
	for (long i = runner; i < count; i += RUNNERS) {
		double early = begin + i / rate - now();

		if (early > 0) {
			struct timespec pause = { (time_t)early, (early - (time_t)early) * 1e9 };

			nanosleep(&pause, NULL);
		}
		if (execute(first + i))
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	double rate = argc == 5 ? atof(argv[1]) : 0, begin = now();
	long first = argc == 5 ? atol(argv[2]) : 0, count = argc == 5 ? atol(argv[3]) : 0;
	int failed = 0;

	if (rate <= 0 || chdir(argv[4]))
		return 1;
	for (int runner = 0; runner < RUNNERS; runner++) {
		pid_t child = fork();

		if (child < 0)
			return 1;
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(run(begin, rate, first, count, runner));
		}
	}
	for (int runner = 0; runner < RUNNERS; runner++) {
		int status;

		failed |= wait(&status) < 0 || status;
	}
	printf("%.3f\n", now() - begin);
	return failed;
}
