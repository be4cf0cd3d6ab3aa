/* What other ways of computing do to a model's predictions: mean KL to float32 of the whole vocabulary.
 * One JSON object a line; the last, "way", is what kf-extract would choose by this text.
 *
 *     bench_error MODEL CORPUS [TOKENS [way | MASK...]]
 *
 * TOKENS (512) of the corpus's documents, at most 256 of each. Without MASK: bf16, and int8 of each kind of matrix
 * alone and of some together; MASK: sums of KF_INT8_* (model.h); way: the
 * last line alone. */
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

static void report(const char *what, kf_compute compute, const char *int8, const kf_divergence *d)
{
	static const char *const names[] = { "auto", "f32", "bf16", "int8" };

	printf("{\"bench\": \"%s\", \"compute\": \"%s\", \"int8\": \"%s\", \"rows\": %d, \"kl_mean\": %.3g, \"kl_worst\": %.3g, "
		"\"ce\": %.3g}\n", what, names[compute], int8, d->rows, d->mean, d->worst, d->ce);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const unsigned all[] = { 0, KF_INT8_HEAD, KF_INT8_QKV, KF_INT8_OUT, KF_INT8_UP, KF_INT8_DOWN,
		KF_INT8_HEAD | KF_INT8_OUT, KF_INT8_ALL };
	static int32_t tokens[MOST], offset[MOST + 1];
	const int most = argc > 3 && atoi(argv[3]) < MOST ? atoi(argv[3]) : 512;
	const bool way_only = argc > 4 && strcmp(argv[4], "way") == 0;
	const int n = way_only ? 0 : argc > 4 ? argc - 4 : (int)(sizeof all / sizeof *all);
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
	for (int i = 0; i < n; i++) {
		const kf_model_opts opts = { .int8 = argc > 4 ? (unsigned)atoi(argv[4 + i]) : all[i] };
		kf_exec *y;
		kf_model *other;

		check(kf_exec_new(&kf_ops_cpu, pool, opts.int8 ? KF_COMPUTE_INT8 : KF_COMPUTE_BF16, &y, &err), &err);
		check(kf_model_new(weights, y, &opts, &other, &err), &err);
		check(kf_model_divergence(exact, hidden, other, &b, K, &d, &err), &err);
		kf_int8_text(opts.int8, text);
		report("error", opts.int8 ? KF_COMPUTE_INT8 : KF_COMPUTE_BF16, text, &d);
		kf_model_free(other);
		kf_exec_free(y);
	}
	if (argc <= 4 || way_only) {
		check(kf_way_choose(weights, pool, &b, K, &way, &d, &err), &err);
		kf_int8_text(way.int8, text);
		report("way", way.compute, text, &d);
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
