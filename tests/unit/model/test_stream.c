/* Layer by layer: every tiny model gives the same answers to the bit, however blocks are cut, with activations in memory or
 * in a file, and on a backend that must have matrices in its memory; what is read is what is needed; the reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "common/model/readahead.h"
#include "common/model/stream.h"

#define OK(call) do { kf_err e_; if ((call) != KF_OK) fail_msg("%s", e_.text); } while (0)

enum { BATCHES = 5, MOST = 40, K = 4 };

/* Batches of one to three sequences, and what the head is asked: all rows, or every other. */
typedef struct {
	int32_t tokens[BATCHES][MOST], offset[BATCHES][4], rows[BATCHES][MOST], labels[BATCHES][MOST];
	kf_batch batch[BATCHES];
	kf_score_query q[BATCHES];
	float ce[2][BATCHES][MOST], lp[2][BATCHES][MOST * K];
	int32_t ids[2][BATCHES][MOST * K];
	kf_score out[2][BATCHES];   /* 0: batch by batch, 1: streamed */
	size_t taken;
	double way[BATCHES];        /* shares of each batch, added up */
} work;

static void make_work(work *w, int V, int sequence)
{
	kf_rng rng;

	*w = (work){ 0 };
	kf_rng_seed(&rng, 7);
	for (int b = 0; b < BATCHES; b++) {
		int S = 1 + b % 3, T = 0, asked = 0;

		for (int s = 0; s < S; s++) {
			T += 1 + (int)kf_rng_below(&rng, b == 3 ? 1 : (uint64_t)sequence);
			w->offset[b][s + 1] = T;
		}
		for (int t = 0; t < T; t++) {
			w->tokens[b][t] = (int32_t)kf_rng_below(&rng, (uint64_t)V);
			if (b % 2 == 0 || t % 2)
				w->rows[b][asked++] = t;
			w->labels[b][t] = (int32_t)kf_rng_below(&rng, (uint64_t)V);
		}
		w->batch[b] = (kf_batch){ .T = T, .S = S, .tokens = w->tokens[b], .offset = w->offset[b] };
		w->q[b] = (kf_score_query){ .k = K, .labels = w->labels[b] };
		if (asked < T) {
			w->q[b].rows = w->rows[b];
			w->q[b].n_rows = asked;
		}
		for (int i = 0; i < 2; i++)
			w->out[i][b] = (kf_score){ .ce = w->ce[i][b], .top_ids = w->ids[i][b], .top_lp = w->lp[i][b] };
	}
}

typedef struct {
	kf_pool *pool;
	kf_exec *x;
	kf_weights *w;
	kf_model *m;
} rig;

static void rig_open(rig *r, const char *path, const kf_ops *ops, bool stream)
{
	const kf_model_opts opts = { .stream = stream };

	OK(kf_pool_new(2, &r->pool, &e_));
	OK(kf_exec_new(ops, r->pool, KF_COMPUTE_F32, &r->x, &e_));
	OK(kf_weights_open(path, &r->w, &e_));
	OK(kf_model_new(r->w, r->x, &opts, &r->m, &e_));
}

static void rig_close(rig *r)
{
	kf_model_free(r->m);
	kf_weights_close(r->w);
	kf_exec_free(r->x);
	kf_pool_free(r->pool);
}

typedef struct { work *w; size_t from; } block;

static kf_status ask(void *arg, size_t i, const kf_score_query **q, kf_score **out, kf_err *err)
{
	block *b = arg;

	(void)err;
	assert_int_equal(b->w->taken, b->from + i);   /* one after the other */
	*q = &b->w->q[b->from + i];
	*out = &b->w->out[1][b->from + i];
	return KF_OK;
}

static void take(void *arg, size_t i)
{
	(void)i;
	((block *)arg)->w->taken++;
}

static void step(void *arg, size_t i, double share) { ((block *)arg)->w->way[((block *)arg)->from + i] += share; }

/* Streams the work in blocks of `size` batches. */
static kf_stream_stats stream(rig *r, work *w, size_t size, const char *scratch)
{
	kf_stream_stats stats;
	kf_stream *s;

	w->taken = 0;
	memset(w->way, 0, sizeof w->way);
	OK(kf_stream_new(r->m, scratch, &s, &e_));
	for (size_t at = 0; at < BATCHES; at += size) {
		block arg = { w, at };
		const size_t n = BATCHES - at < size ? BATCHES - at : size;
		const kf_stream_block b = { .batch = w->batch + at, .n = n, .more = at + n < BATCHES, .ask = ask, .take = take,
			.step = step, .arg = &arg };

		OK(kf_stream_run(s, &b, &e_));
	}
	stats = kf_stream_get_stats(s);
	kf_stream_free(s);
	assert_int_equal(w->taken, BATCHES);
	assert_int_equal(stats.blocks, (BATCHES + size - 1) / size);
	for (int b = 0; b < BATCHES; b++)
		assert_float_equal(w->way[b], 1, 1e-9);
	return stats;
}

static void score_all(rig *r, work *w)
{
	for (int b = 0; b < BATCHES; b++)
		OK(kf_model_score(r->m, &w->batch[b], &w->q[b], &w->out[0][b], &e_));
}

static void same(const work *w, const char *path)
{
	for (int b = 0; b < BATCHES; b++) {
		const size_t n = (size_t)(w->q[b].rows ? w->q[b].n_rows : w->batch[b].T);

		if (memcmp(w->ce[0][b], w->ce[1][b], n * 4) || memcmp(w->ids[0][b], w->ids[1][b], n * K * 4) ||
		    memcmp(w->lp[0][b], w->lp[1][b], n * K * 4))
			fail_msg("%s: batch %d is not the same when it is streamed", path, b);
	}
}

/* fn for every model below a folder: folders with a config.json, and GGUF files. Returns how many. */
static int each_model(const char *dir, void (*fn)(const char *path))
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		char path[512], config[600];
		const size_t len = strlen(e->d_name);

		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		snprintf(config, sizeof config, "%s/config.json", path);
		if (!kf_exists(config) && !(len > 5 && !strcmp(e->d_name + len - 5, ".gguf")))
			continue;
		fn(path);
		n++;
	}
	closedir(d);
	return n;
}

static void streamed_is_same(const char *path)
{
	static const size_t sizes[] = { 1, 2, BATCHES };
	rig plain, streamed;
	work w;

	rig_open(&plain, path, &kf_ops_cpu, false);
	make_work(&w, kf_model_arch(plain.m)->V, 12);
	score_all(&plain, &w);
	rig_close(&plain);
	for (size_t i = 0; i < 3; i++)
		for (int scratch = 0; scratch < 2; scratch++) {
			memset(w.ce[1], 0xff, sizeof w.ce[1]);
			rig_open(&streamed, path, &kf_ops_cpu, true);
			stream(&streamed, &w, sizes[i], scratch ? "." : NULL);
			same(&w, path);
			rig_close(&streamed);
		}
}

static void test_same(void **state)
{
	(void)state;
	assert_true(each_model("tests/models", streamed_is_same) >= 4);
	assert_true(each_model("tests/models/families", streamed_is_same) >= 28);
}

/* ---- a backend that must have matrices in its memory ---- */

static struct { size_t live, peak; } memory;

static void *count_alloc(kf_exec *x, size_t n, size_t size)
{
	char *p = kf_alloc(n * size + KF_ALIGN, 1);

	(void)x;
	assert_non_null(p);
	*(size_t *)(void *)p = n * size;
	memory.live += n * size;
	if (memory.live > memory.peak)
		memory.peak = memory.live;
	return p + KF_ALIGN;
}

static void count_free(kf_exec *x, void *p)
{
	char *q = (char *)p - KF_ALIGN;

	(void)x;
	memory.live -= *(size_t *)(void *)q;
	kf_free(q);
}

static kf_status linear_there(kf_exec *x, kf_num *y, const kf_num *in, const kf_mat *w, const float *bias, int T, bool add,
	kf_err *err)
{
	assert_non_null(w->num);
	return kf_ops_cpu.linear(x, y, in, w, bias, T, add, err);
}

static kf_status embed_there(kf_exec *x, kf_num *y, const kf_mat *table, const int32_t *tokens, float scale, int T, kf_err *err)
{
	assert_non_null(table->num);
	return kf_ops_cpu.embed(x, y, table, tokens, scale, T, err);
}

static kf_status head_there(kf_exec *x, const kf_num *hidden, const kf_mat *w, int T, const kf_score_query *q, kf_score *out,
	kf_err *err)
{
	assert_non_null(w->num);
	return kf_ops_cpu.head_score(x, hidden, w, T, q, out, err);
}

static void device_is_same(const char *path)
{
	kf_ops ops = kf_ops_cpu;
	rig plain, streamed;
	size_t whole;
	work w;

	ops.resident = true;
	ops.alloc = count_alloc;
	ops.free = count_free;
	ops.linear = linear_there;
	ops.embed = embed_there;
	ops.head_score = head_there;
	memory.live = memory.peak = 0;
	rig_open(&plain, path, &ops, false);
	make_work(&w, kf_model_arch(plain.m)->V, 12);
	score_all(&plain, &w);
	rig_close(&plain);
	whole = memory.peak;
	assert_int_equal(memory.live, 0);
	memory.peak = 0;
	rig_open(&streamed, path, &ops, true);
	stream(&streamed, &w, 2, NULL);
	same(&w, path);
	rig_close(&streamed);
	assert_int_equal(memory.live, 0);
	assert_true(memory.peak < whole);
}

static void test_device(void **state)
{
	(void)state;
	each_model("tests/models", device_is_same);
	each_model("tests/models/families", device_is_same);
}

/* ---- what is read ---- */

static uint64_t bytes_of(const kf_tensor *t) { return kf_dtype_row_bytes(t->dtype, t->cols) * t->rows; }

static void test_read_once(void **state)
{
	kf_stream_sizes z;
	uint64_t vectors = 0;
	rig r;
	work w;

	(void)state;
	rig_open(&r, "tests/models/llama-untied", &kf_ops_cpu, true);
	make_work(&w, kf_model_arch(r.m)->V, 12);
	z = kf_stream_sizes_of(r.w);
	for (int i = 0; i < kf_weights_count(r.w); i++)
		if (kf_weights_at(r.w, i)->n_dims == 1 && kf_arch_place(kf_weights_arch(r.w), i).layer >= 0)
			vectors += bytes_of(kf_weights_at(r.w, i));
	assert_int_equal(z.a_block, z.layers + z.head);
	assert_true(z.resident < z.all);
	assert_int_equal(stream(&r, &w, BATCHES, NULL).bytes, z.a_block - vectors);
	rig_close(&r);
	rig_open(&r, "tests/models/llama-untied", &kf_ops_cpu, true);
	assert_int_equal(stream(&r, &w, 2, NULL).bytes, 3 * (z.a_block - vectors));
	rig_close(&r);
}

/* One token goes to two of four experts in each layer: the others are not read. */
static void test_experts(void **state)
{
	rig r;
	work w;
	uint64_t want = 0, expert = 0;
	const kf_arch *a;

	(void)state;
	rig_open(&r, "tests/models/families/mixtral-2-of-4", &kf_ops_cpu, true);
	a = kf_model_arch(r.m);
	make_work(&w, a->V, 12);
	for (int b = 0; b < BATCHES; b++) {   /* the same single token everywhere */
		w.tokens[b][0] = 5;
		w.offset[b][1] = 1;
		w.batch[b].T = w.batch[b].S = 1;
		w.q[b].rows = NULL;
	}
	for (int i = 0; i < kf_weights_count(r.w); i++) {
		const kf_place at = kf_arch_place(a, i);
		const kf_tensor *t = kf_weights_at(r.w, i);

		if (t->n_dims < 2 || at.part == KF_P_EMBED)
			continue;
		*(at.expert >= 0 ? &expert : &want) += bytes_of(t);
	}
	if (a->tied)
		want += bytes_of(kf_weights_at(r.w, 0));
	assert_int_equal(a->experts, 4);
	assert_int_equal(stream(&r, &w, BATCHES, NULL).bytes, want + expert / 4 * 2);
	rig_close(&r);
}

static void test_refuses(void **state)
{
	kf_stream *s;
	rig r;
	work w;
	kf_err err;

	(void)state;
	rig_open(&r, "tests/models/llama-tiny", &kf_ops_cpu, false);
	assert_int_equal(kf_stream_new(r.m, NULL, &s, &err), KF_EINVAL);
	assert_null(s);
	rig_close(&r);
	rig_open(&r, "tests/models/llama-tiny", &kf_ops_cpu, true);
	make_work(&w, kf_model_arch(r.m)->V, 12);
	assert_int_equal(kf_model_score(r.m, &w.batch[0], &w.q[0], &w.out[0][0], &err), KF_EINVAL);
	assert_int_equal(kf_stream_new(r.m, "tests/nosuch", &s, &err), KF_ENOTFOUND);
	OK(kf_stream_new(r.m, NULL, &s, &e_));
	block arg = { &w, 0 };
	const kf_stream_block b = { .batch = w.batch, .n = 1, .ask = ask, .take = take, .arg = &arg };
	w.tokens[0][0] = kf_model_arch(r.m)->V;
	assert_int_equal(kf_stream_run(s, &b, &err), KF_EINVAL);
	kf_stream_free(s);
	rig_close(&r);
}

/* ---- the reader ---- */

static void test_reader(void **state)
{
	char path[] = "./kf-reader.XXXXXX";
	const size_t size = 9u << 20;
	int fd = mkstemp(path);
	kf_map map = { 0 };
	kf_reader *r;
	kf_err err;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	OK(kf_map_open(&map, path, &e_));
	unlink(path);
	const kf_tensor t = { .name = "there", .dtype = KF_F32, .rows = 1000, .cols = 2000, .n_dims = 2, .data = map.data + 100 },
		late = { .name = "late", .dtype = KF_F32, .rows = 1, .cols = 1000, .n_dims = 1, .data = map.data + size - 4000 };
	OK(kf_reader_new(&r, &e_));
	OK(kf_reader_wait(r, &e_));   /* for nothing */
	for (int i = 0; i < 200; i++)
		OK(kf_reader_want(r, &t, i % 2, &e_));
	OK(kf_reader_wait(r, &e_));
	assert_int_equal(kf_reader_get_stats(r).bytes, 200u * 8000000);
	assert_true(kf_reader_cached(&t) >= 8000000);
	/* a file that has become shorter is an error with a name, not the end of the program */
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	OK(kf_reader_want(r, &late, false, &e_));
	assert_int_equal(kf_reader_wait(r, &err), KF_EIO);
	assert_non_null(strstr(err.text, "late"));
	/* left in the middle of its work */
	for (int i = 0; i < 100; i++)
		OK(kf_reader_want(r, &late, false, &e_));
	kf_reader_free(r);
	kf_map_close(&map);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same), cmocka_unit_test(test_device), cmocka_unit_test(test_read_once),
		cmocka_unit_test(test_experts), cmocka_unit_test(test_refuses), cmocka_unit_test(test_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
