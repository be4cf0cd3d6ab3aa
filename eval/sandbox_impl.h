/* What sandbox.c and sandbox_child.c share. */
#ifndef KF_EVAL_SANDBOX_IMPL_H
#define KF_EVAL_SANDBOX_IMPL_H

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

#include "eval/sandbox.h"

#define KF_SANDBOX_BINDS 16

/* A path that the program sees: of the machine, at the same place. */
typedef struct {
	char from[PATH_MAX], to[PATH_MAX + 64]; /* to: under the new root's mount point */
	char link[PATH_MAX];       /* where a symbolic link points; "": bound, read-only */
	bool file;                 /* a file, not a folder */
} kf_sandbox_bind;

struct kf_sandbox {
	kf_sandbox_opts o;
	unsigned guards;
	char text[128];
	char python[PATH_MAX];
	const char *root;          /* an existing folder on which the new root is mounted */
	kf_sandbox_bind bind[KF_SANDBOX_BINDS];
	int n_binds;
};

/* What the child begins with, and what it tells. */
enum { KF_CHILD_PASS = 3, KF_CHILD_REPORT = 4 }; /* descriptors: where the program's last word goes; where ours go */
typedef struct {
	const kf_sandbox *s;
	int program, null, pass, report;     /* descriptors in the parent's numbering */
	pid_t parent;
	long tasks;                /* processes and threads, at most: as the limit counts them, so where there is no namespace the user's all */
	char uid_map[64], gid_map[64], tmp_options[96];
} kf_child_job;

/* A report: how far the preparation came when it failed (stage NULL-terminated words), or the program's wait status. */
typedef struct {
	int32_t failed;            /* 1: stage and error; 0: status */
	int32_t error, status;
	char stage[32];
} kf_child_report;

/* In the child, from fork on: prepares everything, runs the program, reports, and ends. Only calls that are safe after a
 * fork of a process with threads. */
_Noreturn void kf_sandbox_child(const kf_child_job *j);

#endif
