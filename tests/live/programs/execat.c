/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * execat at FOLDER NAME ARGUMENT...: execveat() of NAME below a descriptor of FOLDER
 * execat file PROGRAM ARGUMENT...: of PROGRAM's descriptor, with AT_EMPTY_PATH
 * execat memory PROGRAM ARGUMENT...: of a memfd with PROGRAM's content
 * execat wild: execve() of an address that cannot be read
 * The exit code is the errno of the failure.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = open(argc > 2 ? argv[2] : "/", O_RDONLY);

	if (fd < 0)
		return errno;
	if (!strcmp(argv[1], "memory")) {
		int memory = memfd_create("made up\n", 0);

		while (sendfile(memory, fd, NULL, 1 << 20) > 0)
			;
		fd = memory;
	}
	if (!strcmp(argv[1], "wild"))
		syscall(SYS_execve, (char *)16, argv, environ);
	else if (!strcmp(argv[1], "at"))
		syscall(SYS_execveat, fd, argv[3], argv + 4, environ, 0);
	else
		syscall(SYS_execveat, fd, "", argv + 3, environ, AT_EMPTY_PATH);
	return errno;
}
