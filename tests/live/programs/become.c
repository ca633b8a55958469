/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * become NAME STEP...: takes the name NAME, then takes each step, and tells after it "pid real effective" user id. A
 * step is a call in this one thread, such as "setuid:0" or "setresuid:-1,1000,0"; "wait", for a line of input; "fork",
 * after which the child goes on; "exec", after which the rest of the line is another program and its arguments;
 * "commit" or "overwrite", which tests/kernels/module/hookline_test.c obeys.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
	const char *name;
	long number;
} CALLS[] = {
	{"setuid", SYS_setuid},	    {"setreuid", SYS_setreuid}, {"setresuid", SYS_setresuid},
	{"setgid", SYS_setgid},	    {"setregid", SYS_setregid}, {"setresgid", SYS_setresgid},
	{"setfsuid", SYS_setfsuid}, {"setfsgid", SYS_setfsgid},
};

static int call(const char *name, const char *ids)
{
	long given[3] = {-1, -1, -1};

	sscanf(ids, "%ld,%ld,%ld", &given[0], &given[1], &given[2]);
	for (size_t i = 0; i < sizeof(CALLS) / sizeof(*CALLS); i++)
		if (!strcmp(CALLS[i].name, name)) {
			syscall(CALLS[i].number, given[0], given[1], given[2]);
			return 0;
		}
	return 2;
}

int main(int argc, char **argv)
{
	int status = 0;

	if (argc < 2)
		return 2;
	prctl(PR_SET_NAME, argv[1]);
	for (int i = 2; i < argc && !status; i++) {
		char *ids = strchr(argv[i], ':');

		if (ids)
			*ids++ = '\0';
		if (!strcmp(argv[i], "fork")) {
			pid_t child = fork();

			if (child) {
				waitpid(child, &status, 0);
				return !WIFEXITED(status) || WEXITSTATUS(status);
			}
		} else if (!strcmp(argv[i], "commit") || !strcmp(argv[i], "overwrite")) {
			int device = open("/dev/hookline_test", O_WRONLY);

			status = write(device, argv[i], strlen(argv[i])) < 0;
			close(device);
		} else if (!strcmp(argv[i], "exec")) {
			execv(argv[i + 1], argv + i + 1);
			return 1;
		} else if (!strcmp(argv[i], "wait")) {
			printf("%d waits\n", getpid());
			fflush(stdout);
			status = getchar() != '\n';
		} else {
			status = call(argv[i], ids ? ids : "");
		}
		printf("%d %d %d\n", getpid(), getuid(), geteuid());
		fflush(stdout);
	}
	return status;
}
