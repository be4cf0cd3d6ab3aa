/* Whole runs on a tiny model over targets made here: what they write, that they continue exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "train/checkpoint.h"
#include "train/data.h"

#define OK(call) do { kf_err e_; if ((call) != KF_OK) fail_msg("%s", e_.text); } while (0)
#define MODEL "tests/models/llama-tiny"
/* tests/unit/emu/test_train_emu.c runs all this on another backend */
#ifndef OPS
#define OPS kf_ops_cpu
#define COMPUTE KF_COMPUTE_F32
#define ROUNDING 1e-3
#endif
#define DOCS 20

static char tmp[64] = "";
static kf_pool *pool;
static kf_exec *ex;

static const char *at(const char *name)
{
	static char path[8][256];
	static int next;
	char *p = path[next++ % 8];

	snprintf(p, 256, "%s/%s", tmp, name);
	return p;
}

/* The label with probability 0.6, another token with 0.3; positions 3, 7, ... have nothing. */
static void put_doc(kf_shard_writer *sw, const kf_tokenizer *t, uint64_t doc)
{
	char text[128];
	kf_arena arena;
	kf_encoding e;
	kf_dist_rec rec;
	uint32_t *off, m = 0;
	int32_t *ids;
	float *lp, *tail, *ce;

	snprintf(text, sizeof text, "In %llu the cat and %llu donkeys rode %llu miles, not as clever as they'd like.",
		1700ull + doc * 7, doc % 5 + 2ull, 1ull * doc * doc);
	kf_arena_init(&arena);
	OK(kf_tokenizer_encode(t, (const uint8_t *)text, strlen(text), false, &arena, &e, &e_));
	off = KF_ARENA_NEW(&arena, uint32_t, e.n + 2);
	ids = KF_ARENA_NEW(&arena, int32_t, 2 * e.n + 2);
	lp = KF_ARENA_NEW(&arena, float, 2 * e.n + 2);
	tail = KF_ARENA_NEW(&arena, float, e.n + 1);
	ce = KF_ARENA_NEW(&arena, float, e.n);
	for (uint32_t p = 0; p <= e.n; p++) {
		off[p] = m;
		tail[p] = NAN;
		if (p < e.n)
			ce[p] = NAN;
		if (p == 0 || p == e.n || p % 4 == 3)
			continue;
		ids[m] = e.ids[p];
		lp[m++] = logf(0.6f);
		ids[m] = (e.ids[p] + 1) % 400;
		lp[m++] = logf(0.3f);
		tail[p] = 0.1f;
		ce[p] = -logf(0.6f);
	}
	off[e.n + 1] = m;
	rec = (kf_dist_rec){ .head = { .doc = doc, .id = "", .domain = "", .bytes = (uint32_t)strlen(text) }, .n = e.n,
		.tokens = e.ids, .start = e.start, .ce = ce, .off = off, .ids = ids, .lp = lp, .tail = tail };
	OK(kf_shard_put_dist(sw, &rec, &e_));
	kf_arena_release(&arena);
}

static void make_targets(const char *dir)
{
	kf_set_spec spec = { .dir = dir, .kind = KF_SET_TARGETS, .program = "test", .n_shards = 3 };
	kf_tokenizer *t;
	kf_buf saved = { 0 };
	kf_set_writer *w;
	kf_set_state state;
	bool complete;

	OK(kf_tokenizer_open_dir(MODEL, &t, &e_));
	OK(kf_tokenizer_save(t, &saved, &e_));
	spec.tokenizer = saved.data;
	spec.tokenizer_size = saved.len;
	OK(kf_set_begin(&spec, &w, &state, &e_));
	for (int s = 0; s < 3; s++) {
		kf_shard_writer *sw;

		OK(kf_shard_begin(w, s, &sw, &e_));
		for (uint64_t d = (uint64_t)s; d < DOCS; d += 3)
			put_doc(sw, t, d);
		OK(kf_shard_commit(sw, &e_));
	}
	OK(kf_set_commit(w, NULL, &complete, &e_));
	assert_true(complete);
	kf_buf_release(&saved);
	kf_tokenizer_free(t);
}

static kf_train_opts options(const char *out)
{
	return (kf_train_opts){ .model = MODEL, .targets = at("targets"), .out = out, .lambda = 0.4, .temperature = 1,
		.tail = KF_TAIL_REST, .lr = 3e-3, .warmup = 0.1, .decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .clip = 1,
		.batch_tokens = 150, .micro_tokens = 70, .epochs = 2, .seed = 3, .progress = 2 };
}

static kf_status go(kf_train_opts *o, kf_train_result *r, kf_err *err)
{
	kf_status rc;

	o->record = json_pack("{s:f, s:i, s:i}", "lambda", o->lambda, "epochs", (int)o->epochs, "max-steps", (int)o->max_steps);
	rc = kf_train(o, ex, r, err);
	json_decref(o->record);
	return rc;
}

/* The steps' losses in a log. */
static int losses(const char *out, double *loss, int max)
{
	char path[512], line[1024];
	FILE *f;
	int n = 0;

	snprintf(path, sizeof path, "%s/log.jsonl", out);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		json_error_t bad;
		json_t *j = json_loads(line, 0, &bad);

		assert_non_null(j);
		if (json_object_get(j, "loss")) {
			assert_true(n < max);
			assert_int_equal(json_integer_value(json_object_get(j, "step")), n + 1);
			loss[n++] = json_real_value(json_object_get(j, "loss"));
		}
		json_decref(j);
	}
	fclose(f);
	return n;
}

static void same_file(const char *a, const char *b, const char *name)
{
	char pa[512], pb[512];
	kf_buf x = { 0 }, y = { 0 };

	snprintf(pa, sizeof pa, "%s/%s", a, name);
	snprintf(pb, sizeof pb, "%s/%s", b, name);
	OK(kf_file_read(pa, 1 << 26, &x, &e_));
	OK(kf_file_read(pb, 1 << 26, &y, &e_));
	assert_int_equal(x.len, y.len);
	assert_memory_equal(x.data, y.data, x.len);
	kf_buf_release(&x);
	kf_buf_release(&y);
}

static void test_documents(void **state)
{
	kf_set *set;
	kf_docs *d;
	kf_arena arena;
	uint64_t sum = 0;

	(void)state;
	OK(kf_set_open(at("targets"), KF_SET_TARGETS, &set, &e_));
	OK(kf_docs_open(set, 0, 1, &d, &e_));
	kf_arena_init(&arena);
	assert_int_equal(d->n, DOCS);
	/* Any order; a document is the same whenever it is asked for. */
	for (uint64_t i = 0; i < DOCS; i++) {
		uint64_t j = i * 7 % DOCS;
		kf_dist_rec rec;

		OK(d->get(d, j, &arena, &rec, &e_));
		assert_int_equal(rec.n, d->rows[j]);
		assert_int_equal(rec.head.doc, j < 7 ? j * 3 : j < 14 ? (j - 7) * 3 + 1 : (j - 14) * 3 + 2);
		sum += rec.n;
	}
	assert_int_equal(sum, d->total);
	kf_docs_close(d);
	/* A fold is left out: its documents have no rows. */
	uint64_t rest = 0;
	OK(kf_docs_open(set, 1, 4, &d, &e_));
	for (uint64_t j = 0; j < DOCS; j++) {
		kf_dist_rec rec;

		OK(d->get(d, j, &arena, &rec, &e_));
		assert_int_equal(d->rows[j], kf_fold_of(&rec.head, 4) == 1 ? 0 : rec.n);
		rest += d->rows[j];
	}
	assert_int_equal(rest, d->total);
	assert_true(rest < sum);
	kf_arena_release(&arena);
	kf_docs_close(d);
	kf_set_close(set);
}

static void test_run(void **state)
{
	kf_train_opts o = options(at("a"));
	kf_train_result r;
	double loss[200];
	kf_err err;
	int n;

	(void)state;
	o.epochs = 4;
	OK(go(&o, &r, &e_));
	assert_false(r.current);
	n = losses(o.out, loss, 200);
	assert_int_equal(n, r.steps);
	assert_true(n >= 8 && loss[n - 1] < 0.7 * loss[0]);
	assert_false(kf_exists(at("a/state")));
	assert_true(kf_exists(at("a/config.json")));

	OK(go(&o, &r, &e_));
	assert_true(r.current);
	o.lambda = 0.7;
	assert_int_equal(go(&o, &r, &err), KF_EMISMATCH);
	assert_non_null(strstr(err.text, "lambda"));
	o.restart = true;
	o.max_steps = 1;
	OK(go(&o, &r, &e_));
	assert_int_equal(r.steps, 1);
}

/* From the checkpoint of the last step but one: the same losses bit for bit, the same model. */
static void resume(kf_train_opts a, kf_train_opts b, kf_train_opts c)
{
	double la[200], lb[200];
	kf_train_result r;
	char cmd[512];
	int n;

	OK(go(&a, &r, &e_));
	c.save_every = 1;
	c.keep_state = true;
	OK(go(&c, &r, &e_));
	/* What a run killed after step n - 2 leaves: its checkpoint, its log, and a longer log than it knows of. */
	n = losses(a.out, la, 200);
	snprintf(cmd, sizeof cmd, "mkdir -p %s/state && cp %s/state/identity.json %s/state/step-%09d.ckpt %s/state && cp %s/log.jsonl %s",
		b.out, c.out, c.out, n - 2, b.out, c.out, b.out);
	assert_int_equal(system(cmd), 0);
	b.save_every = 5;
	OK(go(&b, &r, &e_));
	assert_int_equal(r.resumed, n - 2);
	assert_int_equal(losses(b.out, lb, 200), n);
	assert_memory_equal(la, lb, (size_t)n * sizeof *la);
	same_file(a.out, b.out, "model.safetensors");
	same_file(a.out, c.out, "model.safetensors");
}

static void test_resume(void **state)
{
	(void)state;
	resume(options(at("whole")), options(at("resumed")), options(at("half")));
}

/* Moments in 8 bits: a run goes nearly as with floats, and continues as exactly. */
static void test_moments8(void **state)
{
	kf_train_opts o[4] = { options(at("whole8")), options(at("resumed8")), options(at("half8")), options(at("floats")) };
	double l8[200], lf[200];
	kf_train_result r;
	int n;

	(void)state;
	for (int i = 0; i < 3; i++) o[i].moments8 = 1;
	resume(o[0], o[1], o[2]);
	OK(go(&o[3], &r, &e_));
	n = losses(o[0].out, l8, 200);
	assert_int_equal(losses(o[3].out, lf, 200), n);
	assert_true(l8[n - 1] != lf[n - 1]);
	for (int i = 0; i < n; i++)
		assert_true(fabs(l8[i] - lf[i]) < 0.02 * lf[i]);
}

/* A run that diverges says at which step, on which documents, and which checkpoint is left. */
static void test_diverged(void **state)
{
	kf_train_opts o = options(at("diverged"));
	kf_train_result r;
	kf_err err;

	(void)state;
	o.lr = 1e30;
	o.warmup = 0;
	o.save_every = 1;
	assert_int_equal(go(&o, &r, &err), KF_EDATA);
	if (strncmp(err.text, "step 2, document", 16) != 0)
		fail_msg("%s", err.text);
	assert_non_null(strstr(err.text, "The checkpoint of step 1 in "));
	assert_true(kf_exists(at("diverged/state/step-000000001.ckpt")));
	assert_false(kf_exists(at("diverged/config.json")));
}

/* How documents are cut into micro-batches changes the loss by rounding only; whether layers are computed again for the backward changes
 * nothing. A layer takes 1528 bytes a token, about half of that in bfloat16: of all documents at once 1 MB does not hold the two. */
static void test_accumulation(void **state)
{
	kf_train_opts o[3] = { options(at("small")), options(at("large")), options(at("again")) };
	double loss[3][200];
	kf_train_result r;

	(void)state;
	o[1].micro_tokens = o[2].micro_tokens = 100000;
	o[2].keep_mb = 1;
	for (int i = 0; i < 3; i++) {
		o[i].batch_tokens = 100000;
		OK(go(&o[i], &r, &e_));
		assert_int_equal(losses(o[i].out, loss[i], 200), o[i].epochs);
	}
	assert_true(r.tokens / o[2].epochs > 700);
	for (int i = 0; i < o[0].epochs; i++) {
		assert_true(fabs(loss[0][i] - loss[1][i]) < ROUNDING * loss[0][i]);
		assert_true(loss[1][i] == loss[2][i]);
	}
	same_file(o[1].out, o[2].out, "model.safetensors");
}

/* Lambda 1 asks nothing of the candidates. */
static void test_clm(void **state)
{
	kf_train_opts a = options(at("clm")), b = options(at("clm-kl"));
	kf_train_result r;

	(void)state;
	a.lambda = b.lambda = 1;
	b.loss = KF_LOSS_KL;
	b.tail = KF_TAIL_RENORMALIZE;
	OK(go(&a, &r, &e_));
	OK(go(&b, &r, &e_));
	same_file(a.out, b.out, "model.safetensors");
}

/* The epoch of the lowest validation loss, epoch 0 aside, which must be `valid`. */
static int best_in_log(const char *out, double valid)
{
	char path[512], line[1024];
	double best = INFINITY;
	int epoch = 0;
	FILE *f;

	snprintf(path, sizeof path, "%s/log.jsonl", out);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		json_t *j = json_loads(line, 0, NULL), *bits = json_object_get(j, "valid_bits_per_byte");
		int e = (int)json_integer_value(json_object_get(j, "epoch"));

		if (bits && e > 0 && json_real_value(bits) < best) {
			best = json_real_value(bits);
			epoch = e;
		}
		json_decref(j);
	}
	fclose(f);
	assert_true(fabs(best - valid) < 1e-9);
	return epoch;
}

static void test_validation(void **state)
{
	kf_train_opts o = options(at("valid"));
	kf_train_result r;
	char epoch[32];

	(void)state;
	o.valid = at("targets");
	o.keep_epochs = true;
	o.epochs = 3;
	OK(go(&o, &r, &e_));
	assert_int_equal(r.epoch, 3);                      /* the text it trains on: later is better */
	assert_true(r.valid > 0 && r.valid < 20);
	same_file(o.out, at("valid/epoch-3"), "model.safetensors");
	assert_true(kf_exists(at("valid/epoch-1/config.json")));

	/* A rate that ruins it sooner or later: the output is whichever epoch the log says was the best. */
	o.out = at("ruin");
	o.lr = 0.5;
	o.warmup = 0.9;
	OK(go(&o, &r, &e_));
	assert_int_equal(r.epoch, best_in_log(o.out, r.valid));
	snprintf(epoch, sizeof epoch, "ruin/epoch-%d", r.epoch);
	same_file(o.out, at(epoch), "model.safetensors");
}

static int setup(void **state)
{
	kf_err e;

	(void)state;
	snprintf(tmp, sizeof tmp, "/tmp/kf-train-XXXXXX");
	if (!mkdtemp(tmp) || kf_pool_new(2, &pool, &e) != KF_OK ||
	    kf_exec_new(&OPS, pool, COMPUTE, &ex, &e) != KF_OK)
		return -1;
	make_targets(at("targets"));
	return 0;
}

static int teardown(void **state)
{
	kf_err e;

	(void)state;
	kf_exec_free(ex);
	kf_pool_free(pool);
	return kf_remove_tree(tmp, &e) == KF_OK ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_moments8),
		cmocka_unit_test(test_diverged),
		cmocka_unit_test(test_accumulation),
		cmocka_unit_test(test_clm),
		cmocka_unit_test(test_validation),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
