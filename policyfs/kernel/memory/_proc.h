/* The files of other processes in /proc. */

#ifndef POLICYFS_PROC_H
#define POLICYFS_PROC_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A descriptor of the directory by which the threads read /proc (linux/procfs.py has the reason). -1: /proc itself. Set
 * before any thread reads it (_events.c). */
extern int proc_directory;

/* Write the name of a process's file, for openat(2) and the like with proc_directory. */
static inline void proc_name(char *text, size_t size, uint32_t pid, const char *file)
{
	snprintf(text, size, "%s%u/%s", proc_directory < 0 ? "/proc/" : "", pid, file);
}

#endif
