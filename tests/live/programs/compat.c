/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * compat OLD NEW: renames by a 32-bit system call, which int 0x80 makes from 64-bit code too; then removes NEW and
 * sends itself signal 23 in the same way.
 */

#include <string.h>
#include <unistd.h>

enum { UNLINK = 10, KILL = 37, RENAME = 38, URGENT = 23 };

static char old[4096], new[4096]; /* below 4 GiB, as the program is not position independent */

static int call(int number, unsigned long first, unsigned long second)
{
	int result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second) : "memory");
	return result;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 1;
	strncpy(old, argv[1], sizeof(old) - 1);
	strncpy(new, argv[2], sizeof(new) - 1);
	return call(RENAME, (unsigned long)old, (unsigned long)new) || call(UNLINK, (unsigned long)new, 0) ||
	       call(KILL, getpid(), URGENT);
}
