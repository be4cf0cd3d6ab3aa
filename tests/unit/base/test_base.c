/* common/base: errors, memory, files, hashing, random numbers, threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/behind.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/pool.h"
#include "common/base/progress.h"
#include "common/base/rng.h"

static void errors_carry_context(void **state)
{
	kf_err err;

	(void)state;
	assert_int_equal(kf_fail(&err, KF_EDATA, "record %d is short", 7), KF_EDATA);
	assert_int_equal(kf_context(&err, KF_EDATA, "%s", "x.lmdb"), KF_EDATA);
	assert_string_equal(err.text, "x.lmdb: record 7 is short");
	assert_int_equal(kf_context(&err, KF_OK, "not"), KF_OK);
	assert_string_equal(err.text, "x.lmdb: record 7 is short");
	errno = ENOENT;
	assert_int_equal(kf_fail_errno(&err, "cannot open %s", "y"), KF_ENOTFOUND);
	assert_string_equal(err.text, "cannot open y: No such file or directory");
	assert_int_equal(kf_fail(NULL, KF_EINVAL, "no place for a message"), KF_EINVAL);
}

static void allocation_refuses_overflow(void **state)
{
	kf_arena a;
	void *p;

	(void)state;
	assert_null(kf_alloc(SIZE_MAX / 2, 4));
	assert_null(kf_alloc(SIZE_MAX, 1));
	kf_arena_init(&a);
	assert_null(kf_arena_alloc(&a, SIZE_MAX / 4, 8));
	for (int i = 0; i < 1000; i++) {
		char *q = kf_arena_alloc(&a, (size_t)i, 7);

		assert_non_null(q);
		assert_int_equal((uintptr_t)q % KF_ALIGN, 0);
		memset(q, i, (size_t)i * 7);
	}
	kf_arena_reset(&a);
	assert_int_equal(a.used, 0);
	assert_string_equal(kf_arena_strdup(&a, "abcdef", 3), "abc");
	kf_arena_release(&a);
	p = kf_alloc(0, 8);
	assert_non_null(p);
	kf_free(p);
}

static void cursors_stop_at_the_end(void **state)
{
	kf_buf b = { 0 };
	kf_cur c;
	size_t n;
	static const uint8_t endless[11] = { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255 };

	(void)state;
	kf_buf_u8(&b, 200);
	kf_buf_u16(&b, 0xabcd);
	kf_buf_u32(&b, 0xdeadbeef);
	kf_buf_u64(&b, UINT64_MAX);
	kf_buf_f32(&b, -1.5f);
	kf_buf_varint(&b, 300);
	kf_buf_varint(&b, UINT64_MAX);
	kf_buf_str(&b, "text");
	c = kf_cur_of(b.data, b.len);
	assert_int_equal(kf_cur_u8(&c), 200);
	assert_int_equal(kf_cur_u16(&c), 0xabcd);
	assert_int_equal(kf_cur_u32(&c), 0xdeadbeef);
	assert_true(kf_cur_u64(&c) == UINT64_MAX);
	assert_true(kf_cur_f32(&c) == -1.5f);
	assert_int_equal(kf_cur_varint(&c), 300);
	assert_true(kf_cur_varint(&c) == UINT64_MAX);
	assert_memory_equal(kf_cur_str(&c, &n), "text", 4);
	assert_int_equal(n, 4);
	assert_false(c.bad);
	assert_int_equal(kf_cur_left(&c), 0);
	assert_int_equal(kf_cur_u32(&c), 0);
	assert_true(c.bad);
	c = kf_cur_of(endless, sizeof endless);
	kf_cur_varint(&c);
	assert_true(c.bad);
	c = kf_cur_of("\x7f" "ab", 3); /* a string that says it is longer than what is there */
	kf_cur_str(&c, &n);
	assert_true(c.bad);
	kf_buf_release(&b);
}

static void files_are_written_whole(void **state)
{
	char dir[] = "/tmp/kfuse-base-XXXXXX", path[KF_PATH_MAX], deep[KF_PATH_MAX];
	kf_buf b = { 0 };
	kf_map map = { 0 };
	kf_err err;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(kf_path_join(deep, dir, "a/b/c", &err), KF_OK);
	assert_int_equal(kf_mkdirs(deep, &err), KF_OK);
	assert_int_equal(kf_mkdirs(deep, &err), KF_OK);
	assert_int_equal(kf_path_join(path, deep, "f", &err), KF_OK);
	assert_int_equal(kf_file_write_atomic(path, "hello", 5, &err), KF_OK);
	assert_int_equal(kf_file_write_atomic(path, "hello there", 11, &err), KF_OK);
	assert_int_equal(kf_file_read(path, 11, &b, &err), KF_OK);
	assert_string_equal((char *)b.data, "hello there");
	assert_int_equal(kf_file_read(path, 10, &b, &err), KF_EDATA);
	assert_int_equal(kf_map_open(&map, path, &err), KF_OK);
	assert_int_equal(map.size, 11);
	kf_map_close(&map);
	assert_int_equal(kf_map_open(&map, deep, &err), KF_EINVAL);
	assert_int_equal(kf_file_read("/nonexistent/f", 10, &b, &err), KF_ENOTFOUND);
	assert_int_equal(kf_file_write_atomic("/nonexistent/f", "x", 1, &err), KF_ENOTFOUND);
	strcat(path, "/g"); /* a folder under a file */
	assert_int_not_equal(kf_mkdirs(path, &err), KF_OK);
	kf_buf_release(&b);
	path[strlen(path) - 2] = 0;
	unlink(path);
	for (char *p = deep; strlen(p) >= strlen(dir); *strrchr(p, '/') = 0) rmdir(p);
}

static void fingerprints_round_trip(void **state)
{
	char hex[KF_FP_HEX];
	kf_fp a = kf_fp_of("abc", 3), b;
	kf_hasher *h = kf_hasher_new();

	(void)state;
	kf_fp_hex(a, hex);
	assert_string_equal(hex, "06b05ab6733a618578af5f94892f3950"); /* XXH3-128 of "abc", as published */
	assert_true(kf_fp_parse(hex, &b));
	assert_true(kf_fp_equal(a, b));
	kf_hasher_add(h, "a", 1);
	kf_hasher_add(h, "bc", 2);
	assert_true(kf_fp_equal(kf_hasher_fp(h), a));
	kf_hasher_free(h);
	assert_false(kf_fp_parse("06b0", &b));
	hex[3] = 'X';
	assert_false(kf_fp_parse(hex, &b));
}

static void random_numbers_are_fixed_and_even(void **state)
{
	kf_rng r;
	int count[6] = { 0 };
	double sum = 0, sq = 0;

	(void)state;
	kf_rng_seed(&r, 0);
	assert_true(r.s[0] == 0xe220a8397b1dcdafu); /* splitmix64's first output for seed 0 */
	for (int i = 0; i < 60000; i++) count[kf_rng_below(&r, 6)]++;
	for (int i = 0; i < 6; i++) assert_in_range(count[i], 9600, 10400);
	for (int i = 0; i < 20000; i++) {
		double x = kf_rng_normal(&r);

		sum += x;
		sq += x * x;
	}
	assert_true(sum / 20000 > -0.04 && sum / 20000 < 0.04);
	assert_true(sq / 20000 > 0.95 && sq / 20000 < 1.05);
}

typedef struct { atomic_int hit[1000]; atomic_int nested; kf_pool *pool; } tally;

static void nested_task(void *arg, size_t i, int w)
{
	(void)i; (void)w;
	atomic_fetch_add(&((tally *)arg)->nested, 1);
}

static void count_task(void *arg, size_t i, int w)
{
	tally *t = arg;

	assert_true(w >= 0 && w < 3);
	atomic_fetch_add(&t->hit[i], 1);
	if (i == 5) kf_pool_run(t->pool, 10, nested_task, t);
}

static void range_task(void *arg, size_t begin, size_t end, int w)
{
	tally *t = arg;

	(void)w;
	assert_int_equal(begin % 16, 0);
	for (size_t i = begin; i < end; i++) atomic_fetch_add(&t->hit[i], 1);
}

static void pools_do_everything_once(void **state)
{
	static tally t;
	kf_err err;

	(void)state;
	for (int size = 1; size <= 3; size++) {
		memset(&t, 0, sizeof t);
		assert_int_equal(kf_pool_new(size, &t.pool, &err), KF_OK);
		for (int round = 1; round <= 50; round++) {
			kf_pool_run(t.pool, 1000, count_task, &t);
			for (int i = 0; i < 1000; i++) assert_int_equal(t.hit[i], round);
			assert_int_equal(t.nested, round * 10);
		}
		kf_pool_split(t.pool, 999, 16, range_task, &t);
		for (int i = 0; i < 999; i++) assert_int_equal(t.hit[i], 51);
		assert_int_equal(t.hit[999], 50);
		kf_pool_free(t.pool);
	}
}

typedef struct { int step, fails_at; int *last; } errand;

/* Follows the one before, never beside it. */
static kf_status run_errand(void *arg, kf_err *err)
{
	errand *e = arg;

	usleep((unsigned)(e->step % 3) * 300);
	if (*e->last != e->step - 1) return kf_fail(err, KF_EINVAL, "step %d after %d", e->step, *e->last);
	if (e->step == e->fails_at) return kf_fail(err, KF_EIO, "step %d failed", e->step);
	*e->last = e->step;
	return KF_OK;
}

static void work_goes_on_behind(void **state)
{
	errand e[50];

	(void)state;
	for (int fails_at = -1; fails_at < 20; fails_at += 20) {
		int last = -1, given = 0;
		kf_behind *b;
		kf_status rc = KF_OK;
		kf_err err;

		assert_int_equal(kf_behind_new(&b, &err), KF_OK);
		assert_int_equal(kf_behind_wait(b, &err), KF_OK);
		for (; given < 50 && rc == KF_OK; given++) {
			e[given] = (errand){ .step = given, .fails_at = fails_at, .last = &last };
			rc = kf_behind_do(b, run_errand, &e[given], &err);
		}
		if (fails_at < 0) {
			assert_int_equal(rc, KF_OK);
			assert_int_equal(kf_behind_wait(b, &err), KF_OK);
			assert_int_equal(last, 49);
		} else {
			/* told when the next is given, and again at the end; nothing is done after it */
			assert_int_equal(given, fails_at + 2);
			assert_int_equal(rc, KF_EIO);
			assert_string_equal(err.text, "step 19 failed");
			assert_int_equal(kf_behind_do(b, run_errand, &e[0], &err), KF_EIO);
			assert_int_equal(kf_behind_wait(b, &err), KF_EIO);
			assert_int_equal(last, fails_at - 1);
		}
		kf_behind_free(b);
	}
	kf_behind_free(NULL);
}

static void models_are_called_by_their_paths(void **state)
{
	static const struct { const char *path, *name; } of[] = {
		{ "models/m.gguf", "m" }, { "m.gguf", "m" }, { "m", "m" }, { "a/m/", "m" }, { "a/m//", "m" }, { "a.gguf/", "a" }, { ".gguf", ".gguf" },
		{ "runs/m/epoch-2", "m-epoch-2" }, { "m//epoch-2/", "m-epoch-2" }, { "epoch-2", "epoch-2" }, { "/epoch-2", "epoch-2" }, { "a/epoch-", "epoch-" },
		{ "", "" },
	};
	char name[KF_NAME_MAX], path[600];

	(void)state;
	for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
		kf_path_name(of[i].path, name);
		assert_string_equal(name, of[i].name);
	}
	memset(path, 'x', sizeof path - 1);
	path[sizeof path - 1] = 0;
	kf_path_name(path, name);
	assert_int_equal(strlen(name), KF_NAME_MAX - 1);
}

static void figures_read_well(void **state)
{
	static const struct { double n; const char *want; } counts[] = {
		{ 0, "0" }, { 12, "12" }, { 1.5, "1.5" }, { 999, "999" }, { 1234567, "1.23M" }, { 12345, "12.3k" },
		{ 123456, "123k" }, { 999999, "1.00M" }, { 1.8e9, "1.80G" } };
	static const struct { double s; const char *want; } times[] = {
		{ 0, "0s" }, { 2.34, "2.3s" }, { 59, "59s" }, { 61, "1m01s" }, { 3725, "1h02m" }, { 100000, "27h46m" }, { 200000, "2d07h" },
		{ 400000, "4d15h" } };
	char out[32];

	(void)state;
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		kf_format_count(out, sizeof out, counts[i].n);
		assert_string_equal(out, counts[i].want);
	}
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		kf_format_time(out, sizeof out, times[i].s);
		assert_string_equal(out, times[i].want);
	}
}

/* Files of a made-up machine, below a folder: path, content, .. NULL. */
static void put_files(const char *root, const char *const *files)
{
	for (; *files; files += 2) {
		char path[512], dir[512];
		kf_err err;

		snprintf(path, sizeof path, "%s%s", root, files[0]);
		snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
		assert_int_equal(kf_mkdirs(dir, &err), KF_OK);
		assert_int_equal(kf_file_write_atomic(path, files[1], strlen(files[1]), &err), KF_OK);
	}
}

static void memory_is_what_may_be_used(void **state)
{
	static const char *const machine[] = {
		"/proc/meminfo", "MemTotal:       10000 kB\nMemFree:  100 kB\nMemAvailable:    4000 kB\n", NULL
	}, *const v2[] = {
		"/proc/self/cgroup", "0::/batch/job 7\n",
		"/sys/fs/cgroup/batch/memory.max", "6144000\n", "/sys/fs/cgroup/batch/memory.current", "5120000\n",
		"/sys/fs/cgroup/batch/memory.stat", "anon 1\ninactive_file 1024000\nactive_file 1024000\n",
		"/sys/fs/cgroup/batch/job 7/memory.max", "max\n", NULL
	}, *const v1[] = {
		"/proc/self/cgroup", "5:cpu,memory:/elsewhere\n0::/\n",
		"/sys/fs/cgroup/memory/memory.limit_in_bytes", "2048000\n",
		"/sys/fs/cgroup/memory/memory.usage_in_bytes", "4096000\n",
		"/sys/fs/cgroup/memory/memory.stat", "total_cache 9\ntotal_inactive_file 3072000\n", NULL
	};
	char root[] = "/tmp/kf-base.XXXXXX", command[64];
	kf_memory m;

	(void)state;
	assert_non_null(mkdtemp(root));
	m = kf_memory_now(root);
	assert_int_equal(m.available, 0);
	put_files(root, machine);
	m = kf_memory_now(root);
	assert_int_equal(m.total, 10240000);
	assert_int_equal(m.available, 4096000);
	assert_false(m.limited);
	/* the group above allows 6,000 kB, of which 3,000 are taken by what is no cache */
	put_files(root, v2);
	m = kf_memory_now(root);
	assert_int_equal(m.total, 6144000);
	assert_int_equal(m.available, 3072000);
	assert_true(m.limited);
	/* a container: the group's own path is not there, its limit is at the root of what is mounted */
	put_files(root, v1);
	m = kf_memory_now(root);
	assert_int_equal(m.total, 2048000);
	assert_int_equal(m.available, 1024000);
	assert_true(m.limited);
	snprintf(command, sizeof command, "rm -r %s", root);
	assert_int_equal(system(command), 0);
	m = kf_memory_now("");
	assert_true(m.total > 0 && m.available > 0 && m.available <= m.total);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_carry_context), cmocka_unit_test(allocation_refuses_overflow),
		cmocka_unit_test(cursors_stop_at_the_end), cmocka_unit_test(files_are_written_whole),
		cmocka_unit_test(fingerprints_round_trip), cmocka_unit_test(random_numbers_are_fixed_and_even),
		cmocka_unit_test(pools_do_everything_once), cmocka_unit_test(work_goes_on_behind),
		cmocka_unit_test(figures_read_well), cmocka_unit_test(models_are_called_by_their_paths), cmocka_unit_test(memory_is_what_may_be_used),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
