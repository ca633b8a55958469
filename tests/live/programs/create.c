/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * create COUNT FOLDER: creates FOLDER/f0 and so on, by each of the system calls in turn, by absolute and by
 * relative paths, and removes every third. Then opens those that are there again, in ways that could create.
 */

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPEN, OPENAT, OPENAT2, CREAT, CALLS };

static int create(int call, int folder, const char *path, const char *name, int flags)
{
	struct open_how how = {.flags = flags, .mode = 0600};

	switch (call) {
	case OPEN:
		return syscall(SYS_open, path, flags, 0600);
	case OPENAT:
		return syscall(SYS_openat, folder, name, flags, 0600);
	case OPENAT2:
		return syscall(SYS_openat2, AT_FDCWD, name, &how, sizeof(how));
	default:
		return syscall(SYS_creat, name, 0600);
	}
}

int main(int argc, char **argv)
{
	static const int again[] = {O_APPEND, O_TRUNC, 0};
	long count = argc == 3 ? atol(argv[1]) : 0;
	int folder;

	if (!count || chdir(argv[2]))
		return 1;
	folder = open(".", O_RDONLY | O_DIRECTORY);
	for (int pass = 0; pass < 2; pass++) {
		for (long i = 0; i < count; i++) {
			int flags = O_WRONLY | O_CREAT | (pass ? again[i / 4 % 3] : O_EXCL);
			char name[32], path[4096];
			int fd;

			if (pass && i % 3 == 0)
				continue;
			snprintf(name, sizeof(name), "f%ld", i);
			snprintf(path, sizeof(path), "%s/%s", argv[2], name);
			fd = create(i % CALLS, folder, path, name, flags);
			if (fd < 0 || write(fd, "x", 1) != 1 || close(fd))
				return 1;
			if (i % 3 == 0 && unlink(name))
				return 1;
		}
	}
	return 0;
}
