/* Alignment's speed on a pair of logits sets, one thread: on decoded records, and from disk to disk.
 *
 *   bench_align SOURCE-SET TARGET-SET      prints a JSON object a line; without sets there is nothing to measure
 *   bench_align SOURCE-SET TARGET-SET METHOD MAP [FILE]   this method with this vocabulary map only, on decoded records
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "align/align.h"
#include "align/counted.h"
#include "common/base/progress.h"

#define SECONDS 2.0

/* Of this process: on a busy machine the clock on the wall says little. */
static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct { kf_logits_rec src, tgt; } pair;

typedef struct {
	kf_set *src, *tgt;
	kf_tokenizer *src_tok, *tgt_tok;
	kf_arena arena;
	pair *docs;
	size_t n;
	double tokens;
} bench;

static kf_status load_tokenizer(const kf_set *set, kf_tokenizer **out, kf_err *err)
{
	const void *data;
	size_t n;
	kf_status rc;

	if ((rc = kf_set_tokenizer(set, &data, &n, err)) != KF_OK) return rc;
	return kf_tokenizer_load(data, n, out, err);
}

static kf_status load(bench *b, const char *source, const char *target, kf_err *err)
{
	kf_status rc;

	if ((rc = kf_set_open(source, KF_SET_LOGITS, &b->src, err)) != KF_OK) return rc;
	if ((rc = kf_set_open(target, KF_SET_LOGITS, &b->tgt, err)) != KF_OK) return rc;
	if ((rc = load_tokenizer(b->src, &b->src_tok, err)) != KF_OK) return rc;
	if ((rc = load_tokenizer(b->tgt, &b->tgt_tok, err)) != KF_OK) return rc;
	if (!(b->docs = kf_alloc(kf_set_docs(b->tgt) + 1, sizeof *b->docs))) return kf_fail(err, KF_ENOMEM, "No memory");
	for (int i = 0; i < kf_set_shards(b->tgt); i++) {
		kf_shard *s, *t;

		if ((rc = kf_shard_open(b->src, i, &s, err)) != KF_OK) return rc;
		if ((rc = kf_shard_open(b->tgt, i, &t, err)) != KF_OK) return rc;
		while ((rc = kf_shard_next_logits(t, &b->arena, &b->docs[b->n].tgt, err)) == KF_OK) {
			if ((rc = kf_shard_next_logits(s, &b->arena, &b->docs[b->n].src, err)) != KF_OK) return rc;
			b->tokens += b->docs[b->n++].tgt.n;
		}
		kf_shard_close(s);
		kf_shard_close(t);
		if (rc != KF_END) return rc;
	}
	return KF_OK;
}

/* method over all documents, again and again; the first round, which fills the prefix map, is told apart. file: of the map;
 * counts: to mix by, may be NULL */
static kf_status decoded(bench *b, kf_align_method method, kf_align_map map, const char *file, const align_pairs *counts,
	const char *name, kf_err *err)
{
	kf_aligner *a;
	kf_vocabmap *v;
	kf_arena arena;
	double first = 0, best = 1e30, cpu = 1e30, begin = kf_now();
	int rounds = 0;
	kf_status rc;

	if ((rc = kf_aligner_new(b->src_tok, b->tgt_tok, method, map, &a, err)) != KF_OK) return rc;
	if (file) {
		if ((rc = kf_vocabmap_read(file, &v, err)) != KF_OK || (rc = kf_aligner_use_map(a, v, err)) != KF_OK) return rc;
		kf_vocabmap_free(v);
	}
	if (counts && (rc = kf_aligner_weigh(a, counts, err)) != KF_OK) return rc;
	kf_arena_init(&arena);
	do {
		double t = kf_now(), c = cpu_now();

		for (size_t i = 0; i < b->n; i++) {
			kf_dist_rec out;

			if ((rc = kf_align_doc(a, &b->docs[i].src, &b->docs[i].tgt, &arena, &out, NULL, err)) != KF_OK) return rc;
			kf_arena_reset(&arena);
		}
		t = kf_now() - t;
		c = cpu_now() - c;
		if (rounds++ == 0) first = c;
		else {
			if (t < best) best = t;
			if (c < cpu) cpu = c;
		}
	} while (kf_now() - begin < SECONDS || rounds < 3);
	printf("{\"bench\": \"align\", \"what\": \"decoded\", \"method\": \"%s\", \"documents\": %zu, \"tokens\": %.0f, \"threads\": 1, "
		"\"tokens_per_second\": %.0f, \"tokens_per_cpu_second\": %.0f, \"first_round_tokens_per_cpu_second\": %.0f, "
		"\"peak_scratch_bytes\": %zu}\n", name, b->n, b->tokens, b->tokens / best, b->tokens / cpu, b->tokens / first, arena.peak);
	kf_arena_release(&arena);
	kf_aligner_free(a);
	return KF_OK;
}

/* ---- documents of one length, for what grows with it ---- */

typedef struct { kf_logits_rec r; int32_t *tokens, *ids; uint32_t *start; float *ce, *lp; } joined;

static bool join_room(joined *j, uint32_t tokens, uint32_t k, bool candidates, kf_arena *arena)
{
	*j = (joined){ .r = { .head = { .id = "", .domain = "" }, .k = candidates ? k : 0 } };
	j->r.tokens = j->tokens = KF_ARENA_NEW(arena, int32_t, tokens);
	j->r.start = j->start = KF_ARENA_NEW(arena, uint32_t, tokens + 1);
	if (!candidates) return j->tokens && j->start;
	j->r.ce = j->ce = KF_ARENA_NEW(arena, float, tokens);
	j->r.top_ids = j->ids = KF_ARENA_NEW(arena, int32_t, (tokens + 1) * (size_t)k);
	j->r.top_lp = j->lp = KF_ARENA_NEW(arena, float, (tokens + 1) * (size_t)k);
	return j->tokens && j->start && j->ce && j->ids && j->lp;
}

/* r after what there is. Its last position stays until another document's first one takes its place. */
static void append(joined *j, const kf_logits_rec *r)
{
	uint32_t n = j->r.n, k = j->r.k, bytes = j->r.head.bytes;

	if (n == 0) j->r.bos = r->bos;
	memcpy(j->tokens + n, r->tokens, r->n * sizeof *r->tokens);
	for (uint32_t i = 0; i <= r->n; i++) j->start[n + i] = bytes + r->start[i];
	if (k) {
		memcpy(j->ce + n, r->ce, r->n * sizeof *r->ce);
		/* a document in the middle has something to say of its first token, too */
		if (n > 0 && !r->bos) j->ce[n] = 1;
		memcpy(j->ids + (size_t)n * k, r->top_ids, (r->n + 1) * (size_t)k * sizeof *r->top_ids);
		memcpy(j->lp + (size_t)n * k, r->top_lp, (r->n + 1) * (size_t)k * sizeof *r->top_lp);
	}
	j->r.n += r->n;
	j->r.head.bytes += r->head.bytes;
}

/* The set's documents joined to such of tokens (the target's) and some more, without path masses. */
static kf_status join(const bench *b, uint32_t tokens, bench *out, kf_err *err)
{
	size_t i = 0;

	*out = (bench){ .src_tok = b->src_tok, .tgt_tok = b->tgt_tok };
	kf_arena_init(&out->arena);
	if (!(out->docs = kf_alloc(b->n + 1, sizeof *out->docs))) return kf_fail(err, KF_ENOMEM, "No memory");
	for (;;) {
		uint32_t n = 0, m = 0;
		size_t end = i;
		joined s, t;

		for (; end < b->n && m < tokens; end++) {
			n += b->docs[end].src.n;
			m += b->docs[end].tgt.n;
		}
		if (m < tokens) return KF_OK;
		if (!join_room(&s, n, b->docs[0].src.k, true, &out->arena) || !join_room(&t, m, 0, false, &out->arena))
			return kf_fail(err, KF_ENOMEM, "No memory");
		for (; i < end; i++) {
			append(&s, &b->docs[i].src);
			append(&t, &b->docs[i].tgt);
		}
		out->tokens += m;
		out->docs[out->n++] = (pair){ .src = s.r, .tgt = t.r };
	}
}

/* dtw and dtw-chat on documents of some 2,048 tokens. */
static kf_status long_documents(const bench *b, kf_err *err)
{
	bench of;
	kf_status rc;

	if ((rc = join(b, 2048, &of, err)) != KF_OK || of.n == 0) return rc;
	if ((rc = decoded(&of, KF_ALIGN_DTW, KF_ALIGN_EXACT, NULL, NULL, "dtw, 2048 tokens a document", err)) != KF_OK) return rc;
	if ((rc = decoded(&of, KF_ALIGN_DTW_CHAT, KF_ALIGN_PREFIX, NULL, NULL, "dtw-chat, 2048 tokens a document", err)) != KF_OK) return rc;
	kf_free(of.docs);
	kf_arena_release(&of.arena);
	return KF_OK;
}

/* The set as it is read back: the sum of ce against the source's own over the covered bytes, and the most q sums to.
 * Where the first covered target token begins inside a source token, the sum is short of that token's first bytes: the
 * documents are compared from the source token's mass there. */
static kf_status telescoping(const bench *b, const char *out, kf_err *err)
{
	double worst = 0, worst_token = 0, most = 0, own_all = 0, sum_all = 0;
	size_t d = 0;
	kf_arena arena;
	kf_set *set;
	kf_status rc;

	if ((rc = kf_set_open(out, KF_SET_ALIGNED, &set, err)) != KF_OK) return rc;
	kf_arena_init(&arena);
	for (int i = 0; i < kf_set_shards(set); i++) {
		kf_shard *s;
		kf_dist_rec r;

		if ((rc = kf_shard_open(set, i, &s, err)) != KF_OK) return rc;
		while ((rc = kf_shard_next_dist(s, &arena, &r, err)) == KF_OK) {
			const kf_logits_rec *src = &b->docs[d++].src;
			double own = 0, sum = 0;
			uint32_t first = 0, at;

			while (first < r.n && isnan(r.ce[first])) first++;
			for (uint32_t p = first; p < r.n; p++) sum += r.ce[p];
			for (uint32_t p = src->bos ? 0 : 1; p < src->n; p++) own += src->ce[p];
			for (at = 0; at < src->n && src->start[at + 1] <= r.start[first]; at++)
				if (first > 0 && (at > 0 || src->bos)) own -= src->ce[at];
			if (first > 0 && first < r.n && r.start[first] > src->start[at])
				own -= src->path_nlm[src->path_off[at] + r.start[first] - src->start[at] - 1];
			if (first < r.n || src->n == 0) {
				double error = fabs(sum - own);

				worst = error > worst ? error : worst;
				if (r.n && error / r.n > worst_token) worst_token = error / r.n;
				own_all += own;
				sum_all += sum;
			}
			for (uint32_t p = 0; p <= r.n; p++) {
				double q = 0;

				for (uint32_t j = r.off[p]; j < r.off[p + 1]; j++) q += exp((double)r.lp[j]);
				most = q > most ? q : most;
			}
			kf_arena_reset(&arena);
		}
		kf_shard_close(s);
		if (rc != KF_END) return rc;
	}
	kf_arena_release(&arena);
	kf_set_close(set);
	printf("{\"bench\": \"align\", \"what\": \"telescoping\", \"documents\": %zu, \"ce_sum\": %.6f, \"source_ce_sum\": %.6f, "
		"\"worst_document_nats\": %.6f, \"worst_nats_per_token\": %.6f, \"largest_q_sum\": %.9f}\n", d, sum_all, own_all, worst,
		worst_token, most);
	return KF_OK;
}

/* The same documents again and again, a shard each time, so that compression finds no repetition inside a block. */
static kf_status repeat(const bench *b, bool source, int times, const char *dir, kf_err *err)
{
	const kf_set *from = source ? b->src : b->tgt;
	kf_set_input in[2] = { { .role = "corpus", .name = "repeated", .fp = { 1, (uint64_t)times } },
		{ .role = "logits", .name = "repeated", .fp = kf_set_fp(from) } };
	kf_set_spec spec = { .dir = dir, .kind = KF_SET_LOGITS, .program = "bench_align", .inputs = in, .n_inputs = 2,
		.n_shards = times, .f32 = kf_set_f32(from) };
	kf_set_writer *w;
	kf_set_state state;
	bool complete;
	kf_status rc;

	if ((rc = kf_set_tokenizer(from, &spec.tokenizer, &spec.tokenizer_size, err)) != KF_OK) return rc;
	if ((rc = kf_set_begin(&spec, &w, &state, err)) != KF_OK) return rc;
	for (int i = 0; i < times; i++) {
		kf_shard_writer *sw;

		if ((rc = kf_shard_begin(w, i, &sw, err)) != KF_OK) return rc;
		for (size_t d = 0; d < b->n; d++) {
			kf_logits_rec r = source ? b->docs[d].src : b->docs[d].tgt;

			r.head.doc = (uint64_t)i * b->n + d;
			if ((rc = kf_shard_put_logits(sw, &r, err)) != KF_OK) return rc;
		}
		if ((rc = kf_shard_commit(sw, err)) != KF_OK) return rc;
	}
	return kf_set_commit(w, NULL, &complete, err);
}

static kf_status timed(const char *source, const char *target, const char *out, kf_pool *pool, double *wall, double *cpu, kf_err *err)
{
	kf_align_opts o = { .source = &source, .folds = 1, .target = target, .out = out, .program = "kf-align", .progress = KF_PROGRESS_NONE };
	kf_set_state state;
	json_t *stats = NULL;
	double t = kf_now(), c = cpu_now();
	kf_status rc = kf_align_run(&o, pool, &state, &stats, err);

	t = kf_now() - t;
	c = cpu_now() - c;
	if (t < *wall) *wall = t;
	if (c < *cpu) *cpu = c;
	json_decref(stats);
	return rc;
}

/* The whole program's work. A set this small is mostly start-up (two tokenizers); the rate of a large one is the
 * difference that more shards make. */
static kf_status disk(const bench *b, const char *source, const char *target, kf_err *err)
{
	char dir[] = "/tmp/kfuse-bench.XXXXXX", s[64], t[64], out[64], command[96];
	double once = 1e30, many = 1e30, cpu_once = 1e30, cpu_many = 1e30;
	int times = 2 + (int)(400000 / b->tokens), round = 0;
	uint64_t bytes = 0;
	kf_pool *pool = NULL;
	kf_set *set;
	kf_status rc;

	if (!mkdtemp(dir)) return kf_fail_errno(err, "Cannot make a folder in /tmp");
	snprintf(s, sizeof s, "%s/source", dir);
	snprintf(t, sizeof t, "%s/target", dir);
	if ((rc = kf_pool_new(1, &pool, err)) != KF_OK) goto out;
	if ((rc = repeat(b, true, times, s, err)) != KF_OK || (rc = repeat(b, false, times, t, err)) != KF_OK) goto out;
	for (; round < 3; round++) {
		snprintf(out, sizeof out, "%s/once%d", dir, round);
		if ((rc = timed(source, target, out, pool, &once, &cpu_once, err)) != KF_OK) goto out;
		if (round == 0) {
			if ((rc = telescoping(b, out, err)) != KF_OK || (rc = kf_set_open(out, KF_SET_ALIGNED, &set, err)) != KF_OK) goto out;
			bytes = kf_set_disk(set);
			kf_set_close(set);
		}
		snprintf(out, sizeof out, "%s/many%d", dir, round);
		if ((rc = timed(s, t, out, pool, &many, &cpu_many, err)) != KF_OK) goto out;
	}
	printf("{\"bench\": \"align\", \"what\": \"disk to disk\", \"method\": \"byte\", \"tokens\": %.0f, \"threads\": 1, \"seconds\": %.3f, "
		"\"cpu_seconds\": %.3f, \"tokens_per_second\": %.0f, \"small_set_tokens\": %.0f, \"small_set_cpu_seconds\": %.3f, "
		"\"beyond_start_tokens_per_second\": %.0f, \"beyond_start_tokens_per_cpu_second\": %.0f, \"bytes_per_token\": %.2f}\n",
		times * b->tokens, many, cpu_many, times * b->tokens / many, b->tokens, cpu_once, (times - 1) * b->tokens / (many - once),
		(times - 1) * b->tokens / (cpu_many - cpu_once), (double)bytes / b->tokens);
out:
	kf_pool_free(pool);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	if (system(command) != 0) fprintf(stderr, "%s stays\n", dir);
	return rc;
}

static int place(const char *word, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(word, words[i]) == 0) return i;
	fprintf(stderr, "%s: not known\n", word);
	exit(2);
}

static kf_status one(bench *b, char **word, const char *file, kf_err *err)
{
	static const char *const methods[] = { "byte", "dtw", "dtw-chat", "dtw-chat-weighted" },
		*const maps[] = { "prefix", "exact", "mined", "stats" };
	int method = place(word[0], methods, 4);
	align_pairs counts = { 0 };
	kf_pool *pool = NULL;
	kf_status rc = KF_OK;

	if (method == 3) {
		if ((rc = kf_pool_new(1, &pool, err)) == KF_OK)
			rc = align_count(b->src, b->tgt, b->src_tok, b->tgt_tok, pool, KF_PROGRESS_NONE, &counts, err);
		kf_pool_free(pool);
	}
	if (rc == KF_OK)
		rc = decoded(b, method == 3 ? KF_ALIGN_DTW_CHAT : (kf_align_method)method, (kf_align_map)place(word[1], maps, 4), file,
			method == 3 ? &counts : NULL, word[0], err);
	align_pairs_release(&counts);
	return rc;
}

static kf_status everything(bench *b, char **set, kf_err *err)
{
	kf_status rc;

	if ((rc = decoded(b, KF_ALIGN_BYTE, KF_ALIGN_PREFIX, NULL, NULL, "byte", err)) != KF_OK) return rc;
	if ((rc = disk(b, set[0], set[1], err)) != KF_OK) return rc;
	if ((rc = decoded(b, KF_ALIGN_DTW, KF_ALIGN_EXACT, NULL, NULL, "dtw", err)) != KF_OK) return rc;
	if ((rc = decoded(b, KF_ALIGN_DTW_CHAT, KF_ALIGN_PREFIX, NULL, NULL, "dtw-chat", err)) != KF_OK) return rc;
	return long_documents(b, err);
}

int main(int argc, char **argv)
{
	bench b = { .n = 0 };
	kf_err err;
	kf_status rc;

	if (argc != 3 && argc != 5 && argc != 6) {
		fprintf(stderr, "usage: %s SOURCE-SET TARGET-SET [METHOD MAP [FILE]]\n", argv[0]);
		return argc == 1 ? 0 : 2;
	}
	kf_arena_init(&b.arena);
	if ((rc = load(&b, argv[1], argv[2], &err)) == KF_OK)
		rc = argc == 3 ? everything(&b, argv + 1, &err) : one(&b, argv + 3, argc == 6 ? argv[5] : NULL, &err);
	if (rc != KF_OK) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	kf_free(b.docs);
	kf_arena_release(&b.arena);
	kf_tokenizer_free(b.src_tok);
	kf_tokenizer_free(b.tgt_tok);
	kf_set_close(b.src);
	kf_set_close(b.tgt);
	return 0;
}
