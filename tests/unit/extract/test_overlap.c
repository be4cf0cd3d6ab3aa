/* kf_extract reads, computes and writes at once: while a group is computed the next one is read, and the one before is written. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <cmocka.h>

#include "common/base/file.h"
#include "common/store/record.h"
#include "common/base/progress.h"
#include "extract/extract.h"

#define OK(call) do { kf_err e_; if ((call) != KF_OK) fail_msg("%s", e_.text); } while (0)

enum { SHARDS = 4, WAIT = 20 };   /* a document a shard, hence a group a shard */

/* How far each of the three has come; -1: not begun. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	bool watch;
	int opened, computing;     /* the last shard of the corpus that was opened; whose head is computed */
	pthread_t computes;
	bool read_ahead, written_behind, by_others;
} far = { .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER, .opened = -1, .computing = -1, .by_others = true };

static bool reaches(const int *what, int n)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT;
	while (*what < n && pthread_cond_timedwait(&far.moved, &far.lock, &until) == 0) {}
	return *what >= n;
}

static int shard_of(const char *path, const char *in)
{
	const char *name = strstr(path, "/shard-");

	return far.watch && name && strstr(path, in) ? atoi(name + 7) : -1;
}

/* In the C library's stead: opening a shard, and giving a finished one its name. */
int open(const char *path, int flags, ...)
{
	int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	const int shard = shard_of(path, "/corpus/");
	va_list ap;
	mode_t mode = 0;

	if (shard >= 0) {
		pthread_mutex_lock(&far.lock);
		far.opened = shard;
		if (shard > 0 && pthread_equal(far.computes, pthread_self())) far.by_others = false;
		pthread_cond_broadcast(&far.moved);
		pthread_mutex_unlock(&far.lock);
	}
	va_start(ap, flags);
	if (flags & O_CREAT) mode = va_arg(ap, mode_t);
	va_end(ap);
	return real(path, flags, mode);
}

int rename(const char *from, const char *to)
{
	int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
	const int shard = shard_of(to, "/logits/");

	if (shard >= 0 && shard + 1 < SHARDS) {
		pthread_mutex_lock(&far.lock);
		if (pthread_equal(far.computes, pthread_self())) far.by_others = false;
		else if (!reaches(&far.computing, shard + 1)) far.written_behind = false;
		pthread_mutex_unlock(&far.lock);
	}
	return real(from, to);
}

/* A head that does not begin before the next shard is being read. */
static kf_status head_score(kf_exec *x, const kf_num *hidden, const kf_mat *w, int T, const kf_score_query *q, kf_score *out, kf_err *err)
{
	pthread_mutex_lock(&far.lock);
	far.computes = pthread_self();
	far.computing++;
	pthread_cond_broadcast(&far.moved);
	if (far.computing + 1 < SHARDS && !reaches(&far.opened, far.computing + 1)) far.read_ahead = false;
	pthread_mutex_unlock(&far.lock);
	return kf_ops_cpu.head_score(x, hidden, w, T, q, out, err);
}

static void make_corpus(const char *dir)
{
	const kf_set_spec spec = { .dir = dir, .kind = KF_SET_CORPUS, .program = "test", .n_shards = SHARDS };
	kf_set_writer *w;
	kf_set_state state;
	bool complete;

	OK(kf_set_begin(&spec, &w, &state, &e_));
	for (int s = 0; s < SHARDS; s++) {
		static const char text[] = "The miller's cat said: what has the donkey understood of it?";
		const kf_corpus_rec rec = { .head = { .doc = (uint64_t)s, .id = "", .domain = "", .bytes = sizeof text - 1 }, .text = (const uint8_t *)text };
		kf_shard_writer *sw;

		OK(kf_shard_begin(w, s, &sw, &e_));
		OK(kf_shard_put_corpus(sw, &rec, &e_));
		OK(kf_shard_commit(sw, &e_));
	}
	OK(kf_set_commit(w, NULL, &complete, &e_));
}

static void overlap(void **state)
{
	char tmp[] = "/tmp/kf-overlap-XXXXXX", corpus[64], logits[64];
	kf_ops ops = kf_ops_cpu;
	kf_extract_stats stats;

	(void)state;
	assert_non_null(mkdtemp(tmp));
	snprintf(corpus, sizeof corpus, "%s/corpus", tmp);
	snprintf(logits, sizeof logits, "%s/logits", tmp);
	make_corpus(corpus);
	ops.head_score = head_score;
	far.watch = far.read_ahead = far.written_behind = true;
	const kf_extract_opts o = { .model = "tests/models/llama-tiny", .corpus = corpus, .out = logits, .top_k = 5, .batch_tokens = 100,
		.byte_path = true, .path_min = 1, .path_extra = 4, .stream = KF_STREAM_NO, .ops = &ops, .compute = KF_COMPUTE_F32, .threads = 1,
		.parts = 1, .folds = 1, .progress = KF_PROGRESS_NONE };

	OK(kf_extract(&o, &stats, &e_));
	far.watch = false;
	assert_true(stats.complete);
	assert_int_equal(stats.documents, SHARDS);
	assert_int_equal(far.computing, SHARDS - 1);
	if (!far.read_ahead) fail_msg("a group was computed while nobody read the next");
	if (!far.written_behind) fail_msg("nothing was computed while a group was written");
	assert_true(far.by_others);
	assert_true(stats.waited_text >= 0 && stats.waited_writer >= 0 && stats.waited_text + stats.waited_writer <= stats.seconds);
	snprintf(corpus, sizeof corpus, "rm -rf %s", tmp);
	assert_int_equal(system(corpus), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(overlap) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
