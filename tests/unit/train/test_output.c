/* The end of OUT/state where it is on NFS: a client gives a file that is removed while somebody has it open another name until then, and
 * that one is not to be removed. Here by functions that come before the C library's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "train/checkpoint.h"
#include "train/output.h"

#define OK(call) do { kf_err e_; if ((call) != KF_OK) fail_msg("%s", e_.text); } while (0)

static char kept[KF_PATH_MAX];     /* the file of another name; "": none */
static char out[64];

static bool is_open(const char *path)
{
	for (int fd = 3; fd < 64; fd++)
		if (kf_lock_same(fd, path)) return true;
	return false;
}

int unlink(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (strstr(path, "/.nfs")) {
		errno = EBUSY;
		return -1;
	}
	if (slash && is_open(path)) {
		snprintf(kept, sizeof kept, "%.*s/.nfs0001", (int)(slash - path), path);
		return rename(path, kept);
	}
	return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int remove(const char *path)
{
	const int rc = unlink(path);

	return rc < 0 && errno == EISDIR ? rmdir(path) : rc;
}

int close(int fd)
{
	const int rc = (int)syscall(SYS_close, fd);

	if (kept[0] && !is_open(kept)) {
		syscall(SYS_unlinkat, AT_FDCWD, kept, 0);
		kept[0] = 0;
	}
	return rc;
}

static const char *at(const char *name)
{
	static char path[4][128];
	static int i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof path[i], "%s/%s", out, name);
	return path[i];
}

static void touch(const char *name)
{
	FILE *f = fopen(at(name), "w");

	assert_non_null(f);
	fclose(f);
}

/* A run that ended, or was killed before it had removed its state. */
static void make_state(kf_lock *lock)
{
	mkdir(at("state"), 0777);
	mkdir(at("state/best-1"), 0777);
	touch("state/identity.json");
	touch("state/step-000000003.ckpt");
	touch("state/best-1/model.safetensors");
	OK(kf_lock_take(lock, at("state/lock"), false, false, out, &e_));
}

static void test_own_lock(void **state)
{
	kf_lock lock;

	(void)state;
	make_state(&lock);
	OK(kf_output_end(out, true, &lock, &e_));
	assert_true(kf_exists(at("state/step-000000003.ckpt")) && !kf_exists(at("state/best-1")) && lock.fd >= 0);
	OK(kf_output_end(out, false, &lock, &e_));
	assert_false(kf_exists(at("state")));
	assert_int_equal(lock.fd, -1);
	OK(kf_output_end(out, false, &lock, &e_));
}

/* Another run, on the same machine, that has opened the lock's file to see whether it gets it. */
static void test_waits(void **state)
{
	kf_lock lock, next;
	int fd;

	(void)state;
	make_state(&lock);
	assert_true((fd = open(at("state/lock"), O_RDWR)) >= 0);
	OK(kf_output_end(out, false, &lock, &e_));
	assert_false(kf_exists(at("state/step-000000003.ckpt")) || kf_exists(at("state/lock")));
	assert_false(kf_lock_same(fd, at("state/lock")));   /* it sees that this is no lock any more, and takes a new one */
	OK(kf_lock_take(&next, at("state/lock"), false, false, out, &e_));
	close(fd);
	OK(kf_output_end(out, false, &next, &e_));
	assert_false(kf_exists(at("state")));
}

/* What another run made since it was looked. */
static void test_no_lock(void **state)
{
	kf_lock lock, none = KF_LOCK_NONE;

	(void)state;
	make_state(&lock);
	OK(kf_output_end(out, false, &none, &e_));
	assert_true(kf_exists(at("state/step-000000003.ckpt")) && kf_exists(at("state/lock")));
	OK(kf_output_end(out, false, &lock, &e_));
}

static int setup(void **state)
{
	(void)state;
	snprintf(out, sizeof out, "/tmp/kf-output-XXXXXX");
	return mkdtemp(out) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_lock),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_no_lock),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
