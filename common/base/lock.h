/* One writer at a time: a file that is locked while somebody writes what it stands for, and that says who. The lock is the
 * process's: it goes when that ends, however it ends, and what stays of the file means nothing. On a file system
 * without locks (some Lustre mounts) everything is allowed, and only names that differ keep writers apart. */
#ifndef KF_BASE_LOCK_H
#define KF_BASE_LOCK_H

#include <stdbool.h>

#include "common/base/file.h"

typedef struct {
	int fd;                    /* -1: none */
	bool shared;
	char path[KF_PATH_MAX];
} kf_lock;

#define KF_LOCK_NONE { .fd = -1 }

/* Lock the file path, which is made; shared: together with others that share it. Where somebody has it, KF_EBUSY: "what is being
 * written by process 12 on host x". wait: until it is free, or the program is asked to end (KF_ESTOPPED). */
kf_status kf_lock_take(kf_lock *l, const char *path, bool shared, bool wait, const char *what, kf_err *err) KF_MUST_CHECK;
/* Let go, and remove the file unless others share it; does nothing where there is none. */
void kf_lock_drop(kf_lock *l);

/* A folder that processes make together, each its part of it, part < parts; parts 0 or 1: one process makes all. Refused are
 * the same part twice, and the whole together with anything. */
typedef struct { kf_lock whole, part; } kf_part_lock;

#define KF_PART_LOCK_NONE { KF_LOCK_NONE, KF_LOCK_NONE }
#define KF_LOCK_FILE "lock"        /* and lock-I-of-N */

kf_status kf_part_lock_take(kf_part_lock *l, const char *dir, int part, int parts, kf_err *err) KF_MUST_CHECK;
void kf_part_lock_drop(kf_part_lock *l);

/* For those who lock by themselves: whether fd still is the file of that name, after the lock was got. */
bool kf_lock_same(int fd, const char *path);
/* Whether errno of a flock that failed says that there are no locks here. */
bool kf_lock_none(int error);

#endif
