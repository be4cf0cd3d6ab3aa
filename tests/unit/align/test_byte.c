/* The byte path: hand-worked partitions, and random ones against the definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/store/sparse.h"
#include "synth.h"

/* ---- by hand ---------------------------------------------------------------
 * Source vocabulary: a b c ab abc bc <eos>   ids 0..6
 * Target vocabulary: a b c bc <eos>          ids 0..4
 * so the prefix map sends a ab abc to a (0), b to b (1), bc to bc (3). */

enum { SA, SB, SC, SAB, SABC, SBC, SEOS };
enum { TA, TB, TC, TBC, TEOS };

typedef struct {
	kf_tokenizer *src, *tgt;
	kf_aligner *al;
	kf_arena arena;
} fixture;

static int setup(void **state)
{
	static const char *const ms[] = { "a b", "ab c", "b c" }, *const mt[] = { "b c" };
	fixture *f = calloc(1, sizeof *f);
	kf_err err;

	f->src = synth_bpe("abc", ms, 3, true);
	f->tgt = synth_bpe("abc", mt, 1, true);
	kf_arena_init(&f->arena);
	*state = f;
	return kf_aligner_new(f->src, f->tgt, KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &f->al, &err) != KF_OK;
}

static int teardown(void **state)
{
	fixture *f = *state;

	kf_aligner_free(f->al);
	kf_tokenizer_free(f->src);
	kf_tokenizer_free(f->tgt);
	kf_arena_release(&f->arena);
	free(f);
	return 0;
}

/* q of a token at a position; 0 where it has none */
static double q_of(const kf_dist_rec *r, uint32_t p, int32_t id)
{
	for (uint32_t j = r->off[p]; j < r->off[p + 1]; j++)
		if (r->ids[j] == id) return exp(r->lp[j]);
	return 0;
}

static void near(double a, double b)
{
	if (!(fabs(a - b) < 1e-5)) fail_msg("%.7f is not %.7f", a, b);
}

static kf_dist_rec align(fixture *f, const kf_logits_rec *s, const kf_logits_rec *t)
{
	kf_dist_rec out;
	kf_err err = { 0 };

	if (kf_align_doc(f->al, s, t, &f->arena, &out, NULL, &err) != KF_OK) fail_msg("%s", err.text);
	return out;
}

#define L(x) ((float)log(x))
#define N(x) ((float)-log(x))

/* Target: text "abc" cut a|bc. */
static const int32_t abc_tok[] = { TA, TBC };
static const uint32_t abc_start[] = { 0, 1, 3 };
static const kf_logits_rec abc_target = { .head = { .doc = 1, .id = "", .domain = "", .bytes = 3 }, .bos = true, .n = 2,
	.tokens = abc_tok, .start = abc_start };

/* Source: one token abc. At its position abc .5, ab .2 stored, a .1 not, so M(1) = .8, M(2) = .7.
 * p = 0  s = u = 0, e = 1 < v = 3: abc and ab go to a, .7; the label a also gets P(1)/P(0) - .7 = .1
 * p = 1  s = 1 inside, M = .8: abc leaves bc .5/.8, ab leaves b .2/.8; e = v, t stored: nothing more
 * p = 2  after the text: <eos> .6 to <eos>, c .3 to c */
static void inside_and_end(void **state)
{
	static const int32_t tok[] = { SABC }, ids[] = { SABC, SAB, SEOS, SC };
	static const uint32_t start[] = { 0, 3 }, path_off[] = { 0, 2 }, xoff[] = { 0, 0, 0 };
	const float ce[] = { N(.5) }, lp[] = { L(.5), L(.2), L(.6), L(.3) }, nlm[] = { N(.8), N(.7) };
	kf_logits_rec s = { .head = abc_target.head, .bos = true, .n = 1, .k = 2, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp, .has_path = true, .path_off = path_off, .path_nlm = nlm, .extra_off = xoff };
	kf_dist_rec r = align(*state, &s, &abc_target);

	near(r.ce[0], -log(.8));
	near(r.ce[1], -log(.5 / .8));
	near(q_of(&r, 0, TA), .8);
	near(r.tail[0], .2);
	assert_int_equal(r.off[1] - r.off[0], 1);
	near(q_of(&r, 1, TBC), .625);
	near(q_of(&r, 1, TB), .25);
	near(r.tail[1], .125);
	near(q_of(&r, 2, TEOS), .6);
	near(q_of(&r, 2, TC), .3);
	near(r.tail[2], .1);
	assert_int_equal(r.ids[r.off[1]], TBC); /* best first */
	assert_int_equal(r.source_tokens, 1);
}

/* Source: ab|c. First position ab .4, abc .3 stored, M(1) = .9; second c .5.
 * p = 0  a gets .4 + .3, and .9 - .7 = .2
 * p = 1  s = 1 inside ab, e = 3 > v = 2: R = P(3)/P(1) = .4 * .5 / .9 = .2/.9 to the label bc;
 *        ab leaves b: .4/.9 - R = .2/.9; abc leaves bc: .3/.9. An <eos> among the candidates is tail. */
static void past_the_token(void **state)
{
	static const int32_t tok[] = { SAB, SC }, ids[] = { SAB, SABC, SEOS, SC, SEOS, SA, SEOS, SA, SB };
	static const uint32_t start[] = { 0, 2, 3 }, path_off[] = { 0, 1, 1 }, xoff[] = { 0, 0, 0, 0 };
	const float ce[] = { N(.4), N(.5) }, lp[] = { L(.4), L(.3), L(.05), L(.5), L(.2), L(.1), L(.9), L(.05), L(.01) };
	const float nlm[] = { N(.9) };
	kf_logits_rec s = { .head = abc_target.head, .bos = true, .n = 2, .k = 3, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp, .has_path = true, .path_off = path_off, .path_nlm = nlm, .extra_off = xoff };
	kf_dist_rec r = align(*state, &s, &abc_target);

	near(q_of(&r, 0, TA), .9);
	near(q_of(&r, 0, TEOS), 0);
	near(r.ce[1], -log(.2 / .9));
	near(q_of(&r, 1, TBC), .5 / .9);
	near(q_of(&r, 1, TB), .2 / .9);
	near(r.tail[1], .2 / .9);
	near(q_of(&r, 2, TEOS), .9);
	near(r.tail[2], .04);
}

/* The label's source token is not stored, a candidate equals text[u..s): abc has .1, stored ab .3, a .2; M(1) = .65.
 * p = 1: ab leaves b .3/.65; a is spent: tail; e = v: abc's .1/.65 to bc. Extra candidates count like the others. */
static void not_stored(void **state)
{
	static const int32_t tok[] = { SABC }, ids[] = { SAB, SEOS }, xid[] = { SA };
	static const uint32_t start[] = { 0, 3 }, path_off[] = { 0, 2 }, xoff[] = { 0, 1, 1 };
	const float ce[] = { N(.1) }, lp[] = { L(.3), L(.6) }, nlm[] = { N(.65), N(.45) }, xlp[] = { L(.2) };
	kf_logits_rec s = { .head = abc_target.head, .bos = true, .n = 1, .k = 1, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp, .has_path = true, .path_off = path_off, .path_nlm = nlm, .extra_off = xoff,
		.extra_ids = xid, .extra_lp = xlp };
	kf_dist_rec r = align(*state, &s, &abc_target);

	near(q_of(&r, 0, TA), .65);    /* .3 + .2, and .65 - .5 */
	near(q_of(&r, 1, TB), .3 / .65);
	near(q_of(&r, 1, TBC), .1 / .65);
	near(r.tail[1], .25 / .65);
}

/* Stored values that sum above 1 (quantised) are scaled down. */
static void above_one(void **state)
{
	static const int32_t tok[] = { SAB, SC }, ids[] = { SAB, SC, SC, SA, SEOS, SA };
	static const uint32_t start[] = { 0, 2, 3 }, path_off[] = { 0, 1, 1 }, xoff[] = { 0, 0, 0, 0 };
	const float ce[] = { N(.7), N(.5) }, lp[] = { L(.71), L(.35), L(.5), L(.2), L(.9), L(.05) }, nlm[] = { N(.7) };
	kf_logits_rec s = { .head = abc_target.head, .bos = true, .n = 2, .k = 2, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp, .has_path = true, .path_off = path_off, .path_nlm = nlm, .extra_off = xoff };
	kf_dist_rec r = align(*state, &s, &abc_target);

	near(q_of(&r, 0, TA), .7 / 1.05);  /* ab's own from ce, .7 */
	near(q_of(&r, 0, TC), .35 / 1.05);
	assert_true(q_of(&r, 0, TA) + q_of(&r, 0, TC) <= 1);
	near(r.tail[0], 0);
}

/* Without a BOS the source says nothing before its second token: text "abab", ab|ab, target a|b|a|b.
 * A target without BOS keeps ce at 0 but no distribution. */
static void no_bos(void **state)
{
	static const int32_t tok[] = { SAB, SAB }, ids[] = { -1, SAB, SEOS }, tt[] = { TA, TB, TA, TB };
	static const uint32_t start[] = { 0, 2, 4 }, path_off[] = { 0, 1, 2 }, xoff[] = { 0, 0, 0, 0 }, ts[] = { 0, 1, 2, 3, 4 };
	const float ce[] = { NAN, N(.5) }, lp[] = { -INFINITY, L(.5), L(.9) }, nlm[] = { 0, N(.7) };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "", .bytes = 4 };
	kf_logits_rec s = { .head = head, .bos = false, .n = 2, .k = 1, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp, .has_path = true, .path_off = path_off, .path_nlm = nlm, .extra_off = xoff };
	kf_logits_rec t = { .head = head, .bos = true, .n = 4, .tokens = tt, .start = ts };
	kf_dist_rec r = align(*state, &s, &t);

	assert_true(isnan(r.ce[0]) && isnan(r.ce[1]));
	assert_int_equal(r.off[2], 0);
	assert_true(isnan(r.tail[0]) && isnan(r.tail[1]));
	near(r.ce[2] + r.ce[3], -log(.5));
	near(q_of(&r, 2, TA), .7);
	near(q_of(&r, 3, TB), .5 / .7);
	assert_int_equal(r.source_tokens, 1);

	const float ce1[] = { N(.3), N(.5) }, lp1[] = { L(.3), L(.5), L(.9) }, nlm1[] = { N(.6), N(.7) };
	static const int32_t ids1[] = { SAB, SAB, SEOS };
	s.bos = true;
	s.ce = ce1;
	s.top_lp = lp1;
	s.top_ids = ids1;
	s.path_nlm = nlm1;
	t.bos = false;
	r = align(*state, &s, &t);
	near(r.ce[0], -log(.6));
	assert_int_equal(r.off[1], 0);
	near(q_of(&r, 1, TB), .5);
}

/* ---- the definition, over whole distributions ------------------------------- */

typedef struct { double q[SYNTH_MAX], tail; bool has; } reference;

/* The token of m that begins last at or before byte x: n at the end. */
static uint32_t cover(const kf_logits_rec *m, uint32_t x)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i <= m->n; i++)
		if (m->start[i] <= x) at = i;
	return at;
}

/* P(x) from the model's whole distributions, no stored masses */
static double prob(const synth_model *m, uint32_t x)
{
	uint32_t at = cover(&m->rec, x);
	double p = 1;

	for (uint32_t i = 0; i < at; i++)
		if (i > 0 || m->rec.bos) p *= m->dist[(size_t)i * kf_tokenizer_size(m->tok) + m->rec.tokens[i]];
	if (x > m->rec.start[at]) p *= synth_mass(m, at, m->text + m->rec.start[at], x - m->rec.start[at]);
	return p;
}

/* A random vocabulary map; what is spelled alike is itself. */
static kf_vocabmap *random_map(const kf_tokenizer *st, const kf_tokenizer *tt, kf_rng *rng)
{
	kf_vocabmap_key key = { .method = "mined", .n = kf_tokenizer_size(st), .m = kf_tokenizer_size(tt) };
	kf_vocabmap *map;
	kf_err err;

	assert_int_equal(kf_vocabmap_new(&key, "", "", &map, &err), KF_OK);
	for (int32_t i = 0; i < key.n; i++) {
		map->to[i] = (int32_t)kf_rng_below(rng, (uint64_t)key.m + 1) - 1;
		for (int32_t j = key.m - 1; j >= 0; j--)
			if (strcmp(kf_tokenizer_piece(st, i), kf_tokenizer_piece(tt, j)) == 0) map->to[i] = j;
	}
	return map;
}

/* map: what whole tokens become; NULL: the first token of their bytes. */
static reference define(const synth_model *m, const kf_tokenizer *tt, const kf_logits_rec *t, uint32_t p, const kf_vocabmap *map)
{
	reference r = { .has = false };
	const kf_logits_rec *s = &m->rec;
	int32_t v = kf_tokenizer_size(m->tok), stored[SYNTH_MAX], n = 0, label = p < t->n ? t->tokens[p] : -1;
	uint32_t at = t->start[p], i = cover(s, at), u = s->start[i];
	double mass = at > u ? synth_mass(m, i, m->text + u, at - u) : 1, sum = 0, back = 0;
	const double *d = m->dist + (size_t)i * v;

	if ((i == 0 && !s->bos) || (p == 0 && !t->bos)) return r;
	for (uint32_t j = 0; j < s->k; j++) stored[n++] = s->top_ids[(size_t)i * s->k + j];
	for (uint32_t j = s->extra_off[i]; j < s->extra_off[i + 1]; j++) stored[n++] = s->extra_ids[j];

	if (p < t->n) {
		uint32_t e = t->start[p + 1], end = s->start[i + 1];
		double ratio = prob(m, e) / prob(m, at), begin = 0;
		bool has = false;

		for (int j = 0; j < n; j++) {
			uint32_t len;
			const uint8_t *b = kf_tokenizer_bytes(m->tok, stored[j], &len);

			if (len >= e - u && e < end && memcmp(b, m->text + u, e - u) == 0) begin += d[stored[j]] / mass;
			has |= stored[j] == s->tokens[i];
		}
		if (e < end) r.q[label] += fmax(0, ratio - begin);
		else if (e == end) r.q[label] += has ? 0 : d[s->tokens[i]] / mass;
		else {
			r.q[label] += ratio;
			back = ratio;
		}
	}
	for (int j = 0; j < n; j++) {
		uint32_t len;
		const uint8_t *b = kf_tokenizer_bytes(m->tok, stored[j], &len);
		double share = d[stored[j]] / mass;
		int32_t to = -1;

		if (kf_tokenizer_is_control(m->tok, stored[j])) {
			if (p == t->n && stored[j] == kf_tokenizer_eos(m->tok)) to = kf_tokenizer_eos(tt);
		} else if (len > at - u && memcmp(b, m->text + u, at - u) == 0) {
			to = map && at == u ? map->to[stored[j]] : kf_tokenizer_first(tt, b + (at - u), len - (at - u));
		}
		if (i < s->n && stored[j] == s->tokens[i]) share = fmax(0, share - back);
		if (to >= 0) r.q[to] += share;
	}
	for (int32_t id = 0; id < kf_tokenizer_size(tt); id++) {
		if (r.q[id] < KF_SPARSE_MIN && id != label) r.q[id] = 0;
		sum += r.q[id];
		r.has |= r.q[id] > 0;
	}
	r.tail = 1 - sum;
	assert_true(sum < 1 + 1e-9);
	return r;
}

/* Random merges over abcd; the k-th may join any two earlier pieces. */
static kf_tokenizer *random_bpe(kf_rng *rng, int merges, bool bos)
{
	static char text[SYNTH_MAX][40];
	const char *list[SYNTH_MAX];
	char piece[SYNTH_MAX][20];
	int n = 4, made = 0;

	for (int i = 0; i < 4; i++) snprintf(piece[i], 20, "%c", 'a' + i);
	while (made < merges) {
		const char *a = piece[kf_rng_below(rng, (uint64_t)n)], *b = piece[kf_rng_below(rng, (uint64_t)n)];
		bool seen = false;
		char both[40];

		if (strlen(a) + strlen(b) > 6) continue;
		snprintf(both, sizeof both, "%s%s", a, b);
		for (int i = 0; i < n; i++) seen |= strcmp(piece[i], both) == 0;
		if (seen) continue;
		snprintf(text[made], sizeof text[made], "%s %s", a, b);
		list[made] = text[made];
		made++;
		snprintf(piece[n++], 20, "%.19s", both);
	}
	return synth_bpe("abcd", list, merges, bos);
}

static void against_definition(void **state)
{
	kf_rng rng;
	kf_arena arena;
	int inside = 0, shorter = 0, same = 0, longer = 0;

	(void)state;
	kf_rng_seed(&rng, 20261122);
	kf_arena_init(&arena);
	for (int round = 0; round < 400; round++) {
		bool sb = kf_rng_below(&rng, 4) > 0, tb = kf_rng_below(&rng, 4) > 0;
		kf_tokenizer *st = random_bpe(&rng, 5 + (int)kf_rng_below(&rng, 30), sb);
		kf_tokenizer *tt = random_bpe(&rng, 5 + (int)kf_rng_below(&rng, 30), tb);
		uint32_t bytes = 1 + (uint32_t)kf_rng_below(&rng, 60);
		uint8_t *text = KF_ARENA_NEW(&arena, uint8_t, bytes);
		kf_aligner *al;
		kf_err err = { 0 };
		kf_dist_rec out;
		double sum = 0, own = 0;

		for (uint32_t i = 0; i < bytes; i++) text[i] = (uint8_t)('a' + kf_rng_below(&rng, 4));
		synth_model s = synth_run(st, text, bytes, 1 + (uint32_t)kf_rng_below(&rng, 8), sb, &rng, &arena);
		synth_model t = synth_run(tt, text, bytes, 1, tb, &rng, &arena);
		kf_vocabmap *map = round % 3 ? NULL : random_map(st, tt, &rng);
		assert_int_equal(kf_aligner_new(st, tt, KF_ALIGN_BYTE, map ? KF_ALIGN_MINED : KF_ALIGN_PREFIX, &al, &err), KF_OK);
		if (map) assert_int_equal(kf_aligner_use_map(al, map, &err), KF_OK);
		if (kf_align_doc(al, &s.rec, &t.rec, &arena, &out, NULL, &err) != KF_OK) fail_msg("%s", err.text);

		for (uint32_t p = 0; p <= t.rec.n; p++) {
			reference r = define(&s, tt, &t.rec, p, map);
			double q = 0;

			if (!r.has) {
				assert_int_equal(out.off[p], out.off[p + 1]);
				assert_true(isnan(out.tail[p]));
			}
			for (uint32_t j = out.off[p]; j < out.off[p + 1]; j++) {
				near(exp(out.lp[j]), r.q[out.ids[j]]);
				r.q[out.ids[j]] = 0;
				q += exp((double)out.lp[j]);
				assert_true(j == out.off[p] || out.lp[j] <= out.lp[j - 1]);
			}
			for (int32_t id = 0; id < SYNTH_MAX; id++) assert_true(r.q[id] < 1e-5);
			assert_true(q <= 1);
			if (r.has) near(out.tail[p], r.tail);
		}
		/* ce by definition, and its sum: the source's own likelihood of the covered bytes */
		uint32_t first = sb ? 0 : s.rec.start[1], begin = bytes;
		for (uint32_t p = 0; p < t.rec.n; p++) {
			uint32_t a = t.rec.start[p], e = t.rec.start[p + 1], i = cover(&s.rec, a);

			if (a < first) {
				assert_true(isnan(out.ce[p]));
				continue;
			}
			near(out.ce[p], -log(prob(&s, e) / prob(&s, a)));
			sum += out.ce[p];
			if (a < begin) begin = a;
			inside += a > s.rec.start[i];
			shorter += e < s.rec.start[i + 1];
			same += e == s.rec.start[i + 1];
			longer += e > s.rec.start[i + 1];
		}
		for (uint32_t i = !sb; i < s.rec.n; i++) own += s.rec.ce[i];
		own += log(prob(&s, begin));
		if (fabs(sum - own) > 1e-4) fail_msg("sum of ce %.6f, the source's own %.6f", sum, own);
		kf_aligner_free(al);
		kf_vocabmap_free(map);
		kf_tokenizer_free(st);
		kf_tokenizer_free(tt);
		kf_arena_reset(&arena);
	}
	/* every case must have occurred often */
	assert_true(inside > 500 && shorter > 500 && same > 500 && longer > 500);
	kf_arena_release(&arena);
}

/* ---- dummy prefixes ------------------------------------------------------------ */

static void dummy_prefix(void **state)
{
	static const char *const pieces[] = { "\xe2\x96\x81""a", "\xe2\x96\x81""ab", "ab", "bc" };
	static const char *const merges[] = { "a b", "b c" };
	kf_rng rng;
	kf_arena arena;
	kf_err err = { 0 };

	(void)state;
	kf_rng_seed(&rng, 5);
	kf_arena_init(&arena);
	kf_tokenizer *tok[3] = { synth_spm("abc", pieces, 4, true), synth_spm("abc", pieces, 4, false), synth_bpe("abc", merges, 2, true) };
	for (int round = 0; round < 300; round++) {
		int a = round % 3, b = round / 3 % 3;
		uint8_t text[16];
		uint32_t bytes = 1 + (uint32_t)kf_rng_below(&rng, 12);
		kf_aligner *al;
		kf_dist_rec out;
		double sum = 0, own = 0;

		for (uint32_t i = 0; i < bytes; i++) text[i] = (uint8_t)('a' + kf_rng_below(&rng, 3));
		synth_model s = synth_run(tok[a], text, bytes, 4, true, &rng, &arena), t = synth_run(tok[b], text, bytes, 1, true, &rng, &arena);
		assert_int_equal(kf_aligner_new(tok[a], tok[b], KF_ALIGN_BYTE, KF_ALIGN_PREFIX, &al, &err), KF_OK);
		if (kf_align_doc(al, &s.rec, &t.rec, &arena, &out, NULL, &err) != KF_OK) fail_msg("%s", err.text);
		for (uint32_t p = 0; p < t.rec.n; p++) {
			double q = 0;

			sum += out.ce[p];
			assert_true(out.ce[p] >= 0);
			for (uint32_t j = out.off[p]; j < out.off[p + 1]; j++) q += exp((double)out.lp[j]);
			assert_true(q <= 1);
			/* a tokenizer aligned with itself: its own candidates as they are */
			if (a == b) {
				near(out.ce[p], s.rec.ce[p]);
				near(q_of(&out, p, s.rec.tokens[p]), exp(-s.rec.ce[p]));
			}
		}
		for (uint32_t i = 0; i < s.rec.n; i++) own += s.rec.ce[i];
		if (fabs(sum - own) > 1e-4) fail_msg("sum of ce %.6f, the source's own %.6f", sum, own);
		kf_aligner_free(al);
		kf_arena_reset(&arena);
	}
	for (int i = 0; i < 3; i++) kf_tokenizer_free(tok[i]);
	kf_arena_release(&arena);
}

/* ---- refusals -------------------------------------------------------------------- */

static void refuses(void **state)
{
	fixture *f = *state;
	static const int32_t tok[] = { SABC }, ids[] = { SABC, SEOS };
	static const uint32_t start[] = { 0, 3 }, path_off[] = { 0, 2 }, xoff[] = { 0, 0, 0 }, short_path[] = { 0, 1 };
	float ce[] = { N(.5) }, lp[] = { L(.5), L(.6) }, nlm[] = { N(.8), N(.7) };
	kf_logits_rec s = { .head = abc_target.head, .bos = true, .n = 1, .k = 1, .tokens = tok, .start = start, .ce = ce,
		.top_ids = ids, .top_lp = lp, .has_path = true, .path_off = path_off, .path_nlm = nlm, .extra_off = xoff }, x;
	kf_dist_rec r;
	kf_err err = { 0 };

	x = s;
	x.head.bytes = 4;
	assert_int_equal(kf_align_doc(f->al, &x, &abc_target, &f->arena, &r, NULL, &err), KF_EMISMATCH);
	x = s;
	x.head.doc = 9;
	assert_int_equal(kf_align_doc(f->al, &x, &abc_target, &f->arena, &r, NULL, &err), KF_EMISMATCH);
	x = s;
	x.head.piece = 1;
	assert_int_equal(kf_align_doc(f->al, &x, &abc_target, &f->arena, &r, NULL, &err), KF_EMISMATCH);
	x = s;
	x.path_off = short_path;
	assert_int_equal(kf_align_doc(f->al, &x, &abc_target, &f->arena, &r, NULL, &err), KF_EDATA);
	ce[0] = NAN;
	assert_int_equal(kf_align_doc(f->al, &s, &abc_target, &f->arena, &r, NULL, &err), KF_EDATA);
}

/* An empty document has one position, the end. */
static void empty(void **state)
{
	static const int32_t ids[] = { SEOS };
	static const uint32_t start[] = { 0 }, off[] = { 0 }, xoff[] = { 0, 0 };
	const float lp[] = { L(.25) };
	const kf_dochead head = { .doc = 1, .id = "", .domain = "" };
	kf_logits_rec s = { .head = head, .bos = true, .k = 1, .start = start, .top_ids = ids, .top_lp = lp, .has_path = true,
		.path_off = off, .extra_off = xoff };
	kf_logits_rec t = { .head = head, .bos = true, .start = start };
	kf_dist_rec r = align(*state, &s, &t);

	assert_int_equal(r.n, 0);
	near(q_of(&r, 0, TEOS), .25);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(inside_and_end, setup, teardown),
		cmocka_unit_test_setup_teardown(past_the_token, setup, teardown),
		cmocka_unit_test_setup_teardown(not_stored, setup, teardown),
		cmocka_unit_test_setup_teardown(above_one, setup, teardown),
		cmocka_unit_test_setup_teardown(no_bos, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(empty, setup, teardown),
		cmocka_unit_test(against_definition),
		cmocka_unit_test(dummy_prefix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
