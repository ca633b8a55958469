/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * become NAME CALL...: takes the name NAME, then makes each CALL, such as "setuid:0" or "setresuid:-1,1000,0", in one
 * thread, and tells of each "real effective" afterwards. With "exec:PATH" it goes on as that program, "fork" as a child.
 */

#define _GNU_SOURCE
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
		} else if (!strcmp(argv[i], "exec") && ids) {
			execl(ids, ids, (char *)NULL);
			return 1;
		} else {
			status = call(argv[i], ids ? ids : "");
		}
		printf("%d %d %d\n", getpid(), getuid(), geteuid());
		fflush(stdout);
	}
	return status;
}
