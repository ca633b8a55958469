/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * insmod file|memory PATH [UID]: loads the module, as that user; then unloads it by the name of the file up to its first
 * dot. Tells "descriptor errno", of which 0 is a success.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct stat status;
	char name[64] = "";
	void *image;
	long result;
	int file;

	if (argc < 3 || (file = open(argv[2], O_RDONLY)) < 0 || fstat(file, &status))
		return 2;
	image = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (image == MAP_FAILED || (argc > 3 && setuid(atoi(argv[3]))))
		return 2;
	if (!strcmp(argv[1], "file"))
		result = syscall(SYS_finit_module, file, "", 0);
	else
		result = syscall(SYS_init_module, image, status.st_size, "");
	printf("%d %d\n", file, result ? errno : 0);
	if (result)
		return 0;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(strrchr(argv[2], '/') + 1, "."), strrchr(argv[2], '/') + 1);
	return syscall(SYS_delete_module, name, O_NONBLOCK) != 0;
}
