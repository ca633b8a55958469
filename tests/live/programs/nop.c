/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nop: does nothing. Without a C library, so that thousands of executions take seconds. */

void _start(void)
{
	__asm__ volatile("syscall" : : "a"(60), "D"(0));
	__builtin_unreachable();
}
