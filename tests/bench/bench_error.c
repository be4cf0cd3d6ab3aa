/* What other ways of computing do to a model's predictions: mean KL to float32 of the whole vocabulary.
 * One JSON object a line; the last, "way", is what kf-extract would choose by this text.
 *
 *     bench_error MODEL CORPUS [TOKENS [way | MASK...]]
 *
 * TOKENS (512) of the corpus's documents, at most 256 of each. Without MASK: bf16, and int8 of each kind of matrix
 * alone and of some together, and fp8; MASK: sums of KF_INT8_* (model.h); way: the
 * last line alone.
 *
 * fp8 stands for a device's: both operands of every layer's products are rounded to e4m3 here, with a scale each (tensor), a
 * scale a row (row), or powers of two in blocks of 32 (block, as MXFP8 has them); the products are then in float32, the head's exact. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/model/run.h"
#include "common/model/way.h"
#include "common/store/record.h"
#include "common/store/set.h"

enum { K = 10, EACH = 256, MOST = 1 << 14 };

static void check(kf_status rc, const kf_err *err)
{
	if (rc == KF_OK) return;
	fprintf(stderr, "bench_error: %s\n", err->text);
	exit(1);
}

/* ---- fp8 ---- */

enum { LARGEST = 448, BLOCK = 32 };   /* of e4m3: 4 bits of exponent, 3 of mantissa */

static float e4m3(float v)
{
	const float a = fabsf(v);
	float step;
	int e;

	if (a == 0) return v;
	if (a >= LARGEST) return copysignf(LARGEST, v);
	frexpf(a, &e);                /* a = f 2^e, f in [1/2, 1) */
	step = ldexpf(1, (e < -5 ? -5 : e) - 4);
	return copysignf(rintf(a / step) * step, v);
}

static void round_some(float *v, size_t n, bool power)
{
	float scale, most = 0;

	for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(v[i]));
	if (most == 0) return;
	scale = power ? exp2f(ceilf(log2f(most / LARGEST))) : most / LARGEST;
	for (size_t i = 0; i < n; i++) v[i] = e4m3(v[i] / scale) * scale;
}

typedef enum { TENSOR, ROW, BLOCKS } scales;
static const char *const scale_names[] = { "tensor", "row", "block" };
static scales scaled;

static void round_all(float *v, int rows, int cols)
{
	const size_t n = (size_t)rows * (size_t)cols, each = scaled == TENSOR ? n : scaled == ROW ? (size_t)cols : BLOCK;

	for (size_t i = 0; i < n; i += each) round_some(v + i, n - i < each ? n - i : each, scaled == BLOCKS);
}

static kf_status rounded_linear(kf_exec *x, kf_num *y, const kf_num *in, const kf_mat *w, const float *bias, int T, bool add, kf_err *err)
{
	float *a = kf_alloc((size_t)T * (size_t)w->cols, sizeof *a), *b = kf_alloc((size_t)w->rows * (size_t)w->cols, sizeof *b);
	const kf_mat rounded = { .rows = w->rows, .cols = w->cols, .num = b };
	kf_status rc = KF_ENOMEM;

	if (a && b) {
		memcpy(a, in, (size_t)T * (size_t)w->cols * sizeof *a);
		if (w->num) memcpy(b, w->num, (size_t)w->rows * (size_t)w->cols * sizeof *b);
		else w->unpack(w->src, NULL, 0, (uint64_t)w->rows, b);
		round_all(a, T, w->cols);
		round_all(b, w->rows, w->cols);
		rc = kf_ops_cpu.linear(x, y, a, &rounded, bias, T, add, err);
	}
	kf_free(a);
	kf_free(b);
	return rc;
}

/* how: the name and the value of what else there is to know about the way */
static void report(const char *what, const char *compute, const char *name, const char *how, const kf_divergence *d)
{
	printf("{\"bench\": \"%s\", \"compute\": \"%s\", \"%s\": \"%s\", \"rows\": %d, \"kl_mean\": %.3g, \"kl_worst\": %.3g, "
		"\"ce\": %.3g}\n", what, compute, name, how, d->rows, d->mean, d->worst, d->ce);
	fflush(stdout);
}

/* What all ways are compared with. */
typedef struct {
	kf_weights *weights;
	kf_pool *pool;
	kf_model *model;
	const float *hidden;
	const kf_batch *b;
} exactly;

static kf_divergence differs(const kf_ops *ops, kf_compute compute, const kf_model_opts *opts, const exactly *e)
{
	kf_exec *x;
	kf_model *other;
	kf_divergence d;
	kf_err err;

	check(kf_exec_new(ops, e->pool, compute, &x, &err), &err);
	check(kf_model_new(e->weights, x, opts, &other, &err), &err);
	check(kf_model_divergence(e->model, e->hidden, other, e->b, K, &d, &err), &err);
	kf_model_free(other);
	kf_exec_free(x);
	return d;
}

int main(int argc, char **argv)
{
	static const unsigned all[] = { 0, KF_INT8_HEAD, KF_INT8_QKV, KF_INT8_OUT, KF_INT8_UP, KF_INT8_DOWN,
		KF_INT8_HEAD | KF_INT8_OUT, KF_INT8_ALL };
	static int32_t tokens[MOST], offset[MOST + 1];
	const int most = argc > 3 && atoi(argv[3]) < MOST ? atoi(argv[3]) : 512;
	const bool way_only = argc > 4 && strcmp(argv[4], "way") == 0;
	const int n = way_only ? 0 : argc > 4 ? argc - 4 : (int)(sizeof all / sizeof *all);
	static const char *const names[] = { "auto", "f32", "bf16", "int8" };
	kf_ops fp8 = kf_ops_cpu;
	kf_weights *weights;
	kf_tokenizer *tokenizer;
	kf_set *corpus;
	kf_pool *pool;
	kf_exec *x;
	kf_model *exact;
	kf_arena arena;
	kf_err err;
	kf_divergence d;
	kf_way way;
	char text[KF_INT8_TEXT];
	float *hidden;
	kf_batch b = { .tokens = tokens, .offset = offset };

	if (argc < 3) {
		fprintf(stderr, "usage: bench_error MODEL CORPUS [TOKENS [way | MASK...]]\n");
		return 2;
	}
	kf_arena_init(&arena);
	check(kf_weights_open(argv[1], &weights, &err), &err);
	check(kf_weights_tokenizer(weights, &tokenizer, &err), &err);
	check(kf_set_open(argv[2], KF_SET_CORPUS, &corpus, &err), &err);
	for (uint64_t i = 0, docs = kf_set_shard_docs(corpus, 0); b.T < most && i < docs; i++) {
		kf_shard *in;
		kf_corpus_rec rec;
		kf_encoding enc;

		check(kf_shard_open(corpus, 0, &in, &err), &err);
		check(kf_shard_seek(in, i * 7 % docs, &err), &err);   /* of all domains */
		check(kf_shard_next_corpus(in, &arena, &rec, &err), &err);
		check(kf_run_encode(tokenizer, NULL, &rec, &arena, &enc, &err), &err);
		if (kf_tokenizer_bos(tokenizer) >= 0) tokens[b.T++] = kf_tokenizer_bos(tokenizer);
		for (uint32_t k = 0; k < enc.n && k < EACH && b.T < most; k++) tokens[b.T++] = enc.ids[k];
		offset[++b.S] = b.T;
		kf_shard_close(in);
	}
	check(kf_pool_new(0, &pool, &err), &err);
	check(kf_exec_new(&kf_ops_cpu, pool, KF_COMPUTE_F32, &x, &err), &err);
	check(kf_model_new(weights, x, &(kf_model_opts){ 0 }, &exact, &err), &err);
	if (!(hidden = kf_alloc((size_t)b.T * (size_t)kf_weights_arch(weights)->C, sizeof *hidden))) return 1;
	check(kf_model_hidden(exact, &b, hidden, &err), &err);
	const exactly e = { weights, pool, exact, hidden, &b };
	for (int i = 0; i < n; i++) {
		const kf_model_opts opts = { .int8 = argc > 4 ? (unsigned)atoi(argv[4 + i]) : all[i] };
		const kf_compute compute = opts.int8 ? KF_COMPUTE_INT8 : KF_COMPUTE_BF16;

		d = differs(&kf_ops_cpu, compute, &opts, &e);
		kf_int8_text(opts.int8, text);
		report("error", names[compute], "int8", text, &d);
	}
	fp8.linear = rounded_linear;
	for (int i = argc > 4 ? BLOCKS + 1 : TENSOR; i <= BLOCKS; i++) {
		scaled = (scales)i;
		d = differs(&fp8, KF_COMPUTE_F32, &(kf_model_opts){ 0 }, &e);
		report("error", "fp8", "scales", scale_names[i], &d);
	}
	if (argc <= 4 || way_only) {
		check(kf_way_choose(weights, pool, &b, K, &way, &d, &err), &err);
		kf_int8_text(way.int8, text);
		report("way", names[way.compute], "int8", text, &d);
	}
	kf_free(hidden);
	kf_model_free(exact);
	kf_exec_free(x);
	kf_pool_free(pool);
	kf_set_close(corpus);
	kf_tokenizer_free(tokenizer);
	kf_weights_close(weights);
	kf_arena_release(&arena);
	return 0;
}
