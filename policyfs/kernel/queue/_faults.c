/*
 * The end of the daemon at a fault in C, for example a bad address. The daemon also ends here at each other signal that
 * makes a core dump by default, for example Ctrl-\ at a terminal, or RLIMIT_CPU.
 *
 * By default such a signal makes the kernel write a core dump, even if RLIMIT_CORE permits none: before that it waits
 * until all threads of the process have ended (coredump_wait, fs/coredump.c). A thread that waits in the kernel for a
 * disk or a lock does not end. Until then nobody learns of the end, and all apps wait for answers. SIGKILL has no
 * dump: the launcher learns of the end at once, and ends the connection.
 */

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "queue/_queue.h"

/* All signals that make a core dump (signal(7)), except SIGXFSZ, which Python ignores. */
static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGQUIT, SIGTRAP, SIGSYS, SIGXCPU};

void signals_except_faults(sigset_t *signals)
{
	sigfillset(signals);
	for (size_t place = 0; place < sizeof(faults) / sizeof(*faults); place++)
		sigdelset(signals, faults[place]);
}

/* Write the reason to the log if that needs no wait, and end the process. This function makes only calls that a signal
 * handler may make. */
static void end_process(int number)
{
	char text[] = "policyfs: signal 00 (a fault in C, or SIGQUIT): the daemon ends\n";
	struct pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT};
	char *digits = strchr(text, '0');

	digits[0] = (char)('0' + number / 10);
	digits[1] = (char)('0' + number % 10);
	if (poll(&log, 1, 0) == 1 && (log.revents & POLLOUT))
		(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	/* kill(2) is not among the system calls that the daemon may make. */
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGKILL);
	_exit(128 + number);
}

/* end_at_faults() */
PyObject *faults_end(PyObject *module, PyObject *unused)
{
	struct sigaction action;

	(void)module;
	(void)unused;
	memset(&action, 0, sizeof(action));
	action.sa_handler = end_process;
	action.sa_flags = SA_ONSTACK | SA_NODEFER;
#ifndef __SANITIZE_ADDRESS__ /* AddressSanitizer's own handlers report the fault */
	for (size_t place = 0; place < sizeof(faults) / sizeof(*faults); place++)
		if (sigaction(faults[place], &action, NULL) < 0)
			return PyErr_SetFromErrno(PyExc_OSError);
#endif
	Py_RETURN_NONE;
}
