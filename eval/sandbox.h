/* Running programs that a model wrote, and that nobody has read.
 *
 * A program is Python. It runs in a process of its own with limits on time, memory and files, and passes when it
 * gets to its end: what is put after it writes a word of our own choosing to a pipe, so that leaving early does not count. (A
 * program that sets out to find that word within its own process can: this is for programs that are wrong, not for liars.) It
 * may start threads, but no process, no socket and no debugger: trying to stops it. What protects the machine from it:
 *
 *   namespaces   of users, mounts, processes, networks and IPC: it sees the system's libraries and Python (read-only),
 *                nothing else of the disk, and may write into an empty folder in memory that goes away with it
 *   landlock     where namespaces are not to be had: it may read what the user may, and write no file at all
 *   seccomp      a filter that refuses the system calls in question
 *   limits       on processor time, memory, sizes of files, open files, threads; the wall clock is ours
 */
#ifndef KF_EVAL_SANDBOX_H
#define KF_EVAL_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"

enum { KF_GUARD_NAMESPACES = 1, KF_GUARD_LANDLOCK = 2, KF_GUARD_SECCOMP = 4, KF_GUARD_ALL = 7 };

enum { KF_SANDBOX_CLOCK = 4 };

typedef struct {
	double seconds;            /* of processor time, rounded up; by the clock KF_SANDBOX_CLOCK times as much, since other work may be
	                            * going on beside it */
	long memory;               /* of address space, bytes */
	long file_bytes;           /* of a file, and of the folder's files together */
	unsigned guards;           /* KF_GUARD_*: those that may be used */
	bool unsafe;               /* run with the limits alone if the rest is not to be had */
} kf_sandbox_opts;

typedef enum { KF_VERDICT_PASSED, KF_VERDICT_FAILED, KF_VERDICT_TIME, KF_VERDICT_FORBIDDEN } kf_verdict;
const char *kf_verdict_name(kf_verdict v);      /* "passed", "failed", "out of time", "forbidden" */

typedef struct kf_sandbox kf_sandbox;

/* Find python3 on PATH and the best protection there is, and try both. KF_EUNSUPPORTED: there is not enough of it (namespaces
 * or landlock, and seccomp), and opts do not say unsafe; KF_ENOTFOUND: no python3 that works. */
kf_status kf_sandbox_new(const kf_sandbox_opts *opts, kf_sandbox **out, kf_err *err) KF_MUST_CHECK;
void kf_sandbox_free(kf_sandbox *s);            /* accepts NULL */
unsigned kf_sandbox_guards(const kf_sandbox *s);     /* those in use */
const char *kf_sandbox_describe(const kf_sandbox *s); /* "namespaces, seccomp and limits": for reports */

/* Run a program (n bytes). May be called from several threads at once. An error is one of ours, never the program's. */
kf_status kf_sandbox_run(const kf_sandbox *s, const char *program, size_t n, kf_verdict *out, kf_err *err) KF_MUST_CHECK;

#endif
