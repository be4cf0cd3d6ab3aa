/* For the store's tests: scratch folders, random records, comparing what came back. */
#ifndef STORE_TEST_H
#define STORE_TEST_H

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/rng.h"
#include "common/store/record.h"

#define OK(call) do { \
	kf_status rc_ = (call); \
	if (rc_ != KF_OK) fail_msg("%s: %s: %s", #call, kf_status_name(rc_), err.text); \
} while (0)
#define FAILS(code, part, call) do { \
	kf_status rc_ = (call); \
	if (rc_ != (code)) fail_msg("%s: got %s, not %s", #call, kf_status_name(rc_), kf_status_name(code)); \
	if (!strstr(err.text, part)) fail_msg("%s: \"%s\" does not say \"%s\"", #call, err.text, part); \
} while (0)

static inline void scratch(char out[KF_PATH_MAX])
{
	const char *tmp = getenv("TMPDIR");

	snprintf(out, KF_PATH_MAX, "%s/kfuse-store.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(out));
}

static inline void remove_dir(const char *dir)
{
	char cmd[KF_PATH_MAX + 16];

	snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
	assert_int_equal(system(cmd), 0);
}

static inline kf_set_spec spec_of(const char *dir, kf_set_kind kind, int shards, bool f32)
{
	static const kf_set_input in[] = { { "corpus", "corpus", { 1, 2 } }, { "model", "model.gguf", { 3, 4 } } };
	kf_set_spec s = { .dir = dir, .kind = kind, .program = "test", .inputs = in, .n_inputs = 2, .n_shards = shards, .f32 = f32 };

	return s;
}

static inline kf_dochead random_head(kf_rng *r, uint64_t doc, kf_arena *a)
{
	static const char *const domains[] = { "", "prose", "c", "größer" };
	kf_dochead h = { .doc = doc, .domain = domains[kf_rng_below(r, 4)] };
	char *id = kf_arena_alloc(a, 400, 1);

	if (kf_rng_below(r, 20) == 0) {
		memset(id, 'x', 300);
		id[300] = 0;
	} else {
		snprintf(id, 400, "%s%d", kf_rng_below(r, 3) ? "file/" : "", (int)(doc / 3));
	}
	if (kf_rng_below(r, 5) == 0) id[0] = 0;
	h.id = id;
	h.piece = (uint32_t)(kf_rng_below(r, 4) ? doc % 3 : kf_rng_below(r, 5));
	return h;
}

/* A random logits record with n tokens: peaked distributions, labels in and out of the top k, ties, zeros. */
static inline kf_logits_rec random_logits(kf_rng *r, uint64_t doc, uint32_t n, uint32_t k, bool bos, bool path, int vocab, kf_arena *a)
{
	kf_logits_rec rec = { .head = random_head(r, doc, a), .bos = bos, .n = n, .k = k, .has_path = path };
	int32_t *tok = KF_ARENA_NEW(a, int32_t, n), *ids = KF_ARENA_NEW(a, int32_t, (size_t)(n + 1) * k), *xi;
	uint32_t *start = KF_ARENA_NEW(a, uint32_t, n + 1), *po = KF_ARENA_NEW(a, uint32_t, n + 1), *xo = KF_ARENA_NEW(a, uint32_t, n + 2);
	float *ce = KF_ARENA_NEW(a, float, n), *lp = KF_ARENA_NEW(a, float, (size_t)(n + 1) * k), *nlm, *xl;

	start[0] = 0;
	for (uint32_t i = 0; i < n; i++) {
		tok[i] = (int32_t)(vocab * pow(kf_rng_real(r), 3));
		/* a token's length is nearly always its own */
		start[i + 1] = start[i] + (kf_rng_below(r, 50) ? 1 + (uint32_t)tok[i] % 7 : (uint32_t)kf_rng_below(r, 3));
	}
	if (n && kf_rng_below(r, 10) == 0)
		for (uint32_t i = 1; i <= n; i++) start[i] += 300;
	rec.head.bytes = start[n];
	for (size_t p = 0; p <= n; p++) {
		float x = -(float)(kf_rng_real(r) * kf_rng_real(r) * 4);

		for (uint32_t j = 0; j < k; j++) {
			ids[p * k + j] = (int32_t)(vocab * pow(kf_rng_real(r), 2));
			lp[p * k + j] = x;
			if (kf_rng_below(r, 8)) x -= (float)(kf_rng_real(r) * (kf_rng_below(r, 200) ? 1.5 : 400));
			if (kf_rng_below(r, 3000) == 0) x = -INFINITY;
		}
		if (p == n) break;
		if (kf_rng_below(r, 4)) {
			uint32_t j = (uint32_t)(k * pow(kf_rng_real(r), 4));

			tok[p] = ids[p * k + j];
			ce[p] = -lp[p * k + j] + (float)(kf_rng_real(r) - 0.5) * 1e-5f;
			if (ce[p] < 0) ce[p] = 0;
			if (kf_rng_below(r, 100) == 0) ce[p] = kf_rng_below(r, 2) ? INFINITY : ce[p] + 3;
		} else {
			ce[p] = (float)(-lp[p * k + k - 1] + kf_rng_real(r) * 6);
			if (kf_rng_below(r, 500) == 0) ce[p] = INFINITY;
		}
	}
	po[0] = xo[0] = 0;
	for (uint32_t i = 0; i < n; i++) po[i + 1] = po[i] + (start[i + 1] > start[i] ? start[i + 1] - start[i] - 1 : 0);
	nlm = KF_ARENA_NEW(a, float, po[n]);
	for (uint32_t i = 0; i < n; i++) {
		float x = ce[i];

		for (uint32_t j = po[i + 1]; j-- > po[i];) {
			x *= (float)kf_rng_real(r);
			nlm[j] = x;
		}
	}
	for (size_t p = 0; p <= n; p++) xo[p + 1] = xo[p] + (uint32_t)((bos || p) ? kf_rng_below(r, 3) * kf_rng_below(r, 3) : 0);
	xi = KF_ARENA_NEW(a, int32_t, xo[n + 1]);
	xl = KF_ARENA_NEW(a, float, xo[n + 1]);
	for (size_t p = 0; p <= n; p++) {
		float x = lp[p * k + k - 1];

		for (uint32_t j = xo[p]; j < xo[p + 1]; j++) {
			x -= (float)kf_rng_real(r) * 3;
			xi[j] = (int32_t)kf_rng_below(r, (uint64_t)vocab);
			xl[j] = x;
		}
	}
	if (!bos) {
		for (uint32_t j = 0; j < k; j++) {
			ids[j] = -1;
			lp[j] = -INFINITY;
		}
		if (n) {
			ce[0] = NAN;
			for (uint32_t j = 0; j < po[1]; j++) nlm[j] = NAN;
		}
	}
	rec.tokens = tok, rec.start = start, rec.ce = ce, rec.top_ids = ids, rec.top_lp = lp;
	if (path) rec.path_off = po, rec.path_nlm = nlm, rec.extra_off = xo, rec.extra_ids = xi, rec.extra_lp = xl;
	return rec;
}

static inline uint8_t *random_context(kf_rng *r, uint32_t n, bool bos, kf_arena *a)
{
	uint8_t *context = kf_arena_alloc(a, (size_t)n + 1, 1), now = !bos || kf_rng_below(r, 3);

	for (uint32_t p = 0; p <= n; p++) {
		context[p] = now;
		if (kf_rng_below(r, 6) == 0) now = !now;
	}
	return context;
}

/* Make a record a conversation's: some of its positions are context, without what they had. */
static inline void converse_logits(kf_rng *r, kf_logits_rec *rec, kf_arena *a)
{
	uint32_t n = rec->n, k = rec->k, *xo = (uint32_t *)(uintptr_t)rec->extra_off, kept = 0;
	int32_t *ids = (int32_t *)(uintptr_t)rec->top_ids;
	float *lp = (float *)(uintptr_t)rec->top_lp;

	rec->context = random_context(r, n, rec->bos, a);
	for (uint32_t p = 0; p <= n; p++) {
		for (uint32_t j = 0; rec->context[p] && j < k; j++) {
			ids[p * k + j] = -1;
			lp[p * k + j] = -INFINITY;
		}
		if (p == n || !rec->context[p]) continue;
		((float *)(uintptr_t)rec->ce)[p] = NAN;
		for (uint32_t j = rec->has_path ? rec->path_off[p] : 0; rec->has_path && j < rec->path_off[p + 1]; j++)
			((float *)(uintptr_t)rec->path_nlm)[j] = NAN;
	}
	for (uint32_t p = 0, from = 0, end; rec->has_path && p <= n; p++, from = end) {
		end = xo[p + 1];
		for (uint32_t j = from; j < end && !rec->context[p]; j++, kept++) {
			((int32_t *)(uintptr_t)rec->extra_ids)[kept] = rec->extra_ids[j];
			((float *)(uintptr_t)rec->extra_lp)[kept] = rec->extra_lp[j];
		}
		xo[p + 1] = kept;
	}
}

static inline void converse_dist(kf_rng *r, kf_dist_rec *rec, kf_arena *a)
{
	uint32_t *off = (uint32_t *)(uintptr_t)rec->off, kept = 0;

	rec->context = random_context(r, rec->n, rec->bos, a);
	for (uint32_t p = 0, from = 0, end; p <= rec->n; p++, from = end) {
		end = off[p + 1];
		for (uint32_t j = from; j < end && !rec->context[p]; j++, kept++) {
			((int32_t *)(uintptr_t)rec->ids)[kept] = rec->ids[j];
			((float *)(uintptr_t)rec->lp)[kept] = rec->lp[j];
		}
		off[p + 1] = kept;
		if (p < rec->n && rec->context[p]) ((float *)(uintptr_t)rec->ce)[p] = NAN;
	}
}

/* Turns that make up so many bytes. */
static inline void random_turns(kf_rng *r, kf_corpus_rec *rec, kf_arena *a)
{
	kf_turn *turns = KF_ARENA_NEW(a, kf_turn, 8);
	uint32_t left = rec->head.bytes;

	rec->n_turns = 1 + (uint32_t)kf_rng_below(r, 8);
	for (uint32_t i = 0; i < rec->n_turns; i++) {
		turns[i].bytes = i + 1 == rec->n_turns ? left : (uint32_t)kf_rng_below(r, left + 1ull);
		turns[i].role = (uint8_t)kf_rng_below(r, KF_ROLES);
		left -= turns[i].bytes;
	}
	rec->turns = turns;
}

static inline void same_head(const kf_dochead *a, const kf_dochead *b)
{
	assert_int_equal(a->doc, b->doc);
	assert_string_equal(a->id, b->id);
	assert_string_equal(a->domain, b->domain);
	assert_int_equal(a->piece, b->piece);
	assert_int_equal(a->bytes, b->bytes);
}

/* What another compiler's arithmetic may differ by, where records are made again instead of remembered. */
static double slack;

/* within tol; both NaN or equally infinite */
static inline void near(const float *a, const float *b, size_t n, double tol)
{
	tol += slack;
	for (size_t i = 0; i < n; i++) {
		bool same = a[i] != a[i] ? b[i] != b[i] : isinf(a[i]) ? a[i] == b[i] : fabs((double)a[i] - b[i]) <= tol;

		if (!same) fail_msg("value %zu: %.9g came back as %.9g", i, a[i], b[i]);
	}
}

#define SAME(x, y, n) do { if ((n) > 0) assert_memory_equal(x, y, (size_t)(n) * sizeof *(x)); } while (0)

static inline void same_corpus(const kf_corpus_rec *a, const kf_corpus_rec *b)
{
	same_head(&a->head, &b->head);
	SAME(a->text, b->text, a->head.bytes);
	assert_int_equal(a->n_turns, b->n_turns);
	for (uint32_t i = 0; i < a->n_turns; i++) {
		assert_int_equal(a->turns[i].role, b->turns[i].role);
		assert_int_equal(a->turns[i].bytes, b->turns[i].bytes);
	}
}

static inline void same_logits(const kf_logits_rec *a, const kf_logits_rec *b, bool f32)
{
	size_t n = a->n;

	same_head(&a->head, &b->head);
	assert_int_equal(a->n, b->n);
	assert_int_equal(a->k, b->k);
	assert_int_equal(a->bos, b->bos);
	assert_int_equal(a->has_path, b->has_path);
	SAME(a->tokens, b->tokens, n);
	SAME(a->start, b->start, n + 1);
	SAME(a->top_ids, b->top_ids, (n + 1) * a->k);
	assert_int_equal(a->context != NULL, b->context != NULL);
	if (a->context) SAME(a->context, b->context, n + 1);
	near(a->ce, b->ce, n, f32 ? 0 : 1 / 512.0 + 1e-6);
	near(a->top_lp, b->top_lp, (n + 1) * a->k, f32 ? 0 : 1 / 32.0);
	if (!a->has_path) return;
	SAME(a->path_off, b->path_off, n + 1);
	SAME(a->extra_off, b->extra_off, n + 2);
	SAME(a->extra_ids, b->extra_ids, (size_t)a->extra_off[n + 1]);
	near(a->path_nlm, b->path_nlm, a->path_off[n], f32 ? 0 : 1 / 512.0 + 1e-6);
	near(a->extra_lp, b->extra_lp, a->extra_off[n + 1], f32 ? 0 : 1 / 32.0);
}

static inline kf_dist_rec random_dist(kf_rng *r, uint64_t doc, uint32_t n, bool weighted, kf_arena *a)
{
	kf_dist_rec rec = { .head = random_head(r, doc, a), .bos = kf_rng_below(r, 2), .n = n, .source_tokens = (uint32_t)kf_rng_below(r, 3) * n };
	int32_t *tok = KF_ARENA_NEW(a, int32_t, n), *ids = KF_ARENA_NEW(a, int32_t, (size_t)(n + 1) * 24);
	uint32_t *start = KF_ARENA_NEW(a, uint32_t, n + 1), *off = KF_ARENA_NEW(a, uint32_t, n + 2);
	float *ce = KF_ARENA_NEW(a, float, n), *lp = KF_ARENA_NEW(a, float, (size_t)(n + 1) * 24), *w = KF_ARENA_NEW(a, float, n + 1);

	start[0] = off[0] = 0;
	for (uint32_t i = 0; i < n; i++) {
		tok[i] = (int32_t)kf_rng_below(r, 49152);
		start[i + 1] = start[i] + (uint32_t)kf_rng_below(r, 9);
		ce[i] = kf_rng_below(r, 10) ? (float)(kf_rng_real(r) * 12) : NAN;
	}
	rec.head.bytes = start[n];
	for (size_t p = 0; p <= n; p++) {
		uint32_t m = kf_rng_below(r, 12) ? (uint32_t)kf_rng_below(r, 24) : 0;
		double left = 1, q[24];

		/* a third of the positions have nothing left over: their sums are where rounding matters */
		for (uint32_t j = 0; j < m; j++) {
			q[j] = kf_rng_below(r, 3) == 0 && j + 1 == m ? left : left * kf_rng_real(r);
			left -= q[j];
		}
		for (uint32_t j = 0; j < m; j++)
			for (uint32_t i = j + 1; i < m; i++)
				if (q[i] > q[j]) {
					double t = q[i];
					q[i] = q[j];
					q[j] = t;
				}
		off[p + 1] = off[p] + m;
		for (uint32_t j = 0; j < m; j++) {
			ids[off[p] + j] = (int32_t)kf_rng_below(r, 49152);
			lp[off[p] + j] = (float)log(q[j]);
		}
		w[p] = (float)kf_rng_real(r);
		if (kf_rng_below(r, 3) == 0) w[p] = (float)kf_rng_below(r, 2);
	}
	rec.tokens = tok, rec.start = start, rec.ce = ce, rec.off = off, rec.ids = ids, rec.lp = lp;
	rec.weight = weighted ? w : NULL;
	return rec;
}

static inline void same_dist(const kf_dist_rec *a, const kf_dist_rec *b, bool f32)
{
	size_t n = a->n;

	same_head(&a->head, &b->head);
	assert_int_equal(a->n, b->n);
	assert_int_equal(a->bos, b->bos);
	assert_int_equal(a->source_tokens, b->source_tokens);
	SAME(a->tokens, b->tokens, n);
	SAME(a->start, b->start, n + 1);
	SAME(a->off, b->off, n + 2);
	SAME(a->ids, b->ids, (size_t)a->off[n + 1]);
	near(a->ce, b->ce, n, f32 ? 0 : 1 / 512.0 + 1e-6);
	assert_int_equal(a->context != NULL, b->context != NULL);
	if (a->context) SAME(a->context, b->context, n + 1);
	near(a->lp, b->lp, a->off[n + 1], f32 ? 0 : 1 / 32.0 + 1e-5);
	assert_int_equal(a->weight != NULL, b->weight != NULL);
	if (a->weight) near(a->weight, b->weight, n + 1, f32 ? 0 : 1 / 510.0 + 1e-6);
	for (size_t p = 0; p <= n; p++) {
		double sum = 0;

		for (uint32_t j = b->off[p]; j < b->off[p + 1]; j++) sum += exp(b->lp[j]);
		if (b->off[p] == b->off[p + 1]) {
			assert_true(isnan(b->tail[p]));
			continue;
		}
		if (!f32 && sum > 1) fail_msg("position %zu sums to %.9g", p, sum);
		assert_true(b->tail[p] >= 0);
		if (fabs(b->tail[p] - (1 - sum)) > 1e-5) fail_msg("position %zu: tail %g, sum %g", p, b->tail[p], sum);
	}
}

#endif
